//! The target as received: forwarded byte for byte, judged in every way an application may read it.

use crate::support::{Gate, Origin, open};

/// `/**` is open, `/admin/**` is denied: no spelling of the second is owned by the first.
#[test]
fn disguised_paths_are_refused_and_plain_ones_pass() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[deny]]\nname = \"admin-path\"\npath = \"/admin/**\"\n",
        open(&origin)
    ));
    for target in "
            /admin /admin/ /admin/x /admin?x //admin ///admin//x /%61dmin /%61%64%6D%69%6E/x
            /aDmin /ADMIN/x /%41dmin /%2561dmin /%25%36%31dmin /x/../admin /x/%2e%2e/admin
            /x/%2E%2e/admin /x/.%2e/admin /x/%252e%252e/admin /x/%252e./admin /./admin
            /%2e/admin /admin;x /admin;x=1/y /;/admin /;x=1/admin /x/..;/admin /x/..;a=b/admin
            /x/%2e%2e;/admin /admin%2f /admin%2Fx /%2fadmin /%2Fadmin /%252fadmin
            /x%2f..%2fadmin /x/..%2fadmin /admin%5cx /%5cadmin /%255cadmin /x%5c..%5cadmin
            /x/..%5cadmin /admin. /admin.. /admin%20 /admin%20. /admin.%20/x /admin%2e
            /admin%252e /admin%00 /ad%00min /admin%0a /admin%2500 /admin%09 /admin%7f
            /x/..%c0%afadmin /%c1%a1dmin /%c0%aeadmin /%e0%81%a1dmin /%f0%80%81%a1dmin
            /%25c1%25a1dmin /%u0061dmin /admin% /admin%zz /%a /admin/% /admin/.. /admin/../x
            /admin/. /x/./y /x/../y /.. /. /%2e%2e /%ed%a0%80
        "
    .split_whitespace()
    {
        let response = gate.connect().ask(&format!("GET {target}"), &[]);
        assert!(
            [400, 403].contains(&response.status),
            "{target}: {}",
            response.status
        );
    }
    assert_eq!(origin.count(), 0, "{:?}", origin.seen());
    let mut client = gate.connect();
    for target in "
            / /x/admin /admins /administrator /x?p=/admin /x?p=/../admin /adm /admin-x /admin_x
            /a%20b /a%2Fb /caf%C3%A9 /... /..a /a..b /a. /x;y=1 /%7Eme /badmin /xn--admin /a%25b
            /100%25 /proxy/https://x.test/y /UPPER /@a/b
        "
    .split_whitespace()
    {
        let response = client.ask(&format!("GET {target}"), &[]);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn disagreeing_readings_are_called_ambiguous() {
    let origin = Origin::start();
    let gate = Gate::start(&format!(
        "{}[[deny]]\nname = \"admin-path\"\npath = \"/admin/**\"\n",
        open(&origin)
    ));
    for target in ["/ADMIN", "/admin;x", "//admin", "/admin%2f"] {
        let response = gate.connect().ask(&format!("GET {target}"), &[]);
        if response.status == 400 {
            assert_eq!(response.reason(), "ambiguous_path", "{target}");
        }
    }
}

#[test]
fn target_goes_up_byte_for_byte() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    for target in "
            / /x? /x?a=1&b=%20&c /a%2Fb /a%2fb/%7Eme/~me /proxy/https://x.test/y
            //double//slashes// /caf%C3%A9/%E2%82%AC /a;v=1/b;w=2 /A/b/C
            /a:b/@c/$d/!e/'f/(g)/*h/+i/,j/=k /a..b/.../..c /q?next=/../admin&u=http://x/
            /?q=a?b/c /100%25
        "
    .split_whitespace()
    {
        client.ask(&format!("GET {target}"), &[]).is(200);
        assert_eq!(origin.last().target, target);
    }
}

#[test]
fn absolute_form_goes_up_as_origin_form() {
    let origin = Origin::start();
    let gate = Gate::start(&open(&origin));
    let mut client = gate.connect();
    for (target, host, up, seen_host) in [
        ("http://app.test/x?y=1", "app.test", "/x?y=1", "app.test"),
        ("http://app.test", "app.test", "/", "app.test"),
        ("http://app.test?q", "app.test", "/?q", "app.test"),
        (
            "http://app.test:8080/x",
            "app.test:8080",
            "/x",
            "app.test:8080",
        ),
    ] {
        client
            .ask(&format!("GET {target}"), &[&format!("Host: {host}")])
            .is(200);
        let seen = origin.last();
        assert_eq!(
            (seen.target.as_str(), seen.header("host")),
            (up, Some(seen_host)),
            "{target}"
        );
    }
    for (target, host, why) in [
        ("http://app.test/x", "other.test", "two hosts"),
        ("http://app.test/x", "app.test:81", "two ports"),
        ("http://user@app.test/x", "app.test", "userinfo"),
        ("ftp://app.test/x", "app.test", "no web address"),
    ] {
        let mut client = gate.connect();
        let status = client
            .ask(&format!("GET {target}"), &[&format!("Host: {host}")])
            .status;
        assert!(
            (400..500).contains(&status),
            "{why}: {target} with {host} gets {status}"
        );
    }
}

/// `path_reading = "strict"`: a site whose application reads paths exactly loses no spelling to the lenient reading.
#[test]
fn strict_site_is_judged_by_the_strict_reading() {
    let origin = Origin::start();
    let deny = "  [[site.deny]]\n  name = \"admin-path\"\n  path = \"/admin/**\"\n";
    for (reading, status) in [("lenient", 400), ("strict", 200)] {
        let gate = Gate::start(&format!(
            "{}path_reading = \"{reading}\"\n{deny}",
            open(&origin)
        ));
        for target in ["/ADMIN", "/admin;x", "//admin", "/admin."] {
            let response = gate.connect().ask(&format!("GET {target}"), &[]);
            assert_eq!(response.status, status, "{reading}: {target}");
        }
        for target in ["/admin", "/%61dmin"] {
            gate.connect().ask(&format!("GET {target}"), &[]).is(403);
        }
        for target in ["/x/../admin", "/x/%2e%2e/admin", "/admin%00"] {
            gate.connect().ask(&format!("GET {target}"), &[]).is(400);
        }
    }
}
