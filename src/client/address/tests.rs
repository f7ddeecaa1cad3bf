#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]

use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

fn trust(header: Header) -> Trust {
    let networks = [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "2001:db8:f::/48",
        "::ffff:172.16.0.0/108",
    ];
    Trust::new(&networks.map(|text| text.parse().unwrap()), header)
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The answer as text: `client`, `client https host`, or the error.
fn shown(derived: Result<Derived<'_>, BadForwarding>) -> String {
    match derived {
        Ok(derived) => {
            let scheme = derived.scheme.map(|scheme| format!(" {}", scheme.as_str()));
            let host = derived.host.map(|host| format!(" {host}"));
            format!(
                "{}{}{}",
                derived.client,
                scheme.unwrap_or_default(),
                host.unwrap_or_default()
            )
        }
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn peers_are_trusted_by_network() {
    let trust = trust(Header::XForwardedFor);
    for (peer, want) in [
        ("9.255.255.255", false),
        ("10.0.0.0", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("192.0.2.0", false),
        ("192.0.2.1", true),
        ("192.0.2.2", false),
        ("::ffff:10.1.2.3", true), // mapped
        ("::ffff:9.1.2.3", false),
        ("::10.1.2.3", false), // IPv4-compatible is not IPv4
        ("172.16.0.1", true),  // trusted as a mapped network
        ("172.32.0.1", false),
        ("2001:db8:f::1", true),
        ("2001:db8:10::", false),
        ("2001:db8:e:ffff:ffff:ffff:ffff:ffff", false),
        ("::1", false),
    ] {
        assert_eq!(trust.trusts(peer.parse().unwrap()), want, "{peer}");
    }
    assert!(!Trust::default().trusts("127.0.0.1".parse().unwrap()));
    let everybody = Trust::new(
        &["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        Header::Forwarded,
    );
    assert!(
        everybody.trusts("255.255.255.255".parse().unwrap())
            && everybody.trusts("::".parse().unwrap())
    );
    let adjacent =
        ["10.0.0.0/25", "10.0.0.128/25", "10.0.0.64/26"].map(|text| text.parse().unwrap());
    assert_eq!(
        Trust::new(&adjacent, Header::Forwarded).v4.len(),
        1,
        "neighbours become one range"
    );
}

#[test]
fn x_forwarded_for_is_read_from_the_right() {
    let trust = trust(Header::XForwardedFor);
    for (peer, lines, want, why) in [
        (
            "203.0.113.9",
            vec!["1.2.3.4"],
            "203.0.113.9",
            "an untrusted peer's header is ignored",
        ),
        (
            "203.0.113.9",
            vec!["garbage, ,"],
            "203.0.113.9",
            "whatever is in it",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4, unknown"],
            "Address",
            "the right-most untrusted entry must be an address",
        ),
        ("10.0.0.1", vec![""], "Address", "empty"),
        ("10.0.0.1", vec!["   "], "Address", "blank"),
        (
            "10.0.0.1",
            vec!["1.2.3.4,"],
            "Address",
            "an empty entry at the end",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4,,10.0.0.2"],
            "Address",
            "an empty entry that the walk meets",
        ),
        ("10.0.0.1", vec!["1.2.3"], "Address", "three numbers"),
        ("10.0.0.1", vec!["1.2.3.4.5"], "Address", "five"),
        (
            "10.0.0.1",
            vec!["1.2.3.256"],
            "Address",
            "a number too large",
        ),
        ("10.0.0.1", vec!["01.2.3.4"], "Address", "perhaps octal"),
        ("10.0.0.1", vec!["0x1.2.3.4"], "Address", "hexadecimal"),
        ("10.0.0.1", vec!["16909060"], "Address", "one number"),
        ("10.0.0.1", vec!["1.2.3.4/32"], "Address", "a network"),
        (
            "10.0.0.1",
            vec!["1.2.3.4 5.6.7.8"],
            "Address",
            "no comma between",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4;5.6.7.8"],
            "Address",
            "a semicolon between",
        ),
        ("10.0.0.1", vec!["\"1.2.3.4\""], "Address", "quoted"),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4"],
            "Address",
            "RFC 7239's form in the other header",
        ),
        ("10.0.0.1", vec!["client.example.com"], "Address", "a name"),
        ("10.0.0.1", vec!["fe80::1%eth0"], "Address", "a zone"),
        (
            "10.0.0.1",
            vec!["[2001:db8::1"],
            "Address",
            "an open bracket",
        ),
        (
            "10.0.0.1",
            vec!["2001:db8::1]"],
            "Address",
            "a bracket that never opened",
        ),
        ("10.0.0.1", vec!["[1.2.3.4]"], "Address", "IPv4 in brackets"),
        (
            "10.0.0.1",
            vec!["[2001:db8::1]x"],
            "Address",
            "text behind brackets",
        ),
        (
            "10.0.0.1",
            vec!["[2001:db8::1]80"],
            "Address",
            "a port without colon",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4:"],
            "Address",
            "no port behind the colon",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4:65536"],
            "Address",
            "a port too large",
        ),
        ("10.0.0.1", vec!["1.2.3.4:+80"], "Address", "a sign"),
        ("10.0.0.1", vec!["1.2.3.4:000080"], "Address", "six digits"),
        (
            "10.0.0.1",
            vec!["2001:db8::1:2:3:4:5:6:7:8"],
            "Address",
            "too many groups",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4\u{a0}"],
            "Address",
            "a no-break space",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4, \u{ff11}.2.3.4"],
            "Address",
            "a full-width digit",
        ),
        ("10.0.0.1", vec![], "10.0.0.1", "absent: the peer"),
        ("10.0.0.1", vec!["1.2.3.4"], "1.2.3.4", "one hop"),
        (
            "10.0.0.1",
            vec!["6.6.6.6, 1.2.3.4"],
            "1.2.3.4",
            "the client's own claim is not believed",
        ),
        (
            "10.0.0.1",
            vec!["garbage\", 1.2.3.4"],
            "1.2.3.4",
            "nor read",
        ),
        (
            "10.0.0.1",
            vec!["10.0.0.9, 1.2.3.4"],
            "1.2.3.4",
            "nor if it names a trusted hop",
        ),
        ("10.0.0.1", vec!["1.2.3.4, 10.0.0.2"], "1.2.3.4", "two hops"),
        (
            "10.0.0.1",
            vec!["6.6.6.6, 1.2.3.4, 10.0.0.2, 192.0.2.1"],
            "1.2.3.4",
            "three hops and a claim",
        ),
        (
            "10.0.0.1",
            vec!["10.0.0.3, 10.0.0.2"],
            "10.0.0.3",
            "all trusted: the left-most",
        ),
        (
            "10.0.0.1",
            vec!["10.0.0.3"],
            "10.0.0.3",
            "the same with one",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4", "10.0.0.2"],
            "1.2.3.4",
            "several lines are one list",
        ),
        (
            "10.0.0.1",
            vec!["6.6.6.6", "1.2.3.4"],
            "1.2.3.4",
            "in their order",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4", ""],
            "Address",
            "an empty line is an empty entry",
        ),
        ("10.0.0.1", vec!["1.2.3.4,10.0.0.2"], "1.2.3.4", "no space"),
        (
            "10.0.0.1",
            vec!["  1.2.3.4\t, \t10.0.0.2  "],
            "1.2.3.4",
            "much space",
        ),
        ("10.0.0.1", vec!["1.2.3.4:56789"], "1.2.3.4", "a port"),
        ("10.0.0.1", vec!["1.2.3.4:0"], "1.2.3.4", "port 0"),
        ("10.0.0.1", vec!["2001:db8::1"], "2001:db8::1", "IPv6"),
        (
            "10.0.0.1",
            vec!["[2001:db8::1]"],
            "2001:db8::1",
            "with brackets",
        ),
        (
            "10.0.0.1",
            vec!["[2001:db8::1]:443"],
            "2001:db8::1",
            "with a port",
        ),
        (
            "10.0.0.1",
            vec!["2001:DB8::0:1"],
            "2001:db8::1",
            "not in its shortest form",
        ),
        ("10.0.0.1", vec!["::ffff:1.2.3.4"], "1.2.3.4", "mapped"),
        (
            "10.0.0.1",
            vec!["[::ffff:1.2.3.4]:80"],
            "1.2.3.4",
            "mapped, brackets, port",
        ),
        (
            "10.0.0.1",
            vec!["::ffff:102:304"],
            "1.2.3.4",
            "mapped, in hexadecimal",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4, ::ffff:10.0.0.2"],
            "1.2.3.4",
            "a trusted hop, mapped",
        ),
        (
            "10.0.0.1",
            vec!["1.2.3.4, 2001:db8:f::9"],
            "1.2.3.4",
            "a trusted hop of the other family",
        ),
        (
            "::ffff:10.0.0.1",
            vec!["1.2.3.4"],
            "1.2.3.4",
            "the peer, mapped",
        ),
        (
            "::ffff:203.0.113.9",
            vec!["1.2.3.4"],
            "203.0.113.9",
            "the same, untrusted",
        ),
        ("2001:db8:f::1", vec!["1.2.3.4"], "1.2.3.4", "an IPv6 peer"),
        (
            "10.0.0.1",
            vec!["127.0.0.1"],
            "127.0.0.1",
            "loopback is an address like another",
        ),
    ] {
        let fields: Vec<(&str, &str)> = lines
            .iter()
            .map(|line| ("x-forwarded-for", *line))
            .collect();
        assert_eq!(
            shown(trust.derive(peer.parse().unwrap(), &headers(&fields))),
            want,
            "{why}: {lines:?}"
        );
    }
}

#[test]
fn forwarded_is_read_from_the_right() {
    let trust = trust(Header::Forwarded);
    for (peer, lines, want, why) in [
        (
            "203.0.113.9",
            vec!["for=1.2.3.4;proto=https"],
            "203.0.113.9",
            "an untrusted peer's header is ignored",
        ),
        (
            "203.0.113.9",
            vec!["\""],
            "203.0.113.9",
            "whatever is in it",
        ),
        ("10.0.0.1", vec!["for=unknown"], "Address", "unknown"),
        ("10.0.0.1", vec!["for=_hidden"], "Address", "obfuscated"),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4, for=_hidden"],
            "Address",
            "obfuscated on the right of an address",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4, for=unknown, for=10.0.0.2"],
            "Address",
            "unknown in the middle",
        ),
        ("10.0.0.1", vec![""], "Address", "empty"),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4,"],
            "Address",
            "an empty element at the end",
        ),
        ("10.0.0.1", vec!["proto=https"], "Address", "no `for`"),
        ("10.0.0.1", vec!["for="], "Address", "an empty value"),
        (
            "10.0.0.1",
            vec!["for=\"\""],
            "Address",
            "an empty quoted value",
        ),
        ("10.0.0.1", vec!["for"], "Syntax", "no value"),
        ("10.0.0.1", vec!["=1.2.3.4"], "Syntax", "no name"),
        (
            "10.0.0.1",
            vec!["1.2.3.4"],
            "Syntax",
            "the other header's form",
        ),
        (
            "10.0.0.1",
            vec!["for = 1.2.3.4"],
            "Syntax",
            "spaces around the sign",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4 proto=https"],
            "Syntax",
            "no semicolon",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;for=5.6.7.8"],
            "Syntax",
            "twice in one element",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;proto=http;Proto=https"],
            "Syntax",
            "the same for another parameter",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;by=_a;by=_b"],
            "Syntax",
            "and for one that is not read",
        ),
        (
            "10.0.0.1",
            vec!["for=\"1.2.3.4"],
            "Syntax",
            "a quote that never closes",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4\""],
            "Syntax",
            "a quote that never opened",
        ),
        (
            "10.0.0.1",
            vec!["for=\"1.2.3.4\\\""],
            "Syntax",
            "a closing quote that is escaped",
        ),
        (
            "10.0.0.1",
            vec!["for=\"1.2.3.4\"x"],
            "Syntax",
            "text behind a quoted value",
        ),
        (
            "10.0.0.1",
            vec!["for=\"2001:db8::1\""],
            "Address",
            "IPv6 needs its brackets",
        ),
        (
            "10.0.0.1",
            vec!["for=\"[2001:db8::1\""],
            "Address",
            "an open bracket",
        ),
        (
            "10.0.0.1",
            vec!["for=\"1.2.3.4, 5.6.7.8\""],
            "Address",
            "a list in quotes",
        ),
        (
            "10.0.0.1",
            vec!["for=\"\\1.2.3.4\""],
            "Address",
            "an escape in an address",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;proto=ftp"],
            "Scheme",
            "another scheme",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;proto=\"\""],
            "Scheme",
            "no scheme",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;host=\"a\\\"b\""],
            "Host",
            "an escape in a host",
        ),
        ("10.0.0.1", vec![], "10.0.0.1", "absent: the peer"),
        ("10.0.0.1", vec!["for=1.2.3.4"], "1.2.3.4", "one hop"),
        (
            "10.0.0.1",
            vec!["For=1.2.3.4"],
            "1.2.3.4",
            "names have no case",
        ),
        ("10.0.0.1", vec!["for=\"1.2.3.4\""], "1.2.3.4", "quoted"),
        (
            "10.0.0.1",
            vec!["for=\"1.2.3.4:80\""],
            "1.2.3.4",
            "with a port",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4:80"],
            "1.2.3.4",
            "unquoted, as many write it",
        ),
        (
            "10.0.0.1",
            vec!["for=\"1.2.3.4:_port\""],
            "1.2.3.4",
            "with an obfuscated port",
        ),
        (
            "10.0.0.1",
            vec!["for=\"1.2.3.4:_\""],
            "Address",
            "which has at least one character",
        ),
        (
            "10.0.0.1",
            vec!["for=\"[2001:db8::1]\""],
            "2001:db8::1",
            "IPv6",
        ),
        (
            "10.0.0.1",
            vec!["for=\"[2001:db8::1]:4711\""],
            "2001:db8::1",
            "IPv6 with a port",
        ),
        (
            "10.0.0.1",
            vec!["for=[2001:db8::1]"],
            "2001:db8::1",
            "unquoted, as some write it",
        ),
        (
            "10.0.0.1",
            vec!["for=\"[::ffff:1.2.3.4]\""],
            "1.2.3.4",
            "mapped",
        ),
        (
            "10.0.0.1",
            vec!["for=6.6.6.6, for=1.2.3.4"],
            "1.2.3.4",
            "the client's own claim is not believed",
        ),
        (
            "10.0.0.1",
            vec!["for=\"6.6.6.6, for=1.2.3.4"],
            "1.2.3.4",
            "its stray quote swallows nothing",
        ),
        (
            "10.0.0.1",
            vec!["x=\"a\\, for=1.2.3.4"],
            "1.2.3.4",
            "nor with a backslash",
        ),
        (
            "10.0.0.1",
            vec!["for=6.6.6.6;x=\", for=\"[2001:db8::7]\""],
            "2001:db8::7",
            "nor between the hop's own quotes",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4, for=10.0.0.2;by=10.0.0.1"],
            "1.2.3.4",
            "two hops",
        ),
        (
            "10.0.0.1",
            vec!["for=10.0.0.3, for=10.0.0.2"],
            "10.0.0.3",
            "all trusted: the left-most",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4", "for=10.0.0.2"],
            "1.2.3.4",
            "several lines are one list",
        ),
        (
            "10.0.0.1",
            vec!["for=6.6.6.6", "for=1.2.3.4"],
            "1.2.3.4",
            "in their order",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;proto=https;host=a.example;by=_x"],
            "1.2.3.4 https a.example",
            "all of it",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;proto=\"HTTPS\";host=\"a.example:8443\""],
            "1.2.3.4 https a.example:8443",
            "quoted",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;;proto=http;"],
            "1.2.3.4 http",
            "empty pairs",
        ),
        (
            "10.0.0.1",
            vec![" for=1.2.3.4 ; proto=http "],
            "1.2.3.4 http",
            "spaces around pairs",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4;ext=\"a, b; c=\\\"d\\\"\""],
            "1.2.3.4",
            "an extension with everything in it",
        ),
        (
            "10.0.0.1",
            vec![
                "for=6.6.6.6;proto=http;host=evil, for=1.2.3.4;proto=https;host=a.example, for=10.0.0.2;proto=http;host=inner",
            ],
            "1.2.3.4 https a.example",
            "the outermost trusted hop saw the client",
        ),
        (
            "10.0.0.1",
            vec!["for=6.6.6.6;proto=https;host=evil, for=1.2.3.4"],
            "1.2.3.4",
            "what the client says of its scheme counts nothing",
        ),
        (
            "10.0.0.1",
            vec!["for=1.2.3.4, for=10.0.0.2;proto=https"],
            "1.2.3.4 https",
            "the next best word",
        ),
    ] {
        let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("forwarded", *line)).collect();
        assert_eq!(
            shown(trust.derive(peer.parse().unwrap(), &headers(&fields))),
            want,
            "{why}: {lines:?}"
        );
    }
}

