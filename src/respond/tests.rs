#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may stop at the first surprise"
)]
//! Whole answers: shapes, header fields, escaping, pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_LANGUAGE, ORIGIN};

use super::*;
use crate::snapshot::notice::{Contact, Folder, Level, Origins, Page, Template, Variant};

const ID: &str = "0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b";
const EVIL: &str = "<script>alert(\"1\")</script>\r\nSet-Cookie: a=b & 'c'";

static FORBIDDEN: Reason = Reason::FORBIDDEN;
static REGION: Reason = Reason::REGION_RESTRICTED;
static PLAN: Reason = Reason::PLAN_REQUIRED;
static SIGN_IN: Reason = Reason::NOT_AUTHENTICATED;

/// Settings of a test's client and site.
struct Scene {
    method: Method,
    headers: HeaderMap,
    api: bool,
    denial: Denial,
    pages: Pages,
    default_language: Option<&'static str>,
    cors: Option<Cors>,
    id: &'static str,
}

impl Scene {
    fn accepting(accept: &'static str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Self {
            method: Method::GET,
            headers,
            api: false,
            denial: Denial::default(),
            pages: Pages::default(),
            default_language: None,
            cors: None,
            id: ID,
        }
    }

    fn page(&mut self, name: &str, variants: &[(&str, &str)]) -> Arc<str> {
        let variant = |(language, text): &(&str, &str)| Variant {
            language: (!language.is_empty()).then(|| Box::from(*language)),
            template: Template::parse(text).unwrap(),
        };
        let variants = variants.iter().map(variant).collect();
        let name: Arc<str> = Arc::from(name);
        self.pages.insert(Arc::clone(&name), Page { variants });
        name
    }

    fn get(&self, notice: &Notice<'_>) -> Response<Bytes> {
        let asker = Asker {
            method: &self.method,
            headers: &self.headers,
            api: self.api,
            denial: &self.denial,
            pages: &self.pages,
            default_language: self.default_language,
            cors: self.cors.as_ref(),
            request_id: self.id,
            now: "2026-11-22T10:11:12.5Z".parse().unwrap(),
        };
        answer(notice, &asker)
    }

    fn body(&self, notice: &Notice<'_>) -> String {
        String::from_utf8(self.get(notice).body().to_vec()).unwrap()
    }
}

fn legal() -> Notice<'static> {
    Notice {
        message: Some("Content unavailable in your location"),
        ..Notice::new(StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS, &REGION)
    }
}

fn forbidden() -> Notice<'static> {
    Notice::new(StatusCode::FORBIDDEN, &FORBIDDEN)
}

/// Status, header fields in order of name, body.
fn shown(response: &Response<Bytes>) -> String {
    let mut fields: Vec<_> = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    fields.sort();
    let body = std::str::from_utf8(response.body()).unwrap();
    format!(
        "{}\n{}\n\n{body}",
        response.status().as_u16(),
        fields.join("\n")
    )
}

