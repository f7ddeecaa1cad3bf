//! Closing and opening sites while running.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::say;
use crate::snapshot::maintenance::Position;
use crate::snapshot::{Site, Snapshot};

/// Turns the switch of a site; `wanted` is `<site>/<on|off|auto>`.
pub(super) fn switch(wanted: &str, snapshot: &Snapshot) -> Response<Full<Bytes>> {
    let (name, word) = wanted.rsplit_once('/').unwrap_or((wanted, ""));
    let position = match word {
        "on" => Some(Position::On),
        "off" => Some(Position::Off),
        "auto" => None,
        _ => {
            let error = json!({ "error": "not_found", "message": "a site is turned `on`, `off` or `auto`" });
            return say(StatusCode::NOT_FOUND, &error);
        }
    };
    let Some(site) = snapshot.sites.iter().find(|site| *site.name == *name) else {
        let error = json!({ "error": "not_found", "message": "there is no such site; a site's name is its first host" });
        return say(StatusCode::NOT_FOUND, &error);
    };
    site.maintenance.switch.turn(position);
    tracing::info!(site = %site.name, position = word, "maintenance was switched");
    say(StatusCode::OK, &tell(std::slice::from_ref(site)))
}

/// How sites stand.
pub(super) fn tell(sites: &[Site]) -> Value {
    let now = Timestamp::now();
    let states = sites.iter().map(|site| {
        let maintenance = &site.maintenance;
        let switch = match maintenance.switch.stands() {
            None => "auto",
            Some(Position::On) => "on",
            Some(Position::Off) => "off",
        };
        let state = json!({
            "now": if maintenance.closed(now) { "closed" } else { "open" },
            "switch": switch,
            "until": maintenance.until.map(|end| end.to_string()),
        });
        (site.name.to_string(), state)
    });
    Value::Object(states.collect::<Map<_, _>>())
}