#[test]
fn exactly_one_header_is_read() {
    let x = trust(Header::XForwardedFor);
    let rfc = trust(Header::Forwarded);
    for (trust, peer, fields, want, why) in [
        (
            &x,
            "203.0.113.9",
            vec![("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")],
            "203.0.113.9",
            "a stranger's word",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("forwarded", "for=1.2.3.4;proto=https;host=evil")],
            "10.0.0.1",
            "the other header",
        ),
        (
            &rfc,
            "10.0.0.1",
            vec![
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-proto", "https"),
            ],
            "10.0.0.1",
            "the other headers",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-real-ip", "1.2.3.4"), ("cf-connecting-ip", "1.2.3.4")],
            "10.0.0.1",
            "never any other",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=_x")],
            "1.2.3.4",
            "what is not read cannot be bad",
        ),
        (
            &rfc,
            "10.0.0.1",
            vec![("x-forwarded-for", "x"), ("forwarded", "for=1.2.3.4")],
            "1.2.3.4",
            "the same the other way round",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-proto", "gopher")],
            "Scheme",
            "an unknown scheme",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-proto", "https;http")],
            "Scheme",
            "no list",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-host", "\u{e9}\u{ff}")],
            "10.0.0.1 \u{e9}\u{ff}",
            "text, though no host: intake judges it",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-proto", "https")],
            "10.0.0.1 https",
            "a scheme alone",
        ),
        (
            &x,
            "10.0.0.1",
            vec![
                ("x-forwarded-proto", "HTTP"),
                ("x-forwarded-host", "a.example:80"),
            ],
            "10.0.0.1 http a.example:80",
            "both",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-proto", "wss")],
            "10.0.0.1 https",
            "a WebSocket's scheme",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-proto", "http, https")],
            "10.0.0.1 https",
            "the peer's own entry",
        ),
        (
            &x,
            "10.0.0.1",
            vec![
                ("x-forwarded-proto", "http"),
                ("x-forwarded-proto", "https"),
            ],
            "10.0.0.1 https",
            "in lines as well",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-host", "evil, a.example")],
            "10.0.0.1 a.example",
            "the same for hosts",
        ),
        (
            &x,
            "10.0.0.1",
            vec![("x-forwarded-proto", ""), ("x-forwarded-host", " ")],
            "10.0.0.1",
            "empty is absent",
        ),
    ] {
        assert_eq!(
            shown(trust.derive(peer.parse().unwrap(), &headers(&fields))),
            want,
            "{why}"
        );
    }
    let mut bytes = HeaderMap::new();
    bytes.insert(
        "x-forwarded-host",
        HeaderValue::from_bytes(b"\xff\xfe").unwrap(),
    );
    assert_eq!(
        x.derive("10.0.0.1".parse().unwrap(), &bytes),
        Err(BadForwarding::Host)
    );
    bytes.insert(
        "x-forwarded-for",
        HeaderValue::from_bytes(b"1.2.3.4, \xff").unwrap(),
    );
    assert_eq!(
        x.derive("10.0.0.1".parse().unwrap(), &bytes),
        Err(BadForwarding::Address)
    );
}

