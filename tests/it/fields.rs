//! Fields of requests and answers: what goes one hop only, what the proxy sets, what a client may never say.

use crate::support::{Gate, Origin, Then, open};

/// A gate that lets everything pass to this origin.
fn gate(origin: &Origin) -> Gate {
    Gate::start(&open(origin))
}

/// An origin that answers every request with these bytes, then goes on or closes.
fn answering(bytes: &'static [u8], then: Then) -> Origin {
    Origin::scripted(move |exchange| {
        exchange.read_body();
        exchange.send(bytes);
        then
    })
}

#[test]
fn fields_that_only_the_proxy_may_set_never_pass() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}headers_to_upstream = {{ user = \"X-Login\", roles = \"X-Groups\" }}\nstrip_headers = [\"X-Country\", \"X-Client-Cert-CN\"]\n",
        open(&origin)
    ));
    let names = "
            Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Port
            X-Forwarded-Prefix X-Forwarded-User X-Forwarded-Email X-Forwarded-Client-Cert
            X-Real-IP X-Client-IP X-Cluster-Client-IP True-Client-IP CF-Connecting-IP X-User
            X-Roles X-Remote-User Remote-User X-Auth-Request-User X-Auth-Request-Email
            X-Original-URL X-Rewrite-URL X-HTTP-Method X-HTTP-Method-Override X-Method-Override
            X-Login X-Groups X-Country X-Client-Cert-CN
        "
    .split_whitespace();
    for name in names {
        for spelling in [
            name.to_owned(),
            name.to_lowercase(),
            name.to_uppercase(),
            name.replace('-', "_"),
            name.replace('-', "."),
            name.replacen('-', "_", 1),
        ] {
            gate.connect()
                .ask("GET /x", &[&format!("{spelling}: evil-value")])
                .is(200);
            let seen = origin.last();
            let raw = String::from_utf8_lossy(&seen.raw).into_owned();
            assert!(
                !raw.contains("evil-value"),
                "{spelling} reaches the origin: {raw}"
            );
            if name != "X-Forwarded-For"
                && name != "X-Forwarded-Host"
                && name != "X-Forwarded-Proto"
            {
                assert!(seen.look_alikes(name).is_empty(), "{spelling}: {raw}");
            }
        }
    }
    gate.connect()
        .ask(
            "GET /x",
            &["X-Userland: fine", "X_Custom: fine", "X.Custom: fine"],
        )
        .is(200);
    let seen = origin.last();
    assert_eq!(
        (
            seen.header("x-userland"),
            seen.header("x_custom"),
            seen.header("x.custom")
        ),
        (Some("fine"), Some("fine"), Some("fine")),
        "others pass"
    );
}

#[test]
fn trailers_cannot_bring_what_headers_may_not() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    client.ask_with(
        "POST /x",
        &["Transfer-Encoding: chunked", "Trailer: X-User"],
        b"1\r\na\r\n0\r\nX-User: evil-value\r\nX-Forwarded-For: 127.0.0.5\r\nContent-Length: 7\r\n\r\n",
    );
    let raw = String::from_utf8_lossy(&origin.last().raw).into_owned();
    assert!(
        !raw.contains("evil-value") && !raw.contains("127.0.0.5"),
        "{raw}"
    );
}

#[test]
fn fields_of_one_hop_go_no_further_in_answers() {
    let origin = answering(
        b"HTTP/1.1 200 OK\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
          Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Keep: 2\r\nContent-Length: 2\r\n\r\nok",
        Then::Next,
    );
    let gate = gate(&origin);
    let response = gate.connect().ask("GET /x", &[]).is(200);
    for gone in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(
            response.all(gone).is_empty(),
            "{gone}: {:?}",
            response.fields
        );
    }
    assert!(
        !response
            .all("connection")
            .join(",")
            .to_lowercase()
            .contains("x-hop")
    );
    assert_eq!(response.header("x-keep"), Some("2"));
}

