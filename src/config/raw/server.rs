//! Keys of the top level and of the tables that hold for the whole process.

use super::identity::IDENTITY;
use super::rules::{ACCEPT, CLAIM_SET, DENY, GLOBAL_TEST, IP_FILE, LIMIT, TIME_SET};
use super::site::{DENIAL, HEADER_EDITS, SITE};
use super::upstream::{LISTENER, UPSTREAM};
use super::{DURATION, Key, Kind, Section, TEXTS, Word, Zero};

/// The top level of a file.
pub static ROOT: Section = Section {
    id: "root",
    title: "the top level",
    about: "Keys before the first table, and the tables of a file.",
    groups: &[&[
        Key::optional(
            "include",
            TEXTS,
            "more files, as globs: root first, then files by name; arrays are joined",
        ),
        Key::optional(
            "default_language",
            Kind::Text,
            "the language of pages where the client asks for none that exists",
        ),
        Key::default(
            "time_zone",
            Kind::Text,
            "\"UTC\"",
            "the zone in which `until` is read",
        ),
        Key::optional("server", Kind::Table(&SERVER), "the process"),
        Key::optional(
            "admin",
            Kind::Table(&ADMIN),
            "how operators reach a running instance",
        ),
        Key::optional(
            "access_log",
            Kind::OneOrMany(&Kind::Table(&ACCESS_LOG)),
            "one line per request",
        ),
        Key::optional(
            "geoip",
            Kind::Table(&GEOIP),
            "country, network and anonymizer databases",
        ),
        Key::optional(
            "client",
            Kind::Table(&CLIENT),
            "whose forwarding headers are believed",
        ),
        Key::optional("ip", Kind::Named(&ADDRESSES), "sets of addresses"),
        Key::optional("country", Kind::Named(&TEXTS), "sets of country codes"),
        Key::optional(
            "asn",
            Kind::Named(&Kind::List(&Kind::Either(&[ASN, Kind::Text]))),
            "sets of autonomous systems",
        ),
        Key::optional(
            "role",
            Kind::Named(&TEXTS),
            "roles, each with the roles that it holds",
        ),
        Key::optional(
            "claim",
            Kind::Named(&Kind::Table(&CLAIM_SET)),
            "orders of claim values",
        ),
        Key::optional(
            "time",
            Kind::Named(&Kind::Table(&TIME_SET)),
            "sets of hours",
        ),
        Key::optional(
            "identity",
            Kind::Named(&Kind::Table(&IDENTITY)),
            "sources of identity",
        ),
        Key::optional(
            "upstream",
            Kind::Named(&Kind::Table(&UPSTREAM)),
            "groups of servers",
        ),
        Key::optional("listener", Kind::Tables(&LISTENER), "sockets to listen on"),
        Key::optional("deny", Kind::Tables(&DENY), "denies that guard every site"),
        Key::optional(
            "limit",
            Kind::Tables(&LIMIT),
            "limits that hold on every site",
        ),
        Key::optional("denial", Kind::Table(&DENIAL), "what a refused client sees"),
        Key::optional("site", Kind::Tables(&SITE), "host names with their routes"),
        Key::optional(
            "shadow",
            Kind::Table(&SHADOW),
            "a second policy beside the live one",
        ),
        Key::optional(
            "test",
            Kind::Tables(&GLOBAL_TEST),
            "tests of the policy that name their host",
        ),
        Key::optional(
            "accept",
            Kind::Tables(&ACCEPT),
            "findings of `check` accepted by name",
        ),
        Key::optional(
            "response_headers",
            Kind::Table(&HEADER_EDITS),
            "header edits on every answer of every site, our own included",
        ),
        Key::optional(
            "redis",
            Kind::Table(&REDIS),
            "limits that several machines share",
        )
        .with("redis", cfg!(feature = "redis")),
        Key::optional(
            "revocation",
            Kind::Table(&REVOCATION),
            "credentials that no longer count",
        ),
        Key::optional("devices", Kind::Table(&DEVICES), "facts about devices"),
    ]],
};