/// The obvious way: split everything, look from the right.
fn naive(trusted: &[IpNet], peer: IpAddr, lines: &[String]) -> Option<IpAddr> {
    let trusts = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    if !trusts(peer) || lines.is_empty() {
        return Some(peer);
    }
    let joined = lines.join(",");
    let mut client = None;
    for entry in joined.split(',').rev() {
        let text = entry.trim_matches([' ', '\t']);
        let bare: Option<IpAddr> = text.parse().ok();
        let with_port = || {
            text.parse::<std::net::SocketAddr>()
                .ok()
                .map(|socket| socket.ip())
        };
        let in_brackets = || {
            text.strip_prefix('[')?
                .strip_suffix(']')?
                .parse::<Ipv6Addr>()
                .ok()
                .map(IpAddr::from)
        };
        let address = bare.or_else(with_port).or_else(in_brackets)?.to_canonical();
        client = Some(address);
        if !trusts(address) {
            break;
        }
    }
    client
}

fn entry() -> impl Strategy<Value = String> {
    let address = prop_oneof![
        (0..4_u8).prop_map(|last| format!("10.0.0.{last}")),
        (0..4_u8).prop_map(|last| format!("203.0.113.{last}")),
        (0..4_u8).prop_map(|last| format!("[2001:db8:f::{last}]")),
        (0..4_u8).prop_map(|last| format!("2001:db8::{last}")),
        (0..4_u8).prop_map(|last| format!("::ffff:10.0.0.{last}")),
        Just("10.0.0.1:80".to_owned()),
        Just("[2001:db8::1]:443".to_owned()),
    ];
    let junk = prop_oneof![
        Just("unknown".to_owned()),
        Just(String::new()),
        "[ -~&&[^,]]{0,8}",
        "[0-9.:\\[\\]]{0,12}",
    ];
    prop_oneof![8 => address, 1 => junk]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_walk_equals_the_obvious_one(
        peer in prop_oneof![3 => Just("10.0.0.1"), 1 => Just("203.0.113.1")],
        lines in proptest::collection::vec(proptest::collection::vec(entry(), 1..5), 0..3),
    ) {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "2001:db8:f::/48"].map(|text| text.parse().unwrap()).to_vec();
        let trust = Trust::new(&trusted, Header::XForwardedFor);
        let lines: Vec<String> = lines.into_iter().map(|entries| entries.join(", ")).collect();
        let fields: Vec<(&str, &str)> = lines.iter().map(|line| ("x-forwarded-for", line.as_str())).collect();
        let headers = headers(&fields);
        let peer: IpAddr = peer.parse().unwrap();
        let got = trust.derive(peer, &headers).ok().map(|derived| derived.client);
        prop_assert_eq!(got, naive(&trusted, peer, &lines), "{:?}", lines);
    }

    /// The same hops in both headers give the same client.
    #[test]
    fn both_headers_agree(hops in proptest::collection::vec((prop_oneof![Just("10.0.0"), Just("203.0.113")], 0..4_u8), 1..6)) {
        let hops: Vec<String> = hops.into_iter().map(|(net, last)| format!("{net}.{last}")).collect();
        let rfc: Vec<String> = hops.iter().map(|hop| format!("for=\"{hop}\";x=\",\"")).collect();
        let x = headers(&[("x-forwarded-for", &hops.join(", "))]);
        let rfc = headers(&[("forwarded", &rfc.join(","))]);
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let from_x = trust(Header::XForwardedFor).derive(peer, &x).unwrap();
        prop_assert_eq!(trust(Header::Forwarded).derive(peer, &rfc).unwrap(), from_x);
    }

    /// Whatever bytes come, from the right peer or not: an answer, never a panic.
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..80), forwarded in any::<bool>()) {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        let (name, header) = if forwarded { ("forwarded", Header::Forwarded) } else { ("x-forwarded-for", Header::XForwardedFor) };
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        if let Ok(derived) = trust(header).derive("10.0.0.1".parse().unwrap(), &headers) {
            prop_assert_eq!(derived.client, canonical(derived.client));
        }
    }
}
