//! Keys of `[upstream.NAME]` and `[[listener]]`.

use super::{DURATION, Key, Kind, Section, Word, Zero};

/// `[upstream.NAME]`.
pub(super) static UPSTREAM: Section = Section {
    id: "upstream",
    title: "[upstream.NAME]",
    about: "A group of servers behind the proxy.",
    groups: &[&[
        Key::required(
            "servers",
            Kind::List(&Kind::Either(&[Kind::Text, Kind::Table(&UPSTREAM_SERVER)])),
            "`\"http://host:port\"`, `\"https://host\"` or `\"unix:/path\"`, each alone or as `{ url }`",
        ),
        Key::default(
            "protocol",
            Kind::Word(&[
                Word::new("http1"),
                Word::new("h2"),
                Word::new("h2c"),
                Word::new("auto"),
            ]),
            "\"http1\"",
            "what is spoken to the servers: HTTP/1.1, HTTP/2 over TLS, HTTP/2 in clear text, or what each `https` server chooses (HTTP/1.1 with the others)",
        ),
        Key::default(
            "balance",
            Kind::Either(&[
                Kind::Word(&[Word::new("round_robin"), Word::new("least_connections")]),
                Kind::Table(&BALANCE),
            ]),
            "\"round_robin\"",
            "which server is next",
        ),
        Key::optional(
            "eject",
            Kind::Table(&EJECT),
            "when a failing server is left out",
        ),
        Key::optional(
            "slow_start",
            DURATION,
            "how long a returning server gets fewer requests",
        ),
        Key::default(
            "connect_timeout",
            DURATION,
            "\"5s\"",
            "to connect, TLS included",
        ),
        Key::default(
            "response_timeout",
            DURATION,
            "\"60s\"",
            "to the head of the response",
        ),
        Key::default(
            "idle_connections",
            Kind::Integer(0, 100_000),
            "64",
            "idle connections kept, all workers together",
        ),
        Key::default(
            "retries",
            Kind::Integer(0, 10),
            "1",
            "tries after the first, where a retry is safe",
        ),
        Key::optional(
            "max_connections",
            Kind::Integer(1, 1_000_000),
            "requests and tunnels at a time at each server, all workers together",
        ),
        Key::optional(
            "queue",
            Kind::Integer(0, 1_000_000),
            "requests that wait while all servers are full, `connect_timeout` at most; as many as `max_connections` unless written",
        ),
        Key::optional(
            "health",
            Kind::Table(&HEALTH),
            "requests that ask whether a server lives",
        ),
        Key::optional(
            "tls",
            Kind::Table(&UPSTREAM_TLS),
            "TLS settings of `https` servers",
        ),
        Key::optional(
            "proxy_protocol",
            Kind::Word(&[Word::new("v1"), Word::new("v2")]),
            "tell the servers the client's address before the first byte; each request has a connection of its own then",
        ),
    ]],
};

static UPSTREAM_SERVER: Section = Section {
    id: "upstream_server",
    title: "a table in `servers`",
    about: "One server with settings of its own.",
    groups: &[&[
        Key::required("url", Kind::Text, "where it is"),
        Key::default("weight", Kind::Integer(1, 1000), "1", "its share"),
        Key::default(
            "backup",
            Kind::Boolean,
            "false",
            "used only when the others are down",
        ),
    ]],
};

static BALANCE: Section = Section {
    id: "balance",
    title: "a table in `balance`",
    about: "The same client to the same server: one of the two.",
    groups: &[&[
        Key::optional(
            "hash",
            Kind::Text,
            "by `\"client\"` (its address), `\"header.NAME\"` or `\"cookie.NAME\"`; a request without it goes by turns",
        ),
        Key::optional(
            "cookie",
            Kind::Text,
            "by a cookie of this name, which is set for those that have none",
        ),
    ]],
};

static EJECT: Section = Section {
    id: "eject",
    title: "[upstream.NAME.eject]",
    about: "When a failing server is left out.",
    groups: &[&[
        Key::default(
            "failures",
            Kind::Integer(1, 10_000),
            "5",
            "failures in a row",
        ),
        Key::default("for", DURATION, "\"10s\"", "how long it is left out"),
    ]],
};

static HEALTH: Section = Section {
    id: "health",
    title: "[upstream.NAME.health]",
    about: "Requests that ask whether a server lives.",
    groups: &[&[
        Key::required("path", Kind::Text, "what is asked for"),
        Key::default("interval", DURATION, "\"5s\"", "how often"),
        Key::default(
            "timeout",
            DURATION,
            "\"2s\"",
            "how long an answer may take; not longer than `interval`",
        ),
        Key::default(
            "rise",
            Kind::Integer(1, 100),
            "2",
            "good answers in a row (2xx, 3xx) that bring a server back",
        ),
        Key::default(
            "fall",
            Kind::Integer(1, 100),
            "3",
            "bad answers in a row that take it out",
        ),
    ]],
};

static UPSTREAM_TLS: Section = Section {
    id: "upstream_tls",
    title: "[upstream.NAME.tls]",
    about: "What the certificate of an `https` server must prove, and how we show who we are.",
    groups: &[&[
        Key::optional(
            "ca",
            Kind::File,
            "certificate authorities to trust, instead of the system's",
        ),
        Key::optional(
            "server_name",
            Kind::Text,
            "the name that the certificate must have, instead of the host in the URL",
        ),
        Key::optional("cert", Kind::File, "our own certificate"),
        Key::optional("key", Kind::File, "its key"),
    ]],
};