#[test]
fn fields_of_one_hop_go_no_further_in_requests() {
    for (fields, gone, kept, why) in [
        (
            &["Connection: x-a, x-b", "X-A: 1", "X-B: 2", "X-C: 3"][..],
            &["x-a", "x-b"][..],
            &["x-c"][..],
            "named in Connection",
        ),
        (&["Connection: X-A", "x-a: 1"], &["x-a"], &[], "names fold"),
        (
            &["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive"],
            &["keep-alive", "proxy-connection"],
            &[],
            "always",
        ),
        (
            &["TE: gzip", "Connection: te"],
            &["te"],
            &[],
            "TE other than trailers",
        ),
        (
            &["Upgrade: h2c, foo/2", "Connection: upgrade"],
            &["upgrade"],
            &[],
            "no upgrade but WebSocket",
        ),
        (
            &[
                "Connection: x-request-id, x-forwarded-for, x-forwarded-host, x-forwarded-proto, host",
            ],
            &[],
            &[
                "x-request-id",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "host",
            ],
            "a client cannot name away what the proxy sets",
        ),
    ] {
        let origin = Origin::start();
        let gate = gate(&origin);
        gate.connect().ask("GET /x", fields).is(200);
        let seen = origin.only();
        for name in gone {
            assert!(
                seen.all(name).is_empty(),
                "{why}: {name} in {:?}",
                seen.fields
            );
        }
        for name in kept {
            assert!(
                seen.header(name).is_some(),
                "{why}: {name} in {:?}",
                seen.fields
            );
        }
    }
}

#[test]
fn repeated_fields_stay_apart_and_in_order() {
    let origin = answering(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: b=2; Path=/\r\nX-Other: Kept AsIs\r\nSet-Cookie: a=1; HttpOnly\r\nContent-Length: 0\r\n\r\n",
        Then::Next,
    );
    let gate = gate(&origin);
    let response = gate
        .connect()
        .ask(
            "GET /x",
            &["X-Multi: 1", "X-Multi: 2", "Accept: b;q=0.5, a"],
        )
        .is(200);
    assert_eq!(response.all("set-cookie"), ["b=2; Path=/", "a=1; HttpOnly"]);
    assert_eq!(response.header("x-other"), Some("Kept AsIs"));
    let seen = origin.only();
    assert_eq!(seen.all("x-multi"), ["1", "2"]);
    assert_eq!(seen.header("accept"), Some("b;q=0.5, a"));
}

#[test]
fn host_goes_up_as_received() {
    let origin = Origin::start();
    let gate = gate(&origin);
    for host in [
        "app.test",
        "App.Test",
        "app.test:8080",
        "app.test.",
        "127.0.0.1:1",
        "[::1]:8080",
    ] {
        gate.connect()
            .ask("GET /x", &[&format!("Host: {host}")])
            .is(200);
        assert_eq!(origin.last().header("host"), Some(host));
    }
}

#[test]
fn upstream_learns_who_asked_for_what() {
    let origin = Origin::start();
    let gate = gate(&origin);
    let response = gate
        .connect_from("127.0.0.9")
        .ask(
            "GET /x",
            &["Host: app.test:8080", "X-Request-Id: chosen-by-the-client"],
        )
        .is(200);
    let seen = origin.only();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.9"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("app.test:8080"));
    let id = seen.header("x-request-id").unwrap();
    assert_ne!(
        id, "chosen-by-the-client",
        "a stranger cannot choose the id"
    );
    assert_eq!(response.header("x-request-id"), Some(id));
    assert!(
        seen.all("forwarded").is_empty() && seen.all("via").is_empty(),
        "only where asked"
    );
}

#[test]
fn forwarded_and_via_are_sent_where_asked() {
    let origin = Origin::start();
    let gate = Gate::start(&format!("{}forwarded = true\nvia = true\n", open(&origin)));
    gate.connect_from("127.0.0.9")
        .ask("GET /x", &["Forwarded: for=198.51.100.7", "Via: 1.1 evil"])
        .is(200);
    let seen = origin.only();
    let forwarded = seen.header("forwarded").unwrap();
    assert!(
        forwarded.contains("for=127.0.0.9") && forwarded.contains("proto=http"),
        "{forwarded}"
    );
    assert!(!forwarded.contains("198.51.100.7"), "{forwarded}");
    assert!(
        seen.all("via").join(", ").contains("1.1 "),
        "{:?}",
        seen.fields
    );
}

#[test]
fn trace_context_passes() {
    let origin = Origin::start();
    let gate = gate(&origin);
    gate.connect()
        .ask(
            "GET /x",
            &[
                "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "tracestate: a=b",
            ],
        )
        .is(200);
    let seen = origin.only();
    let parent = seen.header("traceparent").unwrap();
    assert!(
        parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{parent}"
    );
    assert_eq!(seen.header("tracestate"), Some("a=b"));
}
