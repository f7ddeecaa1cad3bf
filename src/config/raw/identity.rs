//! Keys of `[identity.NAME]`.

use super::{DURATION, Key, Kind, Section, TEXTS, Word, Zero};

/// `[identity.NAME]`.
pub(super) static IDENTITY: Section = Section {
    id: "identity",
    title: "[identity.NAME]",
    about: "A source of identity: exactly one of these.",
    groups: &[&[
        Key::optional("jwt", Kind::Table(&JWT), "signed tokens (RFC 7519)"),
        Key::optional(
            "oidc",
            Kind::Table(&OIDC),
            "sign-in in the browser (OpenID Connect)",
        ),
        Key::optional(
            "api_key",
            Kind::Table(&API_KEY),
            "keys from a file of hashes",
        ),
        Key::optional(
            "basic",
            Kind::Table(&BASIC),
            "names and passwords from an htpasswd file (RFC 7617)",
        ),
        Key::optional("mtls", Kind::Table(&MTLS), "client certificates"),
        Key::optional(
            "forward_auth",
            Kind::Table(&FORWARD_AUTH),
            "ask another service",
        ),
        Key::optional("header", Kind::Table(&HEADER), "headers of trusted peers"),
    ]],
};

static JWT: Section = Section {
    id: "jwt",
    title: "jwt",
    about: "Signed tokens (RFC 7519).",
    groups: &[&[
        Key::required("issuer", Kind::Text, "what `iss` must be"),
        Key::required("audience", super::TEXT_OR_TEXTS, "what `aud` must hold"),
        Key::optional(
            "jwks",
            Kind::WordOr(
                &[Word::prefix("https:"), Word::prefix("http:")],
                &Kind::File,
            ),
            "a key set: a file or a URL",
        ),
        Key::optional(
            "ca",
            Kind::OneOrMany(&Kind::File),
            "the authorities that may vouch for an `https` URL in `jwks`, instead of the system's",
        ),
        Key::optional(
            "secret",
            Kind::Text,
            "a shared secret (`${file:…}` keeps it out of this file)",
        ),
        Key::optional("public_key", Kind::File, "a public key, as a PEM file"),
        Key::required(
            "algorithms",
            Kind::List(&Kind::Word(ALGORITHMS)),
            "the only algorithms accepted",
        ),
        Key::optional(
            "roles",
            Kind::Text,
            "the claim that holds the roles, such as `realm_access.roles`",
        ),
        Key::optional("cookie", Kind::Text, "read the token from this cookie"),
        Key::optional(
            "header",
            Kind::Text,
            "read the token from this header instead of `Authorization`",
        ),
        Key::default(
            "leeway",
            Kind::Duration(Zero::Allowed),
            "\"60s\"",
            "clock skew tolerated",
        ),
    ]],
};

const ALGORITHMS: &[Word] = &[
    Word::new("HS256"),
    Word::new("HS384"),
    Word::new("HS512"),
    Word::new("RS256"),
    Word::new("RS384"),
    Word::new("RS512"),
    Word::new("PS256"),
    Word::new("PS384"),
    Word::new("PS512"),
    Word::new("ES256"),
    Word::new("ES384"),
    Word::new("EdDSA"),
];

