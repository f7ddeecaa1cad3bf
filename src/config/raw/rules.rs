//! Keys of rules, conditions, sets and tests.

use super::{DURATION, Key, Kind, Section, TEXT_OR_TEXTS, TEXTS, Word};

/// Conditions: they stand in a deny, in the tables of `allow` and `unless`, and in a limit.
const CONDITIONS: &[Key] = &[
    Key::optional(
        "ip",
        TEXT_OR_TEXTS,
        "the client address: networks, `\"@set\"`s, `@public @private @loopback @link_local @cgnat`, provider names",
    ),
    Key::optional(
        "peer",
        TEXT_OR_TEXTS,
        "the address that opened the connection",
    ),
    Key::optional(
        "country",
        TEXT_OR_TEXTS,
        "ISO 3166-1 codes, sets, `@eu @eea @schengen`, `\"unlisted\"`",
    ),
    Key::optional(
        "continent",
        TEXT_OR_TEXTS,
        "continent codes, `\"unlisted\"`",
    ),
    Key::optional(
        "subdivision",
        TEXT_OR_TEXTS,
        "ISO 3166-2 codes such as `\"US-CA\"`",
    ),
    Key::optional(
        "asn",
        Kind::OneOrMany(&Kind::Either(&[
            Kind::Integer(0, 4_294_967_295),
            Kind::Text,
        ])),
        "autonomous systems, sets, `\"unlisted\"`",
    ),
    Key::optional(
        "anonymizer",
        Kind::OneOrMany(&Kind::Word(ANONYMIZERS)),
        "kinds of anonymizers",
    ),
    Key::optional("role", TEXT_OR_TEXTS, "roles, or roles that hold them"),
    Key::optional("user", TEXT_OR_TEXTS, "names of users"),
    Key::optional(
        "auth",
        TEXT_OR_TEXTS,
        "sources of identity, `\"any\"`, `\"none\"`",
    ),
    Key::optional(
        "claim",
        Kind::Named(&CLAIM),
        "claims by their quoted path: `claim.\"a.b\"`",
    ),
    Key::optional("device", Kind::Named(&CLAIM), "facts about the device"),
    Key::optional("method", TEXT_OR_TEXTS, "methods; `GET` covers `HEAD`"),
    Key::optional("host", TEXT_OR_TEXTS, "hosts, as sites write them"),
    Key::optional(
        "scheme",
        Kind::OneOrMany(&Kind::Word(&[Word::new("http"), Word::new("https")])),
        "how the client speaks",
    ),
    Key::optional(
        "path",
        PATH,
        "path patterns, as routes write them, or `{ regex }`",
    ),
    Key::optional("header", Kind::Named(&FIELD), "request headers"),
    Key::optional("query", Kind::Named(&FIELD), "query parameters"),
    Key::optional("cookie", Kind::Named(&FIELD), "cookies"),
    Key::optional("time", TEXT_OR_TEXTS, "sets of hours"),
    Key::optional("tls", Kind::Table(&TLS_TEST), "the TLS connection"),
    Key::optional(
        "upgrade",
        Kind::OneOrMany(&Kind::Word(&[Word::new("websocket")])),
        "the protocol asked for",
    ),
];

const UNLESS: Key = Key::optional(
    "unless",
    Kind::Tables(&UNLESS_TABLE),
    "exceptions: it does not match where one of these tables does",
);
const UNTIL: Key = Key::optional(
    "until",
    Kind::Date,
    "the last day on which this table counts",
);
const SHADOW: Key = Key::optional(
    "shadow",
    Kind::Boolean,
    "judge, log and count, and change nothing",
);

/// Of a limit.
const LIMIT_SHADOW: Key =
    Key::optional("shadow", Kind::Boolean, "count and log, and answer nothing");

const ANONYMIZERS: &[Word] = &[
    Word::new("vpn"),
    Word::new("tor"),
    Word::new("hosting"),
    Word::new("public_proxy"),
    Word::new("residential_proxy"),
];

const FIELD: Kind = Kind::OneOrMany(&Kind::Either(&[Kind::Text, Kind::Table(&FIELD_TEST)]));

const PATH: Kind = Kind::OneOrMany(&Kind::Either(&[Kind::Text, Kind::Table(&PATH_TEST)]));