static SERVER: Section = Section {
    id: "server",
    title: "[server]",
    about: "The process.",
    groups: &[&[
        Key::default(
            "workers",
            Kind::Either(&[Kind::Word(&[Word::new("auto")]), Kind::Integer(1, 1024)]),
            "\"auto\"",
            "worker threads; `auto` is one per core",
        ),
        Key::default(
            "drain_timeout",
            Kind::Duration(Zero::Allowed),
            "\"30s\"",
            "how long TERM waits for requests in flight",
        ),
        Key::optional(
            "user_agent",
            Kind::Text,
            "`User-Agent` of requests that Portcullis makes itself",
        )
        .not_yet("requests that Portcullis makes itself"),
        Key::optional(
            "limits",
            Kind::Table(&LIMITS),
            "bounds of what clients may use",
        ),
    ]],
};

static LIMITS: Section = Section {
    id: "limits",
    title: "[server.limits]",
    about: "Bounds of what clients may use.",
    groups: &[&[
        Key::default(
            "connections",
            Kind::Integer(1, 10_000_000),
            "20000",
            "open client connections, all workers together",
        ),
        Key::default(
            "connections_per_client",
            Kind::Integer(1, 10_000_000),
            "1000",
            "open connections of one peer address",
        ),
        // hyper reads heads into a buffer of at least 8 KiB.
        Key::default(
            "header_size",
            Kind::Size(8 << 10, 1 << 20),
            "\"32KiB\"",
            "a request head",
        ),
        Key::default(
            "header_count",
            Kind::Integer(1, 10_000),
            "100",
            "fields of a request head",
        ),
        // The `http` crate refuses a longer target.
        Key::default(
            "target_length",
            Kind::Integer(64, 65_534),
            "8192",
            "bytes of a request target",
        ),
        Key::default(
            "header_timeout",
            DURATION,
            "\"30s\"",
            "a whole request head",
        ),
        Key::default(
            "body_timeout",
            DURATION,
            "\"30s\"",
            "between two reads of a request body",
        ),
        Key::default("body_size", BODY_SIZE, "\"1GiB\"", "a request body"),
        Key::default(
            "idle_timeout",
            DURATION,
            "\"75s\"",
            "a kept-alive connection without a request",
        ),
        Key::default(
            "stream_idle_timeout",
            DURATION,
            "\"1h\"",
            "an upgraded connection or event stream without a byte",
        ),
        Key::default(
            "h2_streams",
            Kind::Integer(1, 10_000),
            "200",
            "concurrent streams of an HTTP/2 connection",
        ),
    ]],
};

/// A limit of a request body; nothing is a limit as well.
pub(super) const BODY_SIZE: Kind = Kind::Size(0, 1 << 50);

static ADMIN: Section = Section {
    id: "admin",
    title: "[admin]",
    about: "How operators reach a running instance.",
    groups: &[&[
        Key::default(
            "socket",
            Kind::File,
            "\"/run/portcullis/admin.sock\"",
            "a Unix socket, mode 0660; `admin.sock` in the working folder where /run/portcullis does not exist",
        ),
        Key::optional(
            "address",
            Kind::Text,
            "a TCP address besides; without `token` a loopback address, and for reading only",
        ),
        Key::optional(
            "token",
            Kind::Text,
            "asked of callers on TCP for everything but /livez, /readyz and /metrics (`${file:…}` keeps it out of this file)",
        ),
    ]],
};

static ACCESS_LOG: Section = Section {
    id: "access_log",
    title: "[access_log]",
    about: "One line per request; `[[access_log]]` for several logs.",
    groups: &[&[
        Key::default(
            "path",
            Kind::WordOr(
                &[
                    Word::new("stdout"),
                    Word::new("off"),
                    Word::prefix("syslog:"),
                ],
                &Kind::File,
            ),
            "\"stdout\"",
            "where lines go; `syslog:` is /dev/log, `syslog:udp://host:514` and `syslog:tcp://host:601` are servers, options stand behind: `?facility=local7&tag=portcullis&format=rfc5424`",
        ),
        Key::default(
            "format",
            Kind::WordOr(
                &[
                    Word::new("json"),
                    Word::new("ecs"),
                    Word::new("combined"),
                    Word::new("combined+decision"),
                ],
                &Kind::Text,
            ),
            "\"json\"",
            "what a line looks like; a template has nginx's variable names",
        ),
        Key::optional(
            "only",
            Kind::Word(&[Word::new("denied")]),
            "log refused requests only",
        ),
        Key::default(
            "privacy",
            Kind::Word(&[
                Word::new("none"),
                Word::new("mask"),
                Word::new("hash-daily"),
            ]),
            "\"none\"",
            "what becomes of client addresses",
        ),
        Key::optional(
            "redact_query",
            TEXTS,
            "query keys whose values are not logged; a built-in list unless written",
        ),
        Key::optional("rotate", Kind::Table(&ROTATE), "when a file is begun anew"),
        Key::optional(
            "site",
            super::TEXT_OR_TEXTS,
            "log requests of these sites only, each by its first host",
        ),
    ]],
};

