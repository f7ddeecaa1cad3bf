//! The cases as data: the format of the conformance README.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::support::golden;

/// One case.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) area: String,
    pub(super) level: Level,
    #[serde(rename = "ref")]
    pub(super) reference: String,
    pub(super) why: String,
    pub(super) listener: String,
    pub(super) source: IpAddr,
    pub(super) needs: Vec<String>,
    /// Each character is one byte.
    #[serde(default)]
    pub(super) send: Vec<String>,
    /// What is sent over HTTP/2, instead of `send`.
    #[serde(default)]
    pub(super) h2: Option<Exchange>,
    #[serde(default)]
    pub(super) gap: f64,
    #[serde(default)]
    pub(super) half_close: bool,
    #[serde(default)]
    pub(super) methods: Vec<String>,
    #[serde(default = "one")]
    pub(super) want_responses: usize,
    pub(super) expect: Expect,
}

/// One HTTP/2 stream: its fields, DATA and trailers, each character one byte.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Exchange {
    pub(super) headers: Vec<(String, String)>,
    pub(super) data: Option<String>,
    pub(super) trailers: Option<Vec<(String, String)>>,
    pub(super) end_stream: bool,
}

/// How binding a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Must,
    Should,
    Info,
}

/// The outcomes of which one must fit.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Expect {
    pub(super) any_of: Vec<serde_json::Map<String, Value>>,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Must => "must",
            Self::Should => "should",
            Self::Info => "info",
        }
    }
}

impl Case {
    /// Whether some outcome speaks of what happens after the wanted answers.
    pub(super) fn watches_the_end(&self) -> bool {
        self.expect
            .any_of
            .iter()
            .any(|outcome| outcome.contains_key("closed") || outcome.contains_key("max_responses"))
    }

    /// The method of request `number`, from 0.
    pub(super) fn method(&self, number: usize) -> &str {
        self.methods.get(number).map_or("GET", String::as_str)
    }
}

/// The cases of one file.
pub(super) fn read(area: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(golden("conformance").join(format!("{area}.json"))).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{area}.json: {error}"))
}

fn one() -> usize {
    1
}