static FIELD_TEST: Section = Section {
    id: "field_test",
    title: "a test of a header, query parameter or cookie",
    about: "One of these.",
    groups: &[&[
        Key::optional("present", Kind::Boolean, "whether it is sent"),
        Key::optional("glob", Kind::Text, "a pattern with `*` and `?`"),
        Key::optional(
            "regex",
            Kind::Text,
            "a regular expression found anywhere in the value",
        ),
    ]],
};

static PATH_TEST: Section = Section {
    id: "path_test",
    title: "a test of the path",
    about: "A regular expression.",
    groups: &[&[Key::required("regex", Kind::Text, "matches the whole path")]],
};

static TLS_TEST: Section = Section {
    id: "tls_test",
    title: "a test of the TLS connection",
    about: "Keys are joined by *and*.",
    groups: &[&[
        Key::optional(
            "version",
            Kind::OneOrMany(&Kind::Word(&[Word::new("1.2"), Word::new("1.3")])),
            "the version",
        ),
        Key::optional(
            "client_cert",
            Kind::Boolean,
            "whether a verified client certificate was shown",
        ),
    ]],
};

const SCALAR: Kind = Kind::Either(&[
    Kind::Text,
    Kind::Boolean,
    Kind::Integer(i64::MIN, i64::MAX),
    Kind::Table(&CLAIM_TEST),
]);
const CLAIM: Kind = Kind::OneOrMany(&SCALAR);

static CLAIM_TEST: Section = Section {
    id: "claim_test",
    title: "a test of a claim",
    about: "One of these, `min` and `max` together.",
    groups: &[&[
        Key::optional(
            "at_least",
            Kind::Text,
            "this value of an ordered claim, or a higher one",
        ),
        Key::optional("min", Kind::Integer(i64::MIN, i64::MAX), "the least number"),
        Key::optional(
            "max",
            Kind::Integer(i64::MIN, i64::MAX),
            "the largest number",
        ),
        Key::optional("present", Kind::Boolean, "whether it is there"),
    ]],
};

static UNLESS_TABLE: Section = Section {
    id: "unless",
    title: "a table of `unless`",
    about: "Conditions, all of which must hold.",
    groups: &[CONDITIONS, &[UNTIL]],
};

/// A table of `allow`.
pub(super) static ALLOW: Section = Section {
    id: "allow",
    title: "a table of `allow`",
    about: "Conditions, all of which must hold.",
    groups: &[
        &[Key::optional("name", Kind::Text, "its name in logs")],
        CONDITIONS,
        &[UNLESS, UNTIL, SHADOW],
    ],
};

/// `[[deny]]`, `[[site.deny]]`, `[[site.route.deny]]`.
pub(super) static DENY: Section = Section {
    id: "deny",
    title: "[[deny]]",
    about: "Refuses requests; also `[[site.deny]]` and `[[site.route.deny]]`. Without conditions it matches everything.",
    groups: &[
        &[Key::required(
            "name",
            Kind::Text,
            "its name in logs; unique among the global rules and within a site",
        )],
        CONDITIONS,
        &[
            UNLESS,
            Key::default(
                "status",
                Kind::Either(&[
                    Kind::Number(&[403, 404, 410, 451]),
                    Kind::Word(&[Word::new("close")]),
                ]),
                "403",
                "what the client gets; `close` cuts the connection",
            ),
            Key::default(
                "reason",
                Kind::Text,
                "\"forbidden\"",
                "the public reason code",
            ),
            Key::optional("message", Kind::Text, "a sentence for people"),
            Key::optional("page", Kind::File, "a page of your own"),
            Key::optional(
                "link",
                Kind::Text,
                "with 451: who asked for the block (RFC 7725)",
            ),
            SHADOW,
        ],
    ],
};

/// `otherwise` of a route.
pub(super) static OTHERWISE: Section = Section {
    id: "otherwise",
    title: "[site.route.otherwise]",
    about: "The answer when no allow matches.",
    groups: &[&[
        Key::default(
            "status",
            Kind::Number(&[403, 404, 410, 451]),
            "403",
            "what the client gets",
        ),
        Key::default(
            "reason",
            Kind::Text,
            "\"forbidden\"",
            "the public reason code",
        ),
        Key::optional("message", Kind::Text, "a sentence for people"),
        Key::optional("page", Kind::File, "a page of your own"),
        Key::optional("upgrade_url", Kind::Text, "where a better plan is sold"),
    ]],
};