static ROTATE: Section = Section {
    id: "rotate",
    title: "[access_log.rotate]",
    about: "When a log file is begun anew.",
    groups: &[&[
        Key::optional(
            "size",
            Kind::Size(1, u64::MAX),
            "before it would be larger than this",
        ),
        Key::optional("age", DURATION, "when it is this old and not empty"),
        Key::optional(
            "keep",
            Kind::Integer(0, 100_000),
            "how many old files stay; all unless written",
        ),
    ]],
};

static GEOIP: Section = Section {
    id: "geoip",
    title: "[geoip]",
    about: "Country, network and anonymizer databases.",
    groups: &[&[
        Key::optional(
            "databases",
            Kind::List(&Kind::File),
            "`.mmdb` files; the folders of geoipupdate are searched unless written",
        ),
        Key::optional(
            "max_age",
            DURATION,
            "a database older than this counts as failed; none: age is a warning",
        ),
        Key::default(
            "log",
            Kind::Boolean,
            "false",
            "write the region of every request to the access log",
        ),
    ]],
};

static CLIENT: Section = Section {
    id: "client",
    title: "[client]",
    about: "Whose forwarding headers are believed.",
    groups: &[&[
        Key::default(
            "trusted_proxies",
            TEXTS,
            "[]",
            "networks, `\"@set\"`s and the names `cloudflare`, `fastly`, `cloudfront`",
        ),
        Key::optional(
            "providers",
            Kind::Named(&Kind::File),
            "files that replace the built-in networks of a provider",
        ),
        Key::default(
            "dns_max_age",
            DURATION,
            "\"24h\"",
            "how long the last answer for a `dns:` entry counts",
        ),
        Key::default(
            "header",
            Kind::Word(&[Word::new("x-forwarded-for"), Word::new("forwarded")]),
            "\"x-forwarded-for\"",
            "the one header that is read",
        ),
    ]],
};

const ASN: Kind = Kind::Integer(0, 4_294_967_295);

const ADDRESSES: Kind = Kind::Either(&[TEXTS, Kind::Table(&IP_FILE)]);

static SHADOW: Section = Section {
    id: "shadow",
    title: "[shadow]",
    about: "A second policy that is judged and counted, and changes nothing.",
    groups: &[&[Key::optional(
        "candidate",
        Kind::File,
        "a whole configuration, whose rules are judged beside the live ones",
    )]],
};

static REDIS: Section = Section {
    id: "redis",
    title: "[redis]",
    about: "A Redis or Valkey in which several machines count the rates of limits together.",
    groups: &[&[
        Key::required(
            "url",
            Kind::Text,
            "where it is: `redis://host:6379/0`, `rediss://host` over TLS, or `unix:///run/redis/redis.sock`",
        ),
        Key::default(
            "fail",
            Kind::Word(&[Word::new("open"), Word::new("closed")]),
            "\"open\"",
            "while it is away: `open` counts in each process by itself, `closed` answers 503 where a limit would count",
        ),
    ]],
};

static REVOCATION: Section = Section {
    id: "revocation",
    title: "[revocation]",
    about: "Credentials that no longer count. `portcullis revoke` adds more while running.",
    groups: &[&[Key::optional(
        "file",
        Kind::File,
        "their list: `[[revoked]]` tables with one of `subject`, `token`, `key`, `spki`, `serial`, and `source`, `issued_before`, `until`, `reason`",
    )]],
};

static DEVICES: Section = Section {
    id: "devices",
    title: "[devices]",
    about: "Facts about devices.",
    groups: &[&[
        Key::optional("file", Kind::File, "a list of devices, as JSON"),
        Key::optional("url", Kind::Text, "where such a list is fetched"),
        Key::optional(
            "ca",
            Kind::OneOrMany(&Kind::File),
            "the authorities that may vouch for an `https` URL, instead of the system's",
        ),
        Key::default(
            "max_age",
            DURATION,
            "\"1h\"",
            "how old the list may be before its facts count as failed",
        ),
    ]],
};
