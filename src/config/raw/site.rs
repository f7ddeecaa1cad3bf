//! Keys of `[[site]]`, `[[site.route]]` and the tables in them.

use super::rules::{ALLOW, BRUTE_FORCE, DENY, LIMIT, MAINTENANCE, OTHERWISE, SITE_TEST};
use super::server::BODY_SIZE;
use super::{DURATION, Key, Kind, Section, TEXT_OR_TEXTS, TEXTS, Word};

/// `[[site]]`.
pub(super) static SITE: Section = Section {
    id: "site",
    title: "[[site]]",
    about: "Host names which share routes, pages and identity.",
    groups: &[
        &[
            Key::required(
                "host",
                TEXT_OR_TEXTS,
                "host names; `\"*.example.com\"` for any below, `\"*\"` for any",
            ),
            Key::optional(
                "upstream",
                Kind::Text,
                "where requests go, unless a route says otherwise",
            ),
            Key::default(
                "identity",
                TEXTS,
                "[]",
                "sources of identity, in the order tried",
            ),
            Key::optional(
                "allow",
                ALLOWED,
                "who may pass, as a route `/**` would say it",
            ),
            Key::default(
                "api",
                Kind::Boolean,
                "false",
                "a site of programs: never HTML",
            ),
            Key::default(
                "path_reading",
                Kind::Word(&[Word::new("lenient"), Word::new("strict")]),
                "\"lenient\"",
                "`strict`: only the strict reading of paths counts",
            ),
            Key::optional(
                "headers_to_upstream",
                Kind::Table(&IDENTITY_HEADERS),
                "headers that tell the upstream who asks",
            ),
            Key::optional(
                "strip_headers",
                TEXTS,
                "more headers that a client may never send",
            ),
            Key::optional(
                "forward_credential",
                Kind::Boolean,
                "whether credentials go upstream; true for jwt, else false",
            ),
            Key::optional(
                "request_headers",
                Kind::Table(&HEADER_EDITS),
                "header edits on requests",
            ),
            Key::optional(
                "response_headers",
                Kind::Table(&HEADER_EDITS),
                "header edits on answers, our own included",
            ),
            Key::default(
                "forwarded",
                Kind::Boolean,
                "false",
                "send `Forwarded` (RFC 7239)",
            ),
            Key::default(
                "via",
                Kind::Boolean,
                "false",
                "send `Via` (RFC 9110 §7.6.3)",
            ),
            Key::optional(
                "signed_identity",
                Kind::Table(&SIGNED_IDENTITY),
                "a signed header that tells the upstream who asks",
            ),
            Key::default(
                "compress",
                Kind::Either(&[Kind::Boolean, TEXTS]),
                "false",
                "compress answers that the upstream did not; which content types (`\"text/html\"`, `\"image/*\"`), true for those that shrink",
            )
            .with("compression", cfg!(feature = "compression")),
        ],
        OVERRIDES,
        &[
            Key::optional(
                "denial",
                Kind::Table(&DENIAL),
                "what a refused client sees here",
            ),
            Key::optional("route", Kind::Tables(&ROUTE), "paths and who may pass"),
            Key::optional("deny", Kind::Tables(&DENY), "denies that guard this site"),
            Key::optional("limit", Kind::Tables(&LIMIT), "limits of this site"),
            Key::optional(
                "test",
                Kind::Tables(&SITE_TEST),
                "tests of this site's policy",
            ),
            Key::optional(
                "intercept",
                Kind::Table(&INTERCEPT),
                "upstream statuses replaced by our pages",
            ),
            Key::optional(
                "cors",
                Kind::Table(&CORS),
                "origins that may read our denials",
            ),
            Key::optional(
                "maintenance",
                Kind::Table(&MAINTENANCE),
                "the site is closed for a while",
            ),
            Key::optional(
                "brute_force",
                Kind::Table(&BRUTE_FORCE),
                "failed sign-ins of one address",
            ),
        ],
    ],
};