static OIDC: Section = Section {
    id: "oidc",
    title: "oidc",
    about: "Sign-in in the browser: authorization code with PKCE.",
    groups: &[&[
        Key::required(
            "issuer",
            Kind::Text,
            "the provider, letter by letter as its metadata has it",
        ),
        Key::required("client_id", Kind::Text, "our name there"),
        Key::required(
            "client_secret",
            Kind::Text,
            "our secret there (`${file:…}` keeps it out of this file)",
        ),
        Key::default(
            "scopes",
            TEXTS,
            "[\"openid\", \"profile\", \"email\"]",
            "what is asked for; `openid` always is, and `offline_access` makes many providers renew sessions",
        ),
        Key::optional(
            "roles",
            Kind::Text,
            "the claim of the ID token that holds the roles, such as `realm_access.roles`",
        ),
        Key::default(
            "cookie",
            Kind::Text,
            "\"portcullis\"",
            "the name of the session cookie; over https `__Host-` stands before it",
        ),
        Key::optional(
            "logout",
            Kind::Text,
            "the path that signs out, never judged",
        ),
        Key::default(
            "callback",
            Kind::Text,
            "\"/.portcullis/callback\"",
            "the path where the provider sends the browser back, never judged",
        ),
        Key::default(
            "session",
            DURATION,
            "\"8h\"",
            "how long a session lasts at most, renewed or not",
        ),
        Key::optional(
            "session_key",
            Kind::File,
            "a file of keys that seal sessions, one a line: the first seals, all open; several instances share it",
        ),
        Key::optional(
            "ca",
            Kind::OneOrMany(&Kind::File),
            "the authorities that may vouch for an `https` issuer, instead of the system's",
        ),
    ]],
};

static API_KEY: Section = Section {
    id: "api_key",
    title: "api_key",
    about: "Keys from a file of hashes.",
    groups: &[&[
        Key::required("file", Kind::File, "the keys"),
        Key::default(
            "header",
            Kind::Text,
            "\"x-api-key\"",
            "the header that carries a key",
        ),
        Key::optional(
            "query",
            Kind::Text,
            "a query parameter that may carry it instead",
        ),
    ]],
};

static BASIC: Section = Section {
    id: "basic",
    title: "basic",
    about: "Names and passwords (RFC 7617).",
    groups: &[&[
        Key::required("file", Kind::File, "an htpasswd file"),
        Key::optional("realm", Kind::Text, "what browsers show beside the prompt"),
    ]],
};

static MTLS: Section = Section {
    id: "mtls",
    title: "mtls",
    about: "Client certificates.",
    groups: &[&[
        Key::default(
            "user",
            Kind::Word(&[
                Word::new("san.email"),
                Word::new("san.dns"),
                Word::new("cn"),
            ]),
            "\"san.email\"",
            "what in the certificate is the user",
        ),
        Key::optional(
            "roles",
            Kind::WordOr(&[Word::new("ou")], &Kind::File),
            "`ou`, or a file from users to roles",
        ),
    ]],
};

static FORWARD_AUTH: Section = Section {
    id: "forward_auth",
    title: "forward_auth",
    about: "Ask another service.",
    groups: &[&[
        Key::required("url", Kind::Text, "who is asked"),
        Key::default(
            "headers_to",
            TEXTS,
            "[\"Authorization\", \"Cookie\"]",
            "request headers that it sees; any of them is a credential",
        ),
        Key::required(
            "headers_from",
            Kind::Table(&HEADERS_FROM),
            "which of its response headers are user, roles and claims",
        ),
        Key::default("timeout", DURATION, "\"5s\"", "how long it may take"),
        Key::optional(
            "ca",
            Kind::OneOrMany(&Kind::File),
            "the authorities that may vouch for an `https` URL, instead of the system's",
        ),
    ]],
};

static HEADERS_FROM: Section = Section {
    id: "headers_from",
    title: "headers_from",
    about: "What the answer of a `forward_auth` service says of the caller.",
    groups: &[&[
        Key::optional("user", Kind::Text, "the header that names the user"),
        Key::optional("roles", Kind::Text, "the header that lists the roles"),
        Key::optional(
            "claim",
            Kind::Named(&Kind::Text),
            "headers that hold claims, by the claim",
        ),
    ]],
};

static HEADER: Section = Section {
    id: "header_identity",
    title: "header",
    about: "Headers of trusted peers.",
    groups: &[&[
        Key::required("user", Kind::Text, "the header that names the user"),
        Key::optional("roles", Kind::Text, "the header that names the roles"),
        Key::required("from", super::TEXT_OR_TEXTS, "the peers that are believed"),
    ]],
};