/// `[[listener]]`.
pub(super) static LISTENER: Section = Section {
    id: "listener",
    title: "[[listener]]",
    about: "A socket to listen on.",
    groups: &[&[
        Key::required(
            "address",
            Kind::Text,
            "an address and a port, such as `\"0.0.0.0:443\"` or `\"[::]:443\"`",
        ),
        Key::optional(
            "tls",
            Kind::Table(&LISTENER_TLS),
            "TLS; clear text unless written",
        ),
        Key::default(
            "proxy_protocol",
            Kind::Word(&[Word::new("off"), Word::new("required")]),
            "\"off\"",
            "a PROXY protocol header opens each connection, believed only from trusted proxies",
        ),
        Key::default(
            "redirect_https",
            Kind::Boolean,
            "false",
            "answer every request with a redirect to its https form",
        ),
        Key::default(
            "h2c",
            Kind::Boolean,
            "false",
            "without `tls`, clients may speak HTTP/2 as well, as some balancers do",
        ),
        Key::default("http3", Kind::Boolean, "false", "HTTP/3 on the same port").not_yet("HTTP/3"),
        Key::default("reuseport", Kind::Boolean, "false", "one socket per worker"),
    ]],
};

static LISTENER_TLS: Section = Section {
    id: "listener_tls",
    title: "[listener.tls]",
    about: "Certificates, and whether clients show theirs.",
    groups: &[&[
        Key::optional(
            "certificates",
            Kind::Tables(&CERTIFICATE),
            "certificates, chosen by the name the client asks for",
        ),
        Key::optional(
            "acme",
            Kind::Table(&ACME),
            "certificates from an ACME authority, for every host of a site that `certificates` do not cover",
        )
        .with("acme", cfg!(feature = "acme")),
        Key::optional(
            "client_ca",
            Kind::File,
            "authorities of client certificates",
        ),
        Key::default(
            "client_certificate",
            Kind::Word(&[
                Word::new("off"),
                Word::new("optional"),
                Word::new("required"),
            ]),
            "\"off\"",
            "whether clients show a certificate",
        ),
        Key::optional("crl", Kind::File, "client certificates that are revoked"),
        Key::default(
            "min_version",
            Kind::Word(&[Word::new("1.2"), Word::new("1.3")]),
            "\"1.2\"",
            "the oldest TLS version",
        ),
        Key::optional(
            "hsts",
            Kind::Table(&HSTS),
            "tell browsers to come back with https only",
        ),
    ]],
};

static CERTIFICATE: Section = Section {
    id: "certificate",
    title: "a table in `certificates`",
    about: "A certificate chain and its key, as PEM files.",
    groups: &[&[
        Key::required("cert", Kind::File, "the chain"),
        Key::required("key", Kind::File, "the key"),
    ]],
};

static ACME: Section = Section {
    id: "acme",
    title: "[listener.tls.acme]",
    about: "Certificates from an ACME authority (RFC 8555), one for each host of the sites. Who writes this table agrees to the authority's terms of service.",
    groups: &[&[
        Key::required("email", Kind::Text, "the account's address"),
        Key::default(
            "directory",
            Kind::WordOr(
                &[Word::new("letsencrypt"), Word::new("letsencrypt-staging")],
                &Kind::Text,
            ),
            "\"letsencrypt\"",
            "the authority: the URL of its directory",
        ),
        Key::default(
            "challenge",
            Kind::Word(&[Word::new("tls-alpn-01"), Word::new("http-01")]),
            "\"tls-alpn-01\"",
            "how names are proved: in a TLS handshake on port 443, or over HTTP on port 80",
        ),
        Key::optional(
            "ca",
            Kind::File,
            "certificate authorities that vouch for the directory's own server, instead of the system's",
        ),
        Key::default(
            "storage",
            Kind::File,
            "\"/var/lib/portcullis/acme\"",
            "the folder of accounts and certificates; `acme` in the working folder where /var/lib/portcullis does not exist",
        ),
        Key::optional(
            "external_account",
            Kind::Table(&EXTERNAL_ACCOUNT),
            "an account of the authority's own, where it wants one",
        ),
    ]],
};

static EXTERNAL_ACCOUNT: Section = Section {
    id: "external_account",
    title: "[listener.tls.acme.external_account]",
    about: "An account of the authority's own that the ACME account is bound to (RFC 8555 section 7.3.4).",
    groups: &[&[
        Key::required("id", Kind::Text, "its identifier"),
        Key::required(
            "mac_key",
            Kind::Text,
            "the MAC key, as base64url (`${file:…}` keeps it out of this file)",
        ),
    ]],
};

static HSTS: Section = Section {
    id: "hsts",
    title: "[listener.tls.hsts]",
    about: "`Strict-Transport-Security` (RFC 6797).",
    groups: &[&[
        Key::required(
            "max_age",
            Kind::Duration(Zero::Allowed),
            "how long browsers remember",
        ),
        Key::optional("subdomains", Kind::Boolean, "subdomains too"),
        Key::optional("preload", Kind::Boolean, "may be built into browsers"),
    ]],
};
