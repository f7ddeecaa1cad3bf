//! Where a request comes from: the client address behind trusted peers, and its country.

use tempfile::TempDir;

use crate::support::gate::front;
use crate::support::{Gate, Origin, country_database, open};

/// Who the client is: one header, from trusted peers only, read from the right.
#[test]
fn client_address_comes_from_trusted_peers_only() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[client]\ntrusted_proxies = [\"127.0.0.2/32\", \"10.0.0.0/8\"]\n{}[[deny]]\nname = \"only-five\"\nunless = [{{ ip = \"127.0.0.5/32\" }}]\n",
        open(&origin)
    ));
    for (peer, fields, status, why) in [
        ("127.0.0.5", &[][..], 200, "the peer itself"),
        ("127.0.0.1", &[], 403, "another peer"),
        (
            "127.0.0.1",
            &["X-Forwarded-For: 127.0.0.5"],
            403,
            "a stranger's word",
        ),
        (
            "127.0.0.5",
            &["X-Forwarded-For: 198.51.100.7"],
            200,
            "a stranger's word against himself",
        ),
        (
            "127.0.0.5",
            &["X-Forwarded-For: garbage"],
            200,
            "a stranger's garbage is not even read",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5"],
            200,
            "a trusted word",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, 10.1.2.3"],
            200,
            "a trusted hop is passed over",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, 198.51.100.7"],
            403,
            "the right-most untrusted counts",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 198.51.100.7, 127.0.0.5"],
            200,
            "what stands left of it is hearsay",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: garbage, 127.0.0.5"],
            200,
            "even garbage",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, garbage"],
            400,
            "garbage where it counts",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5, 256.1.1.1"],
            400,
            "no address",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.05"],
            400,
            "leading zeros are read in two ways",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: unknown"],
            400,
            "a word instead of an address",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: ::ffff:127.0.0.5"],
            200,
            "mapped IPv6 is IPv4",
        ),
        (
            "127.0.0.2",
            &["X-Forwarded-For: 127.0.0.5:8080"],
            200,
            "with a port",
        ),
        (
            "127.0.0.2",
            &[
                "X-Forwarded-For: 198.51.100.7",
                "X-Forwarded-For: 127.0.0.5",
            ],
            200,
            "two lines are one list",
        ),
        (
            "127.0.0.2",
            &[
                "X-Forwarded-For: 127.0.0.5",
                "X-Forwarded-For: 198.51.100.7",
            ],
            403,
            "in their order",
        ),
        (
            "127.0.0.2",
            &["X-Real-IP: 127.0.0.5"],
            403,
            "exactly one header is read",
        ),
        (
            "127.0.0.2",
            &["Forwarded: for=127.0.0.5"],
            403,
            "exactly one header is read",
        ),
        ("127.0.0.2", &[], 403, "no header: the peer"),
    ] {
        let response = gate.connect_from(peer).ask("GET /x", fields);
        assert_eq!(response.status, status, "{peer} {fields:?}: {why}");
        if status == 200 {
            assert_eq!(
                origin.last().header("x-forwarded-for"),
                Some("127.0.0.5"),
                "{why}: as judged, one entry"
            );
        }
    }
}

#[test]
fn forwarded_header_is_read_where_chosen() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "[client]\ntrusted_proxies = [\"127.0.0.2/32\"]\nheader = \"forwarded\"\n{}[[deny]]\nname = \"bad\"\nip = [\"203.0.113.0/24\", \"2001:db8:bad::/48\"]\n",
        open(&origin)
    ));
    for (fields, status, why) in [
        (&["Forwarded: for=203.0.113.9"][..], 403, "plain"),
        (
            &["Forwarded: for=\"203.0.113.9:4711\""],
            403,
            "quoted with a port",
        ),
        (
            &["Forwarded: For=\"[2001:db8:bad::1]:4711\";proto=https"],
            403,
            "IPv6",
        ),
        (
            &["Forwarded: for=203.0.113.9, for=198.51.100.7"],
            200,
            "the right-most counts",
        ),
        (
            &["Forwarded: for=198.51.100.7, for=203.0.113.9"],
            403,
            "the right-most counts",
        ),
        (
            &["Forwarded: for=_hidden"],
            400,
            "obfuscated: nobody knows who",
        ),
        (&["Forwarded: for=unknown"], 400, "unknown"),
        (&["Forwarded: for=\"203.0.113.9"], 400, "an open quote"),
        (
            &["X-Forwarded-For: 203.0.113.9"],
            200,
            "the other header is not read",
        ),
    ] {
        let response = gate.connect_from("127.0.0.2").ask("GET /x", fields);
        assert_eq!(response.status, status, "{fields:?}: {why}");
    }
}

#[test]
fn country_decides_and_the_unlisted_are_named() {
    let folder = TempDir::new().unwrap();
    let database = country_database(folder.path());
    let origin = Origin::start();
    let gate = Gate::start_in(
        folder,
        &format!(
            r#"[geoip]
databases = ["{}"]
[client]
trusted_proxies = ["127.0.0.2/32"]
[country]
licensed = ["GB", "SE"]
{}[[site]]
host = ["*"]
upstream = "app"
  [[site.route]]
  path = "/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "licensed-only"
  unless = [{{ country = "@licensed" }}]
  status = 451
  reason = "region_restricted"
  [[site.route]]
  path = "/known/**"
  allow = "anyone"
  [[site.route.deny]]
  name = "known-only"
  country = "unlisted"
"#,
            database.display(),
            front(&origin)
        ),
    );
    for (client, target, status, why) in [
        ("81.2.69.160", "/x", 200, "GB"),
        ("89.160.20.112", "/x", 200, "SE"),
        ("216.160.83.56", "/x", 451, "US, though registered in GB"),
        ("2a02:d500::1", "/x", 451, "a record without a country"),
        ("1.1.1.1", "/x", 451, "no record"),
        ("10.1.2.3", "/x", 451, "a private address"),
        ("::ffff:81.2.69.160", "/x", 200, "mapped"),
        ("216.160.83.56", "/known/x", 200, "listed"),
        ("1.1.1.1", "/known/x", 403, "unlisted"),
    ] {
        let field = format!("X-Forwarded-For: {client}");
        let response = gate
            .connect_from("127.0.0.2")
            .ask(&format!("GET {target}"), &[&field]);
        assert_eq!(response.status, status, "{client} {target}: {why}");
        if status == 451 {
            assert_eq!(response.reason(), "region_restricted");
        }
    }
    let line = &gate.log(9)[0];
    assert_eq!(line["geo.country.iso_code"], "GB", "{line}");
}