/// `[[site.route]]`.
pub(super) static ROUTE: Section = Section {
    id: "route",
    title: "[[site.route]]",
    about: "A path pattern, its answer and who may pass.",
    groups: &[
        &[
            Key::required(
                "path",
                Kind::Text,
                "which requests this route owns: literal segments, `*` for one, a final `/**` for this path and below",
            ),
            Key::optional(
                "upstream",
                Kind::Text,
                "where they go; the site's unless written",
            ),
            Key::optional(
                "redirect",
                Kind::Table(&REDIRECT),
                "an answer that sends the client elsewhere",
            ),
            Key::optional("respond", Kind::Table(&RESPOND), "a fixed answer"),
            Key::optional(
                "allow",
                ALLOWED,
                "`\"anyone\"` or a list of tables; required with an upstream",
            ),
            Key::optional(
                "otherwise",
                Kind::Table(&OTHERWISE),
                "the answer when no allow matches",
            ),
            Key::optional(
                "step_up",
                Kind::Table(&STEP_UP),
                "a stronger or fresher sign-in for those who may pass",
            ),
            Key::optional("deny", Kind::Tables(&DENY), "denies that guard this route"),
            Key::optional("limit", Kind::Tables(&LIMIT), "limits of this route"),
            Key::default(
                "strip_prefix",
                Kind::Boolean,
                "false",
                "cut the literal segments before the first `*` from the target",
            ),
            Key::optional(
                "rewrite_location",
                Kind::Boolean,
                "put them back into `Location`; true with `strip_prefix`",
            ),
            Key::optional("add_prefix", Kind::Text, "put this before the target"),
            Key::optional(
                "host_header",
                Kind::Text,
                "`Host` towards the upstream; as received unless written",
            ),
            Key::optional(
                "request_headers",
                Kind::Table(&HEADER_EDITS),
                "header edits on requests, behind the site's",
            ),
            Key::optional(
                "response_headers",
                Kind::Table(&HEADER_EDITS),
                "header edits on answers, our own included, behind the site's",
            ),
            Key::optional(
                "denial",
                Kind::Table(&DENIAL),
                "what a refused client sees here",
            ),
        ],
        OVERRIDES,
    ],
};

const ALLOWED: Kind = Kind::Either(&[Kind::Word(&[Word::new("anyone")]), Kind::Tables(&ALLOW)]);

/// What a site or route may set instead of `[upstream.NAME]` and `[server.limits]`.
const OVERRIDES: &[Key] = &[
    Key::optional("connect_timeout", DURATION, "to connect, instead of the upstream's"),
    Key::optional("response_timeout", DURATION, "to the head of the response, instead of the upstream's"),
    Key::optional("body_timeout", DURATION, "between two reads of a request body, instead of the server's"),
    Key::optional("stream_idle_timeout", DURATION, "an upgraded connection or event stream without a byte, instead of the server's"),
    Key::optional("body_size", BODY_SIZE, "a request body, instead of the server's"),
    Key::optional("header_timeout", DURATION, "a whole request head").not_yet("head timeouts by site: a head is read before its site is known, so write it in `[server.limits]`"),
    Key::optional("idle_timeout", DURATION, "a kept-alive connection without a request").not_yet("idle timeouts by site: a connection may serve several, so write it in `[server.limits]`"),
];

static REDIRECT: Section = Section {
    id: "redirect",
    title: "[site.route.redirect]",
    about: "An answer that sends the client elsewhere.",
    groups: &[&[
        Key::required(
            "to",
            Kind::Text,
            "where, with `{scheme} {host} {client} {path} {query} {tail}`",
        ),
        Key::default(
            "status",
            Kind::Number(&[302, 303, 307, 308]),
            "302",
            "303 makes it a GET, 307 and 308 keep the method, 308 is for ever",
        ),
    ]],
};

static RESPOND: Section = Section {
    id: "respond",
    title: "[site.route.respond]",
    about: "A fixed answer.",
    groups: &[&[
        Key::required("status", Kind::Integer(200, 599), "its status"),
        Key::optional("body", Kind::Text, "its body"),
        Key::optional(
            "file",
            Kind::File,
            "or the file that holds it, read at load",
        ),
        Key::optional(
            "type",
            Kind::Text,
            "its content type; plain text, or what the file's name says, unless written",
        ),
    ]],
};