/// `[[limit]]`.
pub(super) static LIMIT: Section = Section {
    id: "limit",
    title: "[[limit]]",
    about: "How much one party may ask for; also `[[site.limit]]` and `[[site.route.limit]]`.",
    groups: &[
        &[
            Key::required("name", Kind::Text, "its name in logs"),
            Key::optional(
                "rate",
                Kind::Either(&[Kind::Rate, Kind::Named(&Kind::Text)]),
                "how many in a period, or `{ by = \"claim.plan\", default = \"60/min\", … }`",
            ),
            Key::optional(
                "concurrent",
                Kind::Integer(1, 1_000_000),
                "how many at a time",
            ),
            Key::optional(
                "burst",
                Kind::Integer(1, 1_000_000_000),
                "how many at once; the count in `rate` unless written",
            ),
            Key::optional(
                "per",
                TEXT_OR_TEXTS,
                "who is counted: `client`, `user`, `key`, `claim.x`, `header.x`",
            ),
        ],
        CONDITIONS,
        &[UNLESS, LIMIT_SHADOW],
    ],
};

/// A set of addresses from a file.
pub(super) static IP_FILE: Section = Section {
    id: "ip_file",
    title: "a file in `[ip]`",
    about: "One address or network a line.",
    groups: &[&[
        Key::required("file", Kind::File, "the list; watched"),
        Key::optional(
            "shrink_limit",
            Kind::Percent,
            "a list that shrinks by more keeps the last good one",
        ),
    ]],
};

/// An order of claim values.
pub(super) static CLAIM_SET: Section = Section {
    id: "claim_set",
    title: "a name in `[claim]`",
    about: "An order of values, for `at_least`.",
    groups: &[&[Key::required("order", TEXTS, "lowest first")]],
};

/// A set of hours.
pub(super) static TIME_SET: Section = Section {
    id: "time_set",
    title: "a name in `[time]`",
    about: "A window of days and hours. One over midnight belongs to the day on which it starts.",
    groups: &[&[
        Key::required("zone", Kind::Text, "an IANA time zone"),
        Key::optional(
            "days",
            TEXT_OR_TEXTS,
            "`\"mon-fri\"` or a list; every day unless written",
        ),
        Key::optional("from", Kind::Text, "its first minute, `\"07:00\"`"),
        Key::optional("to", Kind::Text, "its end, `\"20:00\"`; may be `\"24:00\"`"),
        Key::optional(
            "dates",
            Kind::OneOrMany(&Kind::Either(&[Kind::Date, Kind::Text])),
            "only on these dates",
        ),
    ]],
};

/// A finding accepted by name.
pub(super) static ACCEPT: Section = Section {
    id: "accept",
    title: "[[accept]]",
    about: "A finding of `check` accepted by name.",
    groups: &[&[
        Key::required("finding", Kind::Text, "its code"),
        Key::required("rule", Kind::Text, "the rule it speaks of"),
        Key::required("why", Kind::Text, "the reason"),
    ]],
};

const TEST_NAME: Key = Key::required("name", Kind::Text, "what the test says");
const EXPECTED: Key = Key::required("expect", Kind::Table(&EXPECT), "what must come of it");

/// `[[test]]`.
pub(super) static GLOBAL_TEST: Section = Section {
    id: "test",
    title: "[[test]]",
    about: "A test of the policy that names its host.",
    groups: &[&[
        TEST_NAME,
        Key::required("request", Kind::Table(&GLOBAL_REQUEST), "what is asked"),
        EXPECTED,
    ]],
};

/// `[[site.test]]`.
pub(super) static SITE_TEST: Section = Section {
    id: "site_test",
    title: "[[site.test]]",
    about: "A test of a site's policy.",
    groups: &[&[
        TEST_NAME,
        Key::required("request", Kind::Table(&SITE_REQUEST), "what is asked"),
        EXPECTED,
    ]],
};

static GLOBAL_REQUEST: Section = Section {
    id: "global_request",
    title: "`request` of `[[test]]`",
    about: "A request; what is not written is absent. Naming role, user or claim means signed in by the site's first source.",
    groups: &[&[Key::required("host", Kind::Text, "the host")], REQUEST],
};

static SITE_REQUEST: Section = Section {
    id: "site_request",
    title: "`request` of `[[site.test]]`",
    about: "A request; what is not written is absent. Naming role, user or claim means signed in by the site's first source.",
    groups: &[
        &[Key::optional(
            "host",
            Kind::Text,
            "the host; the site's first unless written",
        )],
        REQUEST,
    ],
};

