//! Revoking credentials while running.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{client, say};
use crate::identity::revocation::{Revocation, Revoked, VALUE_BYTES_MAX, What};
use crate::reload::revocation::{Kept, add, undo};
use crate::value::duration;

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Add,
    Undo,
}

/// Adds or takes back the entry that a query names.
pub(super) async fn change(
    step: Step,
    query: Option<&str>,
    revocation: &Revocation,
) -> Response<Full<Bytes>> {
    let now = Timestamp::now();
    let entry = match read(step, query.unwrap_or_default(), now) {
        Ok(entry) => entry,
        Err(message) => {
            let error = json!({ "error": "bad_request", "message": message });
            return say(StatusCode::BAD_REQUEST, &error);
        }
    };
    let added = Arc::clone(&revocation.added);
    let told = tell(&entry, "admin");
    // It writes a file and waits for the disk.
    let changed = tokio::task::spawn_blocking(move || match step {
        Step::Add => {
            let (name, reason) = (entry.to_string(), entry.reason.clone());
            let kept = add(&added, entry, now).map_err(|full| full.to_string());
            if kept.is_ok() {
                tracing::info!(entry = name, ?reason, "revoked");
            }
            (StatusCode::CONFLICT, kept)
        }
        Step::Undo => {
            let kept = undo(&added, &entry, now);
            if kept.is_some() {
                tracing::info!(entry = %entry, "no longer revoked");
            }
            let missing = "nothing of this name was revoked here; what stands in the file of `[revocation]` is taken back there";
            (
                StatusCode::NOT_FOUND,
                kept.ok_or_else(|| missing.to_owned()),
            )
        }
    });
    match changed.await {
        Ok((_, Ok(kept))) => say(
            StatusCode::OK,
            &json!({ "entry": told, "revoked": step == Step::Add, "kept": kept == Kept::Disk }),
        ),
        Ok((status, Err(message))) => {
            let error = if status == StatusCode::CONFLICT {
                "full"
            } else {
                "not_found"
            };
            say(status, &json!({ "error": error, "message": message }))
        }
        Err(_ended) => super::ending(),
    }
}

/// Everything that is revoked.
pub(super) fn list(revocation: &Revocation) -> Value {
    let now = Timestamp::now();
    let file = revocation.file.as_ref();
    let of_file = file.into_iter().flat_map(|file| file.list.entries());
    let of_file = of_file.filter(|entry| !entry.over(now));
    let of_file = of_file.map(|entry| tell(entry, "file"));
    let added = revocation.added.list();
    let of_admin = added.entries().iter().filter(|entry| !entry.over(now));
    let of_admin = of_admin.map(|entry| tell(entry, "admin"));
    json!({
        "entries": of_admin.chain(of_file).collect::<Vec<_>>(),
        "file": file.map(|file| json!({
            "path": file.path.display().to_string(),
            "written": file.at.map(|at| at.to_string()),
            "good": !file.kept,
        })),
    })
}

fn tell(entry: &Revoked, list: &str) -> Value {
    json!({
        "what": entry.what.word(),
        "value": &*entry.value,
        "source": entry.source,
        "issued_before": entry.issued_before.map(|at| at.to_string()),
        "until": entry.until.map(|at| at.to_string()),
        "reason": entry.reason,
        "list": list,
    })
}