static STEP_UP: Section = Section {
    id: "step_up",
    title: "[site.route.step_up]",
    about: "A stronger or fresher sign-in (RFC 9470).",
    groups: &[&[
        Key::optional(
            "acr",
            TEXT_OR_TEXTS,
            "authentication contexts of which one suffices: the token's claim `acr`",
        ),
        Key::optional(
            "max_age",
            DURATION,
            "how long ago the sign-in may have been: the token's claim `auth_time`",
        ),
    ]],
};

static IDENTITY_HEADERS: Section = Section {
    id: "headers_to_upstream",
    title: "[site.headers_to_upstream]",
    about: "Headers that tell the upstream who asks. A client can never send them.",
    groups: &[&[
        Key::optional("user", Kind::Text, "the header for the user"),
        Key::optional(
            "roles",
            Kind::Text,
            "the header for the roles, joined by commas",
        ),
        Key::optional(
            "country",
            Kind::Text,
            "the header for the country of the client address",
        ),
        Key::optional(
            "claim",
            Kind::Named(&Kind::Text),
            "headers for claims: `claim.\"email\" = \"X-Email\"`",
        ),
    ]],
};

static SIGNED_IDENTITY: Section = Section {
    id: "signed_identity",
    title: "[site.signed_identity]",
    about: "A signed header that tells the upstream who asks: a JSON Web Token. `portcullis keys` prints the keys that verify it.",
    groups: &[&[
        Key::required("header", Kind::Text, "its name"),
        Key::required(
            "key",
            Kind::File,
            "the private key that signs, P-256 (ES256) or Ed25519 (EdDSA), in PEM form",
        ),
    ]],
};

/// `request_headers`, `response_headers`.
pub(super) static HEADER_EDITS: Section = Section {
    id: "header_edits",
    title: "[response_headers]",
    about: "Header edits; also `[site.request_headers]` and `[site.response_headers]`.",
    groups: &[&[
        Key::optional(
            "set",
            Kind::Named(&Kind::Text),
            "replace all fields of the name",
        ),
        Key::optional(
            "add",
            Kind::Named(&Kind::Text),
            "add a field where there is none",
        ),
        Key::optional("append", Kind::Named(&Kind::Text), "add a field"),
        Key::optional("remove", TEXTS, "remove all fields of the name"),
    ]],
};

/// `[denial]`.
pub(super) static DENIAL: Section = Section {
    id: "denial",
    title: "[denial]",
    about: "What a refused client sees; also `[site.denial]` and `[site.route.denial]`.",
    groups: &[&[
        Key::default(
            "shape",
            Kind::Word(&[
                Word::new("flat"),
                Word::new("nested"),
                Word::new("node"),
                Word::new("problem"),
            ]),
            "\"flat\"",
            "the shape of JSON; `problem` is RFC 9457",
        ),
        Key::optional("page", Kind::File, "a page of your own"),
        Key::optional(
            "pages",
            Kind::File,
            "a folder of pages: `403.html`, `403.nl.html`, `region_restricted.html`",
        ),
        Key::optional("contact", Kind::Text, "whom pages name for questions"),
    ]],
};

static INTERCEPT: Section = Section {
    id: "intercept",
    title: "[site.intercept]",
    about: "Upstream statuses replaced by our pages, for clients that prefer HTML.",
    groups: &[&[
        Key::default(
            "statuses",
            Kind::List(&Kind::Integer(400, 599)),
            "[403]",
            "which",
        ),
        Key::default(
            "force",
            Kind::Boolean,
            "false",
            "whatever the client prefers",
        ),
    ]],
};

static CORS: Section = Section {
    id: "cors",
    title: "[site.cors]",
    about: "Origins that may read our denials, and whose preflights we answer.",
    groups: &[&[
        Key::default("origins", TEXTS, "[]", "which; none unless written"),
        Key::optional("methods", TEXTS, "methods that they may use"),
        Key::optional("headers", TEXTS, "headers that they may send"),
        Key::optional(
            "max_age",
            DURATION,
            "how long browsers may remember the answer",
        ),
    ]],
};