const REQUEST: &[Key] = &[
    Key::required("path", Kind::Text, "the path and query"),
    Key::default("method", Kind::Text, "\"GET\"", "the method"),
    Key::optional("ip", Kind::Text, "the client address"),
    Key::optional(
        "peer",
        Kind::Text,
        "who opened the connection; the client unless written",
    ),
    Key::optional("country", Kind::Text, "its country"),
    Key::optional("continent", Kind::Text, "its continent"),
    Key::optional("subdivision", TEXT_OR_TEXTS, "its subdivisions"),
    Key::optional(
        "asn",
        Kind::Either(&[Kind::Integer(0, 4_294_967_295), Kind::Text]),
        "its autonomous system",
    ),
    Key::optional(
        "anonymizer",
        Kind::OneOrMany(&Kind::Word(ANONYMIZERS)),
        "anonymizers known at the address",
    ),
    Key::optional("role", TEXT_OR_TEXTS, "roles of the user"),
    Key::optional("user", Kind::Text, "the user"),
    Key::optional("claim", Kind::Named(&Kind::Anything), "claims of the user"),
    Key::optional(
        "device",
        Kind::Named(&Kind::Anything),
        "facts about the device",
    ),
    Key::optional("auth", Kind::Text, "the source that vouches"),
    Key::optional("header", Kind::Named(&TEXT_OR_TEXTS), "request headers"),
    Key::optional(
        "query",
        Kind::Named(&TEXT_OR_TEXTS),
        "query parameters, besides those in `path`",
    ),
    Key::optional("cookie", Kind::Named(&Kind::Text), "cookies"),
    Key::optional("tls", Kind::Table(&REQUEST_TLS), "the TLS connection"),
    Key::optional("at", Kind::Moment, "when"),
    Key::optional(
        "credential",
        Kind::Word(&[Word::new("invalid")]),
        "a credential that is not valid",
    ),
    Key::optional(
        "failed",
        Kind::List(&Kind::Word(&[
            Word::new("geo"),
            Word::new("identity"),
            Word::new("devices"),
        ])),
        "sources that fail",
    ),
];

static REQUEST_TLS: Section = Section {
    id: "request_tls",
    title: "`tls` of a test's `request`",
    about: "The TLS connection.",
    groups: &[&[
        Key::optional(
            "version",
            Kind::Word(&[Word::new("1.2"), Word::new("1.3")]),
            "the version",
        ),
        Key::optional(
            "client_cert",
            Kind::Boolean,
            "whether a verified client certificate was shown",
        ),
    ]],
};

static EXPECT: Section = Section {
    id: "expect",
    title: "`expect` of a test",
    about: "What must come of the request.",
    groups: &[&[
        Key::required(
            "status",
            Kind::Either(&[Kind::Integer(100, 599), Kind::Word(&[Word::new("close")])]),
            "the status",
        ),
        Key::optional("rule", Kind::Text, "the rule that decides"),
        Key::optional("reason", Kind::Text, "the public reason code"),
        Key::optional("location", Kind::Text, "where a redirect leads"),
    ]],
};

/// `[site.maintenance]`.
pub(super) static MAINTENANCE: Section = Section {
    id: "maintenance",
    title: "[site.maintenance]",
    about: "The site is closed for a while.",
    groups: &[&[
        Key::default("on", Kind::Boolean, "false", "whether it is"),
        Key::optional("until", Kind::Moment, "when it ends"),
        Key::optional("message", Kind::Text, "a sentence for people"),
        UNLESS,
    ]],
};

/// `[site.brute_force]`.
pub(super) static BRUTE_FORCE: Section = Section {
    id: "brute_force",
    title: "[site.brute_force]",
    about: "Failed sign-ins of one client: an IPv4 address, or an IPv6 /64.",
    groups: &[&[
        Key::default(
            "failures",
            Kind::Integer(1, 1_000_000),
            "20",
            "how many credentials may be wrong",
        ),
        Key::default(
            "per",
            DURATION,
            "\"1min\"",
            "in how long; one is forgiven each `per / failures`",
        ),
        Key::default(
            "hold",
            DURATION,
            "\"1min\"",
            "how long the client then waits: 429 for passwords, right or wrong, and for wrong tokens and keys",
        ),
    ]],
};