/// The entry that a query names.
fn read(step: Step, query: &str, now: Timestamp) -> Result<Revoked, String> {
    let mut entry = Revoked {
        what: What::Subject,
        value: Arc::from(""),
        source: None,
        issued_before: None,
        until: None,
        reason: None,
    };
    let mut seen: Vec<&str> = Vec::new();
    let mut named = false;
    let mut endless = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = client::decode(value).ok_or("a value is not percent-encoded UTF-8")?;
        if seen.contains(&key) {
            return Err(format!("`{}` is there twice", shown(key)));
        }
        seen.push(key);
        if let Ok(what) = key.parse::<What>() {
            if named {
                return Err("one credential at a time".to_owned());
            }
            named = true;
            entry.what = what;
            entry.value = what
                .value(&value)
                .map_err(|bad| format!("`{}` {bad}", what.word()))?;
            continue;
        }
        let text = || -> Result<Arc<str>, String> {
            let good = !value.is_empty()
                && value.len() <= VALUE_BYTES_MAX
                && !value.contains(char::is_control);
            good.then(|| Arc::from(value.as_str()))
                .ok_or_else(|| format!("`{key}` is a text of one line"))
        };
        match key {
            "source" => entry.source = Some(text()?),
            "reason" => entry.reason = Some(text()?),
            "for" if value == "ever" => endless = true,
            "for" => {
                let time = duration::parse(&value).map_err(|error| error.to_string())?;
                let end = SignedDuration::try_from(time).ok();
                let end = end.and_then(|time| now.checked_add(time).ok());
                entry.until = Some(end.ok_or("`for` is longer than time itself")?);
            }
            "until" => entry.until = Some(moment(key, &value)?),
            "issued_before" if value == "now" => {
                // `iat` has whole seconds: what was made in this one counts as made before.
                let next = Timestamp::from_second(now.as_second() + 1);
                entry.issued_before = Some(next.unwrap_or(now));
            }
            "issued_before" => entry.issued_before = Some(moment(key, &value)?),
            other => return Err(format!("`{}` is not known here", shown(other))),
        }
    }
    let of_certificate = matches!(entry.what, What::Spki | What::Serial);
    let dated = matches!(entry.what, What::Subject | What::Token);
    if !named {
        return Err("name one of `subject`, `token`, `key`, `spki`, `serial`".to_owned());
    }
    if of_certificate && entry.source.is_some() {
        return Err("a certificate is revoked for every source; leave `source` out".to_owned());
    }
    if !dated && entry.issued_before.is_some() {
        return Err("`issued_before` is for subjects and tokens".to_owned());
    }
    if step == Step::Add {
        match entry.until {
            Some(_) if endless || (seen.contains(&"for") && seen.contains(&"until")) => {
                return Err("`for` or `until`, not both".to_owned());
            }
            None if !endless => {
                return Err(
                    "say how long: `for=12h`, `until=2026-12-31T00:00:00Z`, or `for=ever`"
                        .to_owned(),
                );
            }
            Some(end) if end <= now => return Err("its end has passed".to_owned()),
            Some(_) | None => {}
        }
    }
    Ok(entry)
}

fn moment(key: &str, text: &str) -> Result<Timestamp, String> {
    text.parse()
        .ok()
        .ok_or_else(|| format!("`{key}` is a date and time with its offset"))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_query_names_one_credential_and_its_end() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        for (query, want) in [
            ("", "name one of"),
            ("for=1h", "name one of"),
            ("subject=anna", "say how long"),
            ("subject=anna&token=j&for=1h", "one credential at a time"),
            (
                "subject=anna&subject=bob&for=1h",
                "`subject` is there twice",
            ),
            ("subject=&for=1h", "`subject` is empty"),
            ("subject=%ff&for=1h", "a value is not"),
            ("subject=anna&for=x", "a duration is"),
            (
                "subject=anna&for=1h&until=2027-01-01T00:00:00Z",
                "`for` or `until`",
            ),
            (
                "subject=anna&for=ever&until=2027-01-01T00:00:00Z",
                "`for` or `until`",
            ),
            (
                "subject=anna&until=2026-01-01T00:00:00Z",
                "its end has passed",
            ),
            ("subject=anna&until=tomorrow", "`until` is a date"),
            ("subject=anna&for=0s", "its end has passed"),
            ("serial=zz&for=1h", "`serial` is no serial"),
            ("spki=00&for=1h", "`spki` is no SHA-256"),
            ("serial=1&source=cert&for=1h", "a certificate is revoked"),
            ("key=ci&issued_before=now&for=1h", "`issued_before` is for"),
            ("subject=anna&colour=red&for=1h", "`colour` is not known"),
            ("subject=anna&reason=a%0Ab&for=1h", "`reason` is a text"),
        ] {
            let told = read(Step::Add, query, now).unwrap_err();
            assert!(told.starts_with(want), "{query}: {told}");
        }
        let entry = read(
            Step::Add,
            "subject=anna%40example.com&source=sso&for=12h&issued_before=now&reason=left%20us",
            now,
        )
        .unwrap();
        assert_eq!(&*entry.value, "anna@example.com");
        assert_eq!(entry.until.unwrap().to_string(), "2026-11-25T00:00:00Z");
        assert_eq!(
            entry.issued_before.unwrap().to_string(),
            "2026-11-24T12:00:01Z"
        );
        assert_eq!(entry.reason.as_deref(), Some("left us"));
        assert_eq!(
            read(Step::Add, "token=j&for=ever", now).unwrap().until,
            None
        );
        assert!(read(Step::Undo, "token=j", now).is_ok());
    }
}