#[test]
fn json_has_four_shapes() {
    let mut scene = Scene::accepting("application/json");
    let upgrade = Notice {
        upgrade_url: Some("https://example.com/plans"),
        ..Notice::new(StatusCode::FORBIDDEN, &PLAN)
    };
    let mut said = String::new();
    for shape in [Shape::Flat, Shape::Nested, Shape::Node, Shape::Problem] {
        scene.denial.shape = shape;
        for notice in [&legal(), &upgrade] {
            let body = scene.body(notice);
            assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
            said += &body;
            said.push('\n');
        }
    }
    insta::assert_snapshot!(said, @r#"
    {"error":"region_restricted","message":"Content unavailable in your location","status":451,"request_id":"0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b"}
    {"error":"plan_required","message":"Your current plan does not include this","status":403,"request_id":"0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b","upgrade_url":"https://example.com/plans"}
    {"error":{"code":451,"message":"Unavailable For Legal Reasons","details":"Content unavailable in your location"}}
    {"error":{"code":403,"message":"Forbidden","details":"Your current plan does not include this"}}
    {"error":{"message":"Content unavailable in your location","status":451}}
    {"error":{"message":"Your current plan does not include this","status":403}}
    {"type":"about:blank","title":"Unavailable For Legal Reasons","status":451,"detail":"Content unavailable in your location","reason":"region_restricted","request_id":"0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b"}
    {"type":"about:blank","title":"Forbidden","status":403,"detail":"Your current plan does not include this","reason":"plan_required","request_id":"0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b","upgrade_url":"https://example.com/plans"}
    "#);
}

#[test]
fn a_json_answer_is_complete() {
    let mut scene = Scene::accepting("*/*");
    insta::assert_snapshot!(shown(&scene.get(&legal())), @r#"
    451
    cache-control: no-store
    content-length: 143
    content-type: application/json
    vary: Accept, Accept-Language, Sec-Fetch-Mode
    x-content-type-options: nosniff
    x-request-id: 0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b

    {"error":"region_restricted","message":"Content unavailable in your location","status":451,"request_id":"0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b"}
    "#);
    scene.denial.shape = Shape::Problem;
    let response = scene.get(&forbidden());
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
}

#[test]
fn plain_text_says_the_same() {
    let mut scene = Scene::accepting("text/plain");
    scene.denial.contact = Some(Contact::new("help@example.com"));
    insta::assert_snapshot!(shown(&scene.get(&legal())), @r#"
    451
    cache-control: no-store
    content-length: 174
    content-type: text/plain; charset=utf-8
    vary: Accept, Accept-Language, Sec-Fetch-Mode
    x-content-type-options: nosniff
    x-request-id: 0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b

    451 Unavailable For Legal Reasons

    Content unavailable in your location

    Reason: region_restricted
    Request ID: 0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b
    Contact: help@example.com
    "#);
}

#[test]
fn header_fields_follow_the_notice() {
    let challenges = [
        HeaderValue::from_static("Bearer realm=\"app\""),
        HeaderValue::from_static("Basic realm=\"app\""),
    ];
    let mut scene = Scene::accepting("*/*");
    scene.cors = Some(Cors {
        origins: Origins::Named(vec!["https://app.example.com".into()]),
        methods: None,
        headers: None,
        max_age: None,
    });
    scene
        .headers
        .insert(ORIGIN, HeaderValue::from_static("https://app.example.com"));
    let notice = Notice {
        challenges: &challenges,
        retry_after: Some(Duration::from_millis(1500)),
        allow: Some("GET"),
        link: Some("https://example.com/authority"),
        ..Notice::new(StatusCode::UNAUTHORIZED, &SIGN_IN)
    };
    insta::assert_snapshot!(shown(&scene.get(&notice)), @r#"
    401
    access-control-allow-credentials: true
    access-control-allow-origin: https://app.example.com
    access-control-expose-headers: X-Request-Id, Retry-After
    allow: GET
    cache-control: no-store
    content-length: 138
    content-type: application/json
    link: <https://example.com/authority>; rel="blocked-by"
    retry-after: 2
    vary: Accept, Accept-Language, Sec-Fetch-Mode, Origin
    www-authenticate: Basic realm="app"
    www-authenticate: Bearer realm="app"
    x-content-type-options: nosniff
    x-request-id: 0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b

    {"error":"not_authenticated","message":"You need to sign in to see this","status":401,"request_id":"0193b6a2-7c1e-7d40-9a55-2f1d8f0a6c3b"}
    "#);

    for (link, want) in [
        ("https://e.example/a>; rel=\"next", None),
        ("https://e.example/a b", None),
        ("https://e.example/\r\nx: y", None),
        (
            "https://e.example/a",
            Some("<https://e.example/a>; rel=\"blocked-by\""),
        ),
    ] {
        let notice = Notice {
            link: Some(link),
            ..legal()
        };
        let response = scene.get(&notice);
        let got = response
            .headers()
            .get(LINK)
            .map(|value| value.to_str().unwrap());
        assert_eq!(got, want, "{link:?}");
    }
    for (wait, seconds) in [(0, 1), (1, 1), (999, 1), (1000, 1), (1001, 2), (60_000, 60)] {
        let wait = Duration::from_millis(wait);
        assert_eq!(whole_seconds(wait), seconds, "{wait:?}");
    }
    scene.id = "not\na field value";
    assert!(!scene.get(&notice).headers().contains_key("x-request-id"));
}

#[test]
fn vary_names_what_the_answer_depends_on() {
    let named = Cors {
        origins: Origins::Named(vec!["https://a.example".into()]),
        methods: None,
        headers: None,
        max_age: None,
    };
    let any = Cors {
        origins: Origins::Any,
        ..named.clone()
    };
    for (api, cors, want) in [
        (false, None, "Accept, Accept-Language, Sec-Fetch-Mode"),
        (
            false,
            Some(named.clone()),
            "Accept, Accept-Language, Sec-Fetch-Mode, Origin",
        ),
        (true, None, "Accept"),
        (true, Some(named), "Accept, Origin"),
        (true, Some(any), "Accept"),
    ] {
        let mut scene = Scene::accepting("*/*");
        (scene.api, scene.cors) = (api, cors);
        assert_eq!(scene.get(&forbidden()).headers()[VARY], want);
    }
}

#[test]
fn head_has_the_head_of_get_and_no_body() {
    for accept in ["text/html", "text/plain", "application/json"] {
        let mut scene = Scene::accepting(accept);
        let get = scene.get(&legal());
        scene.method = Method::HEAD;
        let head = scene.get(&legal());
        assert!(head.body().is_empty(), "{accept}");
        assert_eq!(head.headers(), get.headers(), "{accept}");
        assert_eq!(head.status(), get.status(), "{accept}");
        let length = get.body().len().to_string();
        assert_eq!(head.headers()[CONTENT_LENGTH], length.as_str(), "{accept}");
    }
}

#[test]
fn nothing_that_is_put_in_gets_out_of_its_place() {
    for shape in [Shape::Flat, Shape::Nested, Shape::Node, Shape::Problem] {
        for accept in ["text/html", "text/plain", "application/json"] {
            let mut scene = Scene::accepting(accept);
            scene.denial.shape = shape;
            scene.denial.contact = Some(Contact::new(EVIL));
            scene.id = EVIL;
            let notice = Notice {
                message: Some(EVIL),
                upgrade_url: Some("javascript:alert(1)//<script>"),
                ..forbidden()
            };
            let response = scene.get(&notice);
            let body = String::from_utf8(response.body().to_vec()).unwrap();
            match accept {
                "text/html" => {
                    assert!(!body.contains("<script"), "{body}");
                    assert!(!body.contains("javascript:"), "{body}");
                    assert!(body.contains("&lt;script&gt;"), "{body}");
                }
                "text/plain" => {
                    let starts = body.lines().any(|line| line.starts_with("Set-Cookie"));
                    assert!(!starts && !body.contains('\r'), "{body}");
                }
                _ => {
                    let value: serde_json::Value = serde_json::from_str(&body).unwrap();
                    assert!(!body.contains('<'), "{body}");
                    assert!(value.to_string().contains("Set-Cookie"), "{body}");
                }
            }
            assert!(!response.headers().contains_key("x-request-id"));
            assert!(!response.headers().contains_key("set-cookie"));
        }
    }
}

#[test]
fn nothing_of_the_request_is_said_back() {
    for accept in ["text/html", "text/plain", "application/json"] {
        let mut scene = Scene::accepting(accept);
        for (name, value) in [
            ("user-agent", "needle-1"),
            ("referer", "needle-2"),
            ("host", "needle-3"),
            ("accept-language", "needle-4"),
            ("origin", "https://needle-5.example"),
            ("x-request-id", "needle-6"),
            ("authorization", "Bearer needle-7"),
        ] {
            scene.headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let answer = shown(&scene.get(&forbidden()));
        for word in ["needle", "ortcullis", "0.1.0", "/work", ".toml"] {
            assert!(!answer.contains(word), "{word}: {answer}");
        }
    }
}

#[test]
fn a_hidden_path_looks_like_a_missing_one() {
    for accept in ["text/html", "text/plain", "application/json"] {
        let scene = Scene::accepting(accept);
        let status = StatusCode::NOT_FOUND;
        let hidden = scene.get(&Notice::new(status, &Reason::FORBIDDEN));
        let missing = scene.get(&Notice::new(status, &Reason::NO_ROUTE));
        assert_eq!(shown(&hidden), shown(&missing), "{accept}");
    }
    let scene = Scene::accepting("*/*");
    let gone = scene.body(&Notice::new(StatusCode::GONE, &Reason::FORBIDDEN));
    assert!(gone.contains("\"error\":\"gone\""), "{gone}");
}

#[test]
fn the_built_in_page_is_strict_about_itself() {
    let scene = Scene::accepting("text/html");
    let response = scene.get(&legal());
    let policy = response.headers()[CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert_eq!(response.headers()["content-language"], "en");
    let body = scene.body(&legal());
    for (part, why) in [
        ("<html lang=\"en\"", "its language"),
        ("<main>", "a landmark"),
        ("<h1>Not available in your location</h1>", "a heading"),
        ("Content unavailable in your location", "the rule's message"),
        (ID, "the request"),
        ("2026-11-22 10:11:12 UTC", "the time"),
        ("name=\"viewport\"", "small screens"),
    ] {
        assert!(body.contains(part), "{why}: {body}");
    }
    for part in [
        "<script", "http:", "https:", "url(", "@import", "style=\"", "Contact",
    ] {
        assert!(!body.contains(part), "{part}: {body}");
    }
}

#[test]
fn the_nearest_page_that_fits_is_shown() {
    let mut scene = Scene::accepting("text/html");
    for (name, variants) in [
        ("rule", &[("", "rule")][..]),
        ("site-page", &[("", "site page")]),
        ("site-403", &[("", "site 403"), ("nl", "site 403 nl")]),
        ("site-role", &[("", "site role"), ("nl", "site role nl")]),
        ("global-page", &[("", "global page")]),
        ("global-502", &[("", "global 502")]),
    ] {
        scene.page(name, variants);
    }
    let folder = |pairs: &[(&str, &str)]| {
        let pair = |(word, name): &(&str, &str)| (Box::from(*word), Arc::from(*name));
        Some(Folder::new(
            pairs.iter().map(pair).collect::<BTreeMap<_, _>>(),
        ))
    };
    let level = |page: Option<&str>, folder| Level {
        page: page.map(Arc::from),
        folder,
    };
    let site_pages = folder(&[("403", "site-403"), ("role_required", "site-role")]);
    let global = level(Some("global-page"), folder(&[("502", "global-502")]));
    let both = vec![level(None, site_pages.clone()), global.clone()];
    let with_page = vec![level(Some("site-page"), site_pages), global.clone()];
    let built_in = "built-in";
    for (levels, page, status, reason, language, want, why) in [
        (
            vec![],
            None,
            403,
            "forbidden",
            "",
            built_in,
            "nothing configured",
        ),
        (
            vec![],
            Some("unknown"),
            403,
            "forbidden",
            "",
            built_in,
            "a page that is not there",
        ),
        (
            both.clone(),
            Some("rule"),
            403,
            "role_required",
            "nl",
            "rule",
            "the rule's own page",
        ),
        (
            with_page,
            None,
            403,
            "role_required",
            "",
            "site page",
            "the site's page",
        ),
        (
            both.clone(),
            None,
            403,
            "role_required",
            "",
            "site role",
            "by reason",
        ),
        (
            both.clone(),
            None,
            403,
            "role_required",
            "nl-BE, en;q=0.5",
            "site role nl",
            "by reason and language",
        ),
        (
            both.clone(),
            None,
            403,
            "forbidden",
            "nl",
            "site 403 nl",
            "by status and language",
        ),
        (
            both.clone(),
            None,
            403,
            "forbidden",
            "fr",
            "site 403",
            "by status",
        ),
        (
            both.clone(),
            None,
            451,
            "forbidden",
            "",
            "global page",
            "what the site does not have",
        ),
        (
            both.clone(),
            None,
            404,
            "no_route",
            "",
            built_in,
            "`page` is for refusals: a 404 may hide",
        ),
        (
            both.clone(),
            None,
            404,
            "forbidden",
            "",
            built_in,
            "and this one does",
        ),
        (
            both.clone(),
            None,
            502,
            "bad_gateway",
            "",
            "global 502",
            "`pages` serve any status",
        ),
        (
            both,
            None,
            503,
            "overloaded",
            "",
            built_in,
            "none for this one",
        ),
        (
            vec![global],
            None,
            401,
            "not_authenticated",
            "",
            "global page",
            "a sign-in is a refusal",
        ),
    ] {
        scene.denial.levels = levels;
        scene
            .headers
            .insert(ACCEPT_LANGUAGE, HeaderValue::from_str(language).unwrap());
        let reason = Reason::parse(reason).unwrap();
        let notice = Notice {
            page,
            ..Notice::new(StatusCode::from_u16(status).unwrap(), &reason)
        };
        let response = scene.get(&notice);
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        let got = if body.starts_with("<!doctype html>") {
            built_in
        } else {
            &body
        };
        assert_eq!(got, want, "{why}");
        let own = response.headers().get(CONTENT_SECURITY_POLICY).is_none();
        assert_eq!(
            own,
            want != built_in,
            "{why}: an own page may use what it likes"
        );
        let tagged = response
            .headers()
            .get("content-language")
            .map(|v| v.as_bytes());
        let tag = if want.ends_with(" nl") {
            Some(&b"nl"[..])
        } else {
            None
        };
        assert_eq!(tagged.filter(|_| own), tag, "{why}");
    }
}

#[test]
fn a_page_that_fails_while_it_is_written_is_passed_over() {
    let mut scene = Scene::accepting("text/html");
    // Fails for a status that the samples of the load do not have.
    let name = scene.page(
        "p",
        &[(
            "",
            "{% if status == 451 %}{{ status|round(method='x') }}{% endif %}ok",
        )],
    );
    let page = Some(&*name);
    assert_eq!(
        scene.body(&Notice {
            page,
            ..forbidden()
        }),
        "ok"
    );
    let body = scene.body(&Notice { page, ..legal() });
    assert!(body.starts_with("<!doctype html>"), "{body}");
}

#[test]
fn the_pages_of_the_package_compile_and_use_the_variables() {
    for name in ["403.html", "403.nl.html", "denial.html"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config/pages")
            .join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut scene = Scene::accepting("text/html");
        let page = scene.page("p", &[("", &text)]);
        let notice = Notice {
            page: Some(&page),
            message: Some("A message & more"),
            ..forbidden()
        };
        let body = scene.body(&notice);
        // The Dutch page has words of its own.
        if name != "403.nl.html" {
            assert!(body.contains("A message &amp; more"), "{name}");
        }
        for part in [ID, "<main", "<h1", "lang=\"", "name=\"viewport\""] {
            assert!(body.contains(part), "{name}: {part}");
        }
        assert!(!body.contains("{{") && !body.contains("{%"), "{name}");
    }
}

#[test]
fn grpc_gets_its_status_in_the_head_and_nothing_behind() {
    for (status, code) in [
        (403, "7"),
        (401, "16"),
        (404, "12"),
        (429, "14"),
        (451, "7"),
        (502, "14"),
        (400, "13"),
        (500, "2"),
    ] {
        let mut scene = Scene::accepting("text/html");
        scene.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/grpc+proto"),
        );
        let mut notice = Notice::new(StatusCode::from_u16(status).unwrap(), &REGION);
        notice.message = Some("Not here: 100 %");
        let answer = scene.get(&notice);
        assert_eq!(answer.status(), status, "the true status stays");
        let field = |name: &str| answer.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(field("content-type"), "application/grpc");
        assert_eq!(field("grpc-status"), code, "{status}");
        assert_eq!(field("grpc-message"), "Not here: 100 %25");
        assert_eq!(field("x-request-id"), ID);
        assert!(answer.body().is_empty());
    }
}
