#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use proptest::prelude::*;

use super::*;
use crate::observe::record::{AnsweredBy, Decided, Rule, STATUS_CLOSED, UpstreamPart};
use crate::policy::facts::{Scheme, TlsVersion};
use crate::snapshot::log::{
    COMBINED, COMBINED_DECISION, Destination, Privacy, Redaction, Template,
};
use crate::value::country::{Country, Subdivision};
use crate::value::principal::Principal;
use crate::value::reason::Reason;
use crate::value::source::Source;

fn log(format: Format) -> AccessLog {
    AccessLog::new(Destination::Stdout, format)
}

fn template(text: &str) -> AccessLog {
    log(Format::Template(Template::parse(text).unwrap()))
}

fn line(record: &Record, log: &AccessLog) -> String {
    let mut out = Vec::new();
    Formatter::new(TimeZone::UTC).line(record, log, &mut out);
    let text = String::from_utf8(out).unwrap();
    text.strip_suffix('\n').unwrap().to_owned()
}

/// Each format in its turn.
fn all(record: &Record) -> String {
    let own = "$msec $time_iso8601 $scheme://$host$request_uri $server_protocol $status $request_length>$body_bytes_sent $request_time up=$upstream_addr,$upstream_status,$upstream_connect_time,$upstream_response_time by=$response_source $policy_decision/$policy_reason at=$policy_rule_source site=$site route=$route roles=$roles as=$asn tls=$ssl_protocol $error_type";
    [
        log(Format::Json),
        template(COMBINED),
        template(COMBINED_DECISION),
        template(own),
    ]
    .map(|log| line(record, &log))
    .join("\n")
}

fn malformed() -> Record {
    let mut record = Record::new(
        "2026-11-24T10:00:00.123456Z".parse().unwrap(),
        Instant::now(),
        HeaderValue::from_static("018f-malformed"),
        "203.0.113.9:40312".parse().unwrap(),
    );
    record.status = 400;
    record.bytes_read = Some(17);
    record.response_body = 93;
    record.duration = Duration::from_micros(1_204);
    record.error = Some("malformed_head");
    record
}

fn allowed() -> Record {
    let mut record = malformed();
    record.request_id = HeaderValue::from_static("018f-allowed");
    record.client = Some("2001:db8:10:7::5".parse().unwrap());
    record.method = Some(Method::POST);
    record.host = Some("app.example.com".into());
    record.scheme = Some(Scheme::Https);
    record.target = Some(PathAndQuery::from_static(
        "/a%2Fb/c?x=1&Access_Token=s3cr3t&y",
    ));
    record.version = Some(Version::HTTP_2);
    record.tls_version = Some(TlsVersion::V1_3);
    record.tls_subject = Some(Arc::from("CN=anna,O=Bank"));
    record.bytes_read = None;
    record.request_body = 12;
    record.response_body = 5120;
    record.status = 201;
    record.answered_by = AnsweredBy::Upstream;
    record.decision = Some(Decided::Allow);
    record.rule = Some(Rule {
        name: Arc::from("app.example.com/**#1"),
        source: source(12),
    });
    record.shadow = vec![(Arc::from("no-tor"), Decided::Deny)];
    record.principal = Some(Arc::new(Principal {
        user: Arc::from("anna"),
        source: Arc::from("main"),
        roles: vec![Arc::from("editor"), Arc::from("viewer")],
        claims: serde_json::Map::new(),
        device: serde_json::Map::new(),
        expires: None,
    }));
    record.region = Some(Region {
        country: Some(Country(*b"NL")),
        subdivisions: [
            Some(Subdivision {
                country: *b"NL",
                part: *b"NH\0",
            }),
            None,
        ],
        asn: Some(64500),
        ..Region::default()
    });
    record.region_facts = GeoFacts::ALL;
    let facts =
        serde_json::json!({ "claim.plan": ["pro", 1, null, true], "device": { "managed": false } });
    record.facts = facts.as_object().cloned().map(Box::new);
    record.site = Some(Arc::from("app.example.com"));
    record.route = Some(Arc::from("/**"));
    record.upstream = Some(UpstreamPart {
        name: Arc::from("app"),
        address: Some(Arc::from("127.0.0.1:3000")),
        status: Some(201),
        retries: 1,
        connect: Some(Duration::from_micros(310)),
        response: Some(Duration::from_millis(1_250)),
    });
    record.duration = Duration::from_micros(1_260_042);
    record.policy_duration = Some(Duration::from_nanos(1_900));
    record.user_agent = Some(HeaderValue::from_static("Mozilla/5.0 (X11; Linux x86_64)"));
    record.referer = Some(HeaderValue::from_static(
        "https://bob:pw@app.example.com/x?code=123&a=b",
    ));
    record.trace_id = Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    record.generation = Some(3);
    record.error = None;
    record
}

fn denied() -> Record {
    let mut record = malformed();
    record.request_id = HeaderValue::from_static("018f-denied");
    record.client = Some("203.0.113.9".parse().unwrap());
    record.method = Some(Method::GET);
    record.host = Some("app.example.com".into());
    record.scheme = Some(Scheme::Http);
    record.target = Some(PathAndQuery::from_static("/premium/film"));
    record.version = Some(Version::HTTP_11);
    record.bytes_read = None;
    record.status = 451;
    record.answered_by = AnsweredBy::Policy;
    record.decision = Some(Decided::Deny);
    record.reason = Some(Reason::fixed("region_restricted"));
    record.rule = Some(Rule {
        name: Arc::from("licensed-regions-only"),
        source: source(31),
    });
    record.region = Some(Region::default());
    record.region_facts = GeoFacts::COUNTRY;
    record.site = Some(Arc::from("app.example.com"));
    record.route = Some(Arc::from("/premium/**"));
    record.generation = Some(3);
    record.error = None;
    record
}

fn source(line: u32) -> Source {
    Source {
        file: Arc::from("portcullis.toml"),
        line,
    }
}

#[test]
fn allowed_line() {
    insta::assert_snapshot!(all(&allowed()), @r##"
    {"schema":1,"timestamp":"2026-11-24T10:00:00.123456Z","request.id":"018f-allowed","client.address":"2001:db8:10:7::5","network.peer.address":"203.0.113.9","network.peer.port":40312,"http.request.method":"POST","server.address":"app.example.com","url.scheme":"https","url.path":"/a%2Fb/c","url.query":"x=1&Access_Token=REDACTED&y","network.protocol.version":"2","tls.protocol.version":"1.3","tls.client.subject":"CN=anna,O=Bank","http.request.body.size":12,"http.response.body.size":5120,"http.response.status_code":201,"response.source":"upstream","policy.decision":"allow","security_rule.name":"app.example.com/**#1","security_rule.source":"portcullis.toml:12","policy.shadow":[{"rule":"no-tor","decision":"deny"}],"user.id":"anna","user.roles":["editor","viewer"],"auth.source":"main","geo.country.iso_code":"NL","geo.region.iso_code":"NL-NH","client.as.number":64500,"facts":{"claim.plan":["pro",1,null,true],"device":{"managed":false}},"site":"app.example.com","route":"/**","upstream.name":"app","upstream.address":"127.0.0.1:3000","upstream.status_code":201,"upstream.retries":1,"duration":1.260042,"policy.duration":0.000001,"upstream.connect.duration":0.000310,"upstream.response.duration":1.250000,"user_agent.original":"Mozilla/5.0 (X11; Linux x86_64)","http.request.header.referer":"https://REDACTED@app.example.com/x?code=REDACTED&a=b","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","config.generation":3}
    2001:db8:10:7::5 - anna [24/Nov/2026:10:00:01 +0000] "POST /a%2Fb/c?x=1&Access_Token=REDACTED&y HTTP/2.0" 201 5120 "https://REDACTED@app.example.com/x?code=REDACTED&a=b" "Mozilla/5.0 (X11; Linux x86_64)"
    2001:db8:10:7::5 - anna [24/Nov/2026:10:00:01 +0000] "POST /a%2Fb/c?x=1&Access_Token=REDACTED&y HTTP/2.0" 201 5120 "https://REDACTED@app.example.com/x?code=REDACTED&a=b" "Mozilla/5.0 (X11; Linux x86_64)" allow - "app.example.com/**#1" 018f-allowed NL
    1795514401.383 2026-11-24T10:00:01+00:00 https://app.example.com/a%2Fb/c?x=1&Access_Token=REDACTED&y HTTP/2.0 201 12>5120 1.260 up=127.0.0.1:3000,201,0.000,1.250 by=upstream allow/- at=portcullis.toml:12 site=app.example.com route=/** roles=editor,viewer as=64500 tls=TLSv1.3 -
    "##);
}

#[test]
fn denied_line() {
    insta::assert_snapshot!(all(&denied()), @r##"
    {"schema":1,"timestamp":"2026-11-24T10:00:00.123456Z","request.id":"018f-denied","client.address":"203.0.113.9","network.peer.address":"203.0.113.9","network.peer.port":40312,"http.request.method":"GET","server.address":"app.example.com","url.scheme":"http","url.path":"/premium/film","network.protocol.version":"1.1","http.request.body.size":0,"http.response.body.size":93,"http.response.status_code":451,"response.source":"policy","policy.decision":"deny","policy.reason":"region_restricted","security_rule.name":"licensed-regions-only","security_rule.source":"portcullis.toml:31","geo.country.iso_code":"unlisted","site":"app.example.com","route":"/premium/**","duration":0.001204,"config.generation":3}
    203.0.113.9 - - [24/Nov/2026:10:00:00 +0000] "GET /premium/film HTTP/1.1" 451 93 "-" "-"
    203.0.113.9 - - [24/Nov/2026:10:00:00 +0000] "GET /premium/film HTTP/1.1" 451 93 "-" "-" deny region_restricted "licensed-regions-only" 018f-denied unlisted
    1795514400.124 2026-11-24T10:00:00+00:00 http://app.example.com/premium/film HTTP/1.1 451 0>93 0.001 up=-,-,-,- by=policy deny/region_restricted at=portcullis.toml:31 site=app.example.com route=/premium/** roles=- as=- tls=- -
    "##);
}

#[test]
fn malformed_line() {
    insta::assert_snapshot!(all(&malformed()), @r##"
    {"schema":1,"timestamp":"2026-11-24T10:00:00.123456Z","request.id":"018f-malformed","client.address":"203.0.113.9","network.peer.address":"203.0.113.9","network.peer.port":40312,"http.request.size":17,"http.request.body.size":0,"http.response.body.size":93,"http.response.status_code":400,"response.source":"proxy","duration":0.001204,"error.type":"malformed_head"}
    203.0.113.9 - - [24/Nov/2026:10:00:00 +0000] "-" 400 93 "-" "-"
    203.0.113.9 - - [24/Nov/2026:10:00:00 +0000] "-" 400 93 "-" "-" - - "-" 018f-malformed -
    1795514400.124 2026-11-24T10:00:00+00:00 -://-- - 400 17>93 0.001 up=-,-,-,- by=proxy -/- at=- site=- route=- roles=- as=- tls=- malformed_head
    "##);
}

#[test]
fn ecs_lines_have_names_and_types_of_the_schema() {
    let schema: std::collections::HashMap<&str, &str> = include_str!("ecs-8.7-fields.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .collect();
    fn leaves(value: &serde_json::Value, name: &str, found: &mut Vec<(String, serde_json::Value)>) {
        match value.as_object() {
            Some(map) => {
                for (key, value) in map {
                    let dot = if name.is_empty() { "" } else { "." };
                    leaves(value, &format!("{name}{dot}{key}"), found);
                }
            }
            None => found.push((name.to_owned(), value.clone())),
        }
    }
    for privacy in [Privacy::None, Privacy::Mask, Privacy::HashDaily] {
        for record in [malformed(), denied(), allowed()] {
            let log = AccessLog {
                privacy,
                ..log(Format::Ecs)
            };
            let text = line(&record, &log);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            // A name that was written twice would be one here.
            let quotes = |text: &str| text.matches('"').count();
            assert_eq!(quotes(&value.to_string()), quotes(&text), "{text}");
            let mut found = Vec::new();
            leaves(&value, "", &mut found);
            for (name, value) in found {
                if name.starts_with("portcullis.") {
                    continue;
                }
                let kind = schema
                    .get(&*name)
                    .unwrap_or_else(|| panic!("{name} is no name"));
                let good = match *kind {
                    "long" => value.is_u64(),
                    "ip" => value
                        .as_str()
                        .is_some_and(|text| text.parse::<IpAddr>().is_ok()),
                    "date" => value.as_str().is_some_and(|text| text.ends_with('Z')),
                    array if array.ends_with(" array") => value.is_array(),
                    _ => value.is_string(),
                };
                assert!(good, "{name} is {kind}: {value}");
            }
        }
    }
}

#[test]
fn ecs_line() {
    let text = line(&denied(), &log(Format::Ecs));
    insta::assert_snapshot!(text, @r##"{"@timestamp":"2026-11-24T10:00:00.123456Z","ecs":{"version":"8.7.0"},"event":{"kind":"event","dataset":"portcullis.access","category":["web","network"],"type":["access","denied"],"outcome":"failure","reason":"region_restricted","duration":1204000},"http":{"version":"1.1","request":{"id":"018f-denied","method":"GET","body":{"bytes":0}},"response":{"status_code":451,"body":{"bytes":93}}},"url":{"domain":"app.example.com","scheme":"http","path":"/premium/film"},"source":{"address":"203.0.113.9","ip":"203.0.113.9","port":40312},"client":{"address":"203.0.113.9","ip":"203.0.113.9","geo":{"country_iso_code":"unlisted"}},"rule":{"name":"licensed-regions-only"},"portcullis":{"response":{"source":"policy"},"site":"app.example.com","route":"/premium/**","policy":{"decision":"deny"},"security_rule":{"source":"portcullis.toml:31"},"config":{"generation":3}}}"##);
}

#[test]
fn regions_are_shown_as_far_as_rules_read_them() {
    let own = template("$country $subdivision $asn");
    for (read, text, json, why) in [
        (GeoFacts::ALL, "NL NL-NH 64500", 3, "`[geoip] log`"),
        (GeoFacts::COUNTRY, "NL - -", 1, "a rule reads countries"),
        (GeoFacts::ASN, "- - 64500", 1, "a rule reads networks"),
        (GeoFacts::NONE, "- - -", 0, "none reads any"),
    ] {
        let mut record = allowed();
        record.region_facts = read;
        assert_eq!(line(&record, &own).trim_end(), text, "{why}");
        let shown = line(&record, &log(Format::Json));
        let keys = [
            "geo.country.iso_code",
            "geo.region.iso_code",
            "client.as.number",
        ];
        let found = keys.iter().filter(|key| shown.contains(*key)).count();
        assert_eq!(found, json, "{why}");
    }
}

#[test]
fn allowed_and_denied_have_the_same_keys_in_the_order_of_the_table() {
    const TABLE: &[&str] = &[
        "schema",
        "timestamp",
        "request.id",
        "client.address",
        "network.peer.address",
        "network.peer.port",
        "http.request.method",
        "server.address",
        "url.scheme",
        "url.path",
        "url.query",
        "network.protocol.version",
        "tls.protocol.version",
        "tls.client.subject",
        "http.request.size",
        "http.request.body.size",
        "http.response.body.size",
        "http.response.status_code",
        "response.source",
        "policy.decision",
        "policy.reason",
        "security_rule.name",
        "security_rule.source",
        "policy.shadow",
        "user.id",
        "user.roles",
        "auth.source",
        "auth.error",
        "geo.country.iso_code",
        "geo.region.iso_code",
        "client.as.number",
        "facts",
        "site",
        "route",
        "upstream.name",
        "upstream.address",
        "upstream.status_code",
        "upstream.retries",
        "duration",
        "policy.duration",
        "upstream.connect.duration",
        "upstream.response.duration",
        "user_agent.original",
        "http.request.header.referer",
        "trace_id",
        "config.generation",
        "error.type",
    ];
    let mut full = allowed();
    full.bytes_read = Some(1);
    full.auth_error = Some(Arc::from("expired"));
    full.reason = Some(Reason::FORBIDDEN);
    full.error = Some("upstream_closed");
    for (record, whole) in [(full, true), (denied(), false), (malformed(), false)] {
        let line = line(&record, &log(Format::Json));
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        let mut places: Vec<(usize, &str)> = object
            .as_object()
            .unwrap()
            .keys()
            .map(|key| {
                let known = TABLE.iter().find(|name| *name == key);
                let name = known.unwrap_or_else(|| panic!("`{key}` is not in the table"));
                (line.find(&format!("\"{key}\":")).unwrap(), *name)
            })
            .collect();
        places.sort_unstable();
        let keys: Vec<&str> = places.iter().map(|(_, key)| *key).collect();
        let mut order = TABLE.iter();
        assert!(
            keys.iter().all(|key| order.any(|name| name == key)),
            "{keys:?}"
        );
        assert!(!whole || keys == TABLE, "{keys:?}");
    }
}

/// What a client sends, inside a JSON string, and in nginx's escape.
#[test]
fn nothing_a_client_sends_leaves_its_field() {
    for (sent, json, nginx) in [
        (&b"a\nb"[..], r"a\nb", r"a\x0Ab"), // a second line
        (b"a\r\nb", r"a\r\nb", r"a\x0D\x0Ab"),
        (b"a\"b", r#"a\"b"#, r"a\x22b"), // the end of the field
        (b"a\\", r"a\\", r"a\x5C"),      // an escape of the quote that follows
        (b"\x1b[2J", r"\u001B[2J", r"\x1B[2J"), // clears a terminal
        (b"\0\x07\x7f", r"\u0000\u0007\u007F", r"\x00\x07\x7F"),
        (b"\t", r"\t", r"\x09"),
        (b"\xff\xc3", r"\\xFF\\xC3", r"\xFF\xC3"), // no UTF-8
        (b"\xc0\xaf", r"\\xC0\\xAF", r"\xC0\xAF"), // overlong `/`
        ("\u{2028}".as_bytes(), r"\u2028", r"\xE2\x80\xA8"), // a line end to some readers
        ("\u{9b}2J".as_bytes(), r"\u009B2J", r"\xC2\x9B2J"), // the one-character CSI
        ("\u{202e}gpj".as_bytes(), r"\u202Egpj", r"\xE2\x80\xAEgpj"), // writes backwards
        (
            "naïve \u{1f600}".as_bytes(),
            "naïve \u{1f600}",
            r"na\xC3\xAFve \xF0\x9F\x98\x80",
        ), // letters stay in JSON
        (
            b"plain (text) 100% [ok]",
            "plain (text) 100% [ok]",
            "plain (text) 100% [ok]",
        ),
        (b"", "", ""),
    ] {
        let mut out = Vec::new();
        escape::json(&mut out, sent);
        assert_eq!(String::from_utf8(out).unwrap(), json, "{sent:?}");
        let mut out = Vec::new();
        escape::nginx(&mut out, sent);
        assert_eq!(String::from_utf8(out).unwrap(), nginx, "{sent:?}");
    }
}

#[test]
fn a_user_name_cannot_forge_columns() {
    let mut record = allowed();
    let principal = Principal {
        user: Arc::from("x [1/Jan/2000:00:00:00 +0000] \"GET /"),
        ..Principal::clone(record.principal.as_ref().unwrap())
    };
    record.principal = Some(Arc::new(principal));
    assert!(line(&record, &template(COMBINED)).starts_with(
        r"2001:db8:10:7::5 - x\x20\x5B1/Jan/2000:00:00:00\x20+0000\x5D\x20\x22GET\x20/ [24/Nov/2026:"
    ));
}

#[test]
fn secrets_of_queries_are_redacted() {
    let default = Redaction::default();
    for (query, want) in [
        ("token=abc", "token=REDACTED"),
        ("a=1&TOKEN=abc&b=2", "a=1&TOKEN=REDACTED&b=2"), // case
        ("access%5Ftoken=abc", "access%5Ftoken=REDACTED"), // an escape in the key
        ("api-key=abc", "api-key=REDACTED"),
        ("user[password]=abc&x", "user[password]=REDACTED&x"),
        ("user%5Bpassword%5D=abc", "user%5Bpassword%5D=REDACTED"),
        ("login.password=abc", "login.password=REDACTED"),
        ("token=a&token=b", "token=REDACTED&token=REDACTED"), // every occurrence
        ("token=a=b==", "token=REDACTED"),                    // a value with `=`
        ("a=1;token=abc;def&b=2", "a=1;token=REDACTED&b=2"),  // `;` may belong to the value
        ("next=/cb?code=abc&x=1", "next=/cb?code=REDACTED&x=1"), // a URL in a value
        ("token=", "token=REDACTED"),
        ("token", "token"), // no value
        ("tokens=abc", "tokens=abc"),
        ("a=token", "a=token"),
        ("%zz=1&%=2", "%zz=1&%=2"), // broken escapes
        ("=", "="),
        ("", ""),
    ] {
        let clean = redact::query(query.as_bytes(), &default);
        assert_eq!(String::from_utf8_lossy(&clean), want, "{query}");
    }
    for (referer, want) in [
        ("https://u:p@h/x?a=1", "https://REDACTED@h/x?a=1"),
        ("https://u@h", "https://REDACTED@h"),
        (
            "https://h/x#access_token=abc",
            "https://h/x#access_token=REDACTED",
        ), // implicit flow
        ("https://h/x?sig=abc#frag", "https://h/x?sig=REDACTED"),
        ("https://h/@user?q=a@b", "https://h/@user?q=a@b"), // no user name
        ("-", "-"),
    ] {
        let clean = redact::referer(referer.as_bytes(), &default);
        assert_eq!(String::from_utf8_lossy(&clean), want, "{referer}");
    }
    let none = Redaction::new([]);
    assert_eq!(&*redact::query(b"token=abc", &none), b"token=abc");
}

#[test]
fn secrets_stay_out_of_every_variable() {
    let record = allowed();
    for variables in [
        "$request",
        "$request_uri",
        "$args",
        "$query_string",
        "$http_referer",
    ] {
        let line = line(&record, &template(variables));
        assert!(line.contains("REDACTED"), "{variables}: {line}");
        assert!(
            !line.contains("s3cr3t") && !line.contains("code=123"),
            "{variables}: {line}"
        );
    }
}

#[test]
fn headers_are_kept_by_name_only() {
    let log = Arc::new(template(
        "$http_x_tag|$http_accept|$http_x_original_uri|$http_referer",
    ));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-tag", "one"),
        ("x-tag", "two\""),
        ("x-original-uri", "/x?token=abc"),
        ("authorization", "Bearer abc"),
        ("cookie", "sid=abc"),
    ] {
        let name = HeaderName::from_static(name);
        headers.append(name, HeaderValue::from_static(value));
    }
    let mut record = malformed();
    // Two logs that name the same header do not double it.
    record.keep_headers(&headers, &[Arc::clone(&log), Arc::clone(&log)]);
    assert_eq!(line(&record, &log), r"one, two\x22|-|/x?token=REDACTED|-");
    assert!(!format!("{record:?}").contains("Bearer"));
}

#[test]
fn addresses_are_logged_as_privacy_allows() {
    for (address, masked) in [
        ("203.0.113.9", "203.0.113.0"),
        ("::ffff:203.0.113.9", "203.0.113.0"), // mapped
        ("2001:db8:10:7::5", "2001:db8:10::"),
        ("::1", "::"),
    ] {
        let mut record = malformed();
        record.client = Some(address.parse().unwrap());
        let mut log = template("$remote_addr");
        log.privacy = Privacy::Mask;
        assert_eq!(line(&record, &log), masked, "{address}");
    }
}

/// One test, because the key of the day is the process's.
#[test]
fn a_hash_lasts_a_day() {
    let mut log = template("$remote_addr");
    log.privacy = Privacy::HashDaily;
    let mut record = malformed();
    record.started = "2031-01-01T23:59:59.5Z".parse().unwrap();
    let before = line(&record, &log);
    let hex = before.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(before.len() == 16 && hex, "{before}");
    assert_eq!(line(&record, &log), before, "another worker agrees");
    record.client = Some("198.51.100.1".parse().unwrap());
    assert_ne!(line(&record, &log), before, "another address");
    record.client = None;
    record.duration = Duration::from_secs(1);
    let after = line(&record, &log);
    assert_ne!(after, before, "written after midnight");
    record.duration = Duration::ZERO;
    assert_eq!(line(&record, &log), after, "the old key is forgotten");
}

#[test]
fn peer_is_as_private_as_the_client() {
    let mut log = log(Format::Json);
    log.privacy = Privacy::Mask;
    let line = line(&malformed(), &log);
    assert!(
        line.contains(r#""client.address":"203.0.113.0","network.peer.address":"203.0.113.0""#)
    );
}

#[test]
fn a_log_holds_what_it_was_asked_for() {
    let of = |lines: Lines, sites: &[&str]| AccessLog {
        lines,
        sites: sites.iter().map(|site| Arc::from(*site)).collect(),
        ..log(Format::Json)
    };
    let with = |change: fn(&mut Record)| {
        let mut record = malformed();
        change(&mut record);
        record
    };
    let denied_only = of(Lines::Denied, &[]);
    for (log, record, want, why) in [
        (&denied_only, denied(), true, "policy refused"),
        (&denied_only, malformed(), true, "the gate refused"),
        (
            &denied_only,
            with(|r| r.decision = Some(Decided::Challenge)),
            true,
            "asked to sign in",
        ),
        (
            &denied_only,
            with(|r| r.decision = Some(Decided::Limit)),
            true,
            "limited",
        ),
        (
            &denied_only,
            with(|r| r.status = STATUS_CLOSED),
            true,
            "closed",
        ),
        (&denied_only, allowed(), false, "allowed"),
        (
            &denied_only,
            with(|r| r.status = 502),
            false,
            "a failure is no refusal",
        ),
        (
            &denied_only,
            with(|r| r.status = 499),
            false,
            "the client left",
        ),
        (
            &denied_only,
            with(|r| (r.status, r.answered_by) = (403, AnsweredBy::Upstream)),
            false,
            "the application refused",
        ),
        (&of(Lines::All, &[]), malformed(), true, "every request"),
        (
            &of(Lines::All, &["app.example.com"]),
            allowed(),
            true,
            "of the site",
        ),
        (
            &of(Lines::All, &["other.example"]),
            allowed(),
            false,
            "of another site",
        ),
        (
            &of(Lines::All, &["app.example.com"]),
            malformed(),
            false,
            "of no site",
        ),
        (
            &of(Lines::Denied, &["app.example.com"]),
            allowed(),
            false,
            "both must hold",
        ),
    ] {
        assert_eq!(holds(log, &record), want, "{why}");
    }
}

/// Lines that nginx 1.22 wrote for these requests, time and address apart.
#[test]
fn combined_is_what_nginx_writes() {
    const PLACE: &str = "203.0.113.9 - - [24/Nov/2026:10:00:00 +0000] ";
    for (method, target, version, referer, agent, want) in [
        (
            Method::GET,
            "/",
            Version::HTTP_11,
            None,
            None,
            r#""GET / HTTP/1.1" 200 5 "-" "-""#,
        ),
        (
            Method::GET,
            "/a%2Fb?x=1&y",
            Version::HTTP_11,
            Some(&b"http://x/\""[..]),
            Some(&b"a\"b\\c\xff\xc3\xa9\td"[..]),
            r#""GET /a%2Fb?x=1&y HTTP/1.1" 200 5 "http://x/\x22" "a\x22b\x5Cc\xFF\xC3\xA9\x09d""#,
        ),
        (
            Method::OPTIONS,
            "*",
            Version::HTTP_11,
            None,
            None,
            r#""OPTIONS * HTTP/1.1" 200 5 "-" "-""#,
        ),
    ] {
        let mut record = malformed();
        record.method = Some(method);
        record.target = Some(PathAndQuery::try_from(target).unwrap());
        record.version = Some(version);
        record.referer = referer.map(|value| HeaderValue::from_bytes(value).unwrap());
        record.user_agent = agent.map(|value| HeaderValue::from_bytes(value).unwrap());
        (record.status, record.response_body) = (200, 5);
        assert_eq!(line(&record, &template(COMBINED)), format!("{PLACE}{want}"));
    }
}

#[test]
fn local_times_follow_the_zone() {
    let mut record = malformed();
    record.started = "2026-03-29T00:59:59.9999Z".parse().unwrap();
    let mut formatter = Formatter::new(TimeZone::get("Europe/Amsterdam").unwrap());
    let log = template("$time_local $time_iso8601 $msec");
    for (duration, want) in [
        (
            0,
            "29/Mar/2026:01:59:59 +0100 2026-03-29T01:59:59+01:00 1774745999.999\n",
        ),
        (
            1,
            "29/Mar/2026:03:00:00 +0200 2026-03-29T03:00:00+02:00 1774746000.000\n",
        ), // summer time begins
    ] {
        record.duration = Duration::from_millis(duration);
        let mut out = Vec::new();
        formatter.line(&record, &log, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is sent: one line, valid JSON, and letters survive as they were.
    #[test]
    fn every_json_line_parses(
        agent in proptest::collection::vec(any::<u8>(), 0..64),
        user in any::<String>(),
        path in "/[!-~]{0,20}",
        method in "[A-Z!#$%&'*+.^_`|~-]{1,12}",
        micros in 0_u64..4_000_000_000_000,
    ) {
        let mut record = allowed();
        record.user_agent = HeaderValue::from_bytes(&agent).ok();
        let principal = Principal { user: Arc::from(user.as_str()), ..Principal::clone(record.principal.as_ref().unwrap()) };
        record.principal = Some(Arc::new(principal));
        record.target = PathAndQuery::try_from(path.as_str()).ok();
        record.method = Method::from_bytes(method.as_bytes()).ok();
        record.duration = Duration::from_micros(micros);
        let line = line(&record, &log(Format::Json));
        let breaks = line.contains(|c: char| c.is_control() || c == '\u{2028}');
        prop_assert!(!breaks);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(object["user.id"].as_str(), Some(user.as_str()));
        prop_assert_eq!(object["http.request.method"].as_str(), Some(method.as_str()));
        prop_assert!((object["duration"].as_f64().unwrap() - Duration::from_micros(micros).as_secs_f64()).abs() < 1e-6);
        if let Some(text) = std::str::from_utf8(&agent).ok().filter(|_| record.user_agent.is_some()) {
            prop_assert_eq!(object["user_agent.original"].as_str(), Some(text));
        }
    }

    /// Six quotes delimit combined's three texts, and nothing else is a quote, a control character or a byte above 126.
    #[test]
    fn every_combined_line_keeps_its_columns(
        agent in proptest::collection::vec(any::<u8>(), 0..64),
        referer in proptest::collection::vec(any::<u8>(), 0..64),
        user in any::<String>(),
    ) {
        let mut record = allowed();
        record.user_agent = HeaderValue::from_bytes(&agent).ok();
        record.referer = HeaderValue::from_bytes(&referer).ok();
        let principal = Principal { user: Arc::from(user.as_str()), ..Principal::clone(record.principal.as_ref().unwrap()) };
        record.principal = Some(Arc::new(principal));
        let line = line(&record, &template(COMBINED));
        prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert_eq!(line.matches('"').count(), 6);
        prop_assert_eq!(line.split(' ').nth(3).unwrap_or("").starts_with("[24/Nov/2026"), true);
    }
}
