//! `compress`: which answers of a site are compressed.

/// The content types that are compressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Compress {
    /// None.
    #[default]
    Never,
    /// Those that shrink: text, scripts, JSON, XML, SVG, WebAssembly, uncompressed fonts and pictures.
    Usual,
    /// These, in small letters: `type/subtype`, or `type/*`.
    Listed(Box<[Box<str>]>),
}

impl Compress {
    /// Whether an answer of this `Content-Type` is compressed. gRPC never is: it has a compression of its own. An event stream
    /// is only where it is listed by its name.
    #[must_use]
    pub fn takes(&self, content_type: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(content_type) else {
            return false;
        };
        let media = text.split(';').next().unwrap_or_default();
        let media = media.trim().to_ascii_lowercase();
        let Some((kind, subtype)) = media.split_once('/') else {
            return false;
        };
        if kind == "application" && subtype.starts_with("grpc") {
            return false;
        }
        match self {
            Self::Never => false,
            Self::Usual => usual(kind, subtype),
            Self::Listed(types) => types.iter().any(|listed| {
                **listed == *media
                    || media != EVENTS && listed.strip_suffix("/*").is_some_and(|all| all == kind)
            }),
        }
    }
}

/// What shrinks.
fn usual(kind: &str, subtype: &str) -> bool {
    match kind {
        "text" => subtype != "event-stream",
        "application" => {
            subtype.ends_with("+json")
                || subtype.ends_with("+xml")
                || matches!(
                    subtype,
                    "javascript"
                        | "x-javascript"
                        | "ecmascript"
                        | "json"
                        | "x-ndjson"
                        | "xml"
                        | "wasm"
                        | "vnd.ms-fontobject"
                        | "x-font-ttf"
                )
        }
        "font" => matches!(subtype, "ttf" | "otf"),
        "image" => matches!(subtype, "svg+xml" | "bmp" | "x-icon" | "vnd.microsoft.icon"),
        _ => false,
    }
}

const EVENTS: &str = "text/event-stream";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_compressed() {
        let usual = Compress::Usual;
        let listed = Compress::Listed(["text/*".into(), "application/pdf".into()].into());
        let events = Compress::Listed([EVENTS.into(), "application/*".into()].into());
        for (compress, content_type, want, why) in [
            (&usual, "text/html; charset=utf-8", true, "parameters"),
            (&usual, "Text/HTML", true, "case"),
            (&usual, "application/json", true, "JSON"),
            (&usual, "application/problem+json", true, "a suffix"),
            (&usual, "image/svg+xml", true, "SVG"),
            (&usual, "application/wasm", true, "WebAssembly"),
            (&usual, "image/png", false, "is compressed already"),
            (&usual, "font/woff2", false, "is compressed already"),
            (&usual, "application/octet-stream", false, "unknown bytes"),
            (&usual, EVENTS, false, "events"),
            (&usual, "application/grpc", false, "gRPC"),
            (&usual, "text", false, "no type"),
            (&usual, "", false, "no type"),
            (&Compress::Never, "text/html", false, "off"),
            (&listed, "text/css", true, "a wildcard"),
            (&listed, "application/pdf", true, "by name"),
            (&listed, "application/json", false, "not listed"),
            (&listed, EVENTS, false, "a wildcard does not mean events"),
            (&events, EVENTS, true, "events by name"),
            (&events, "application/grpc+proto", false, "gRPC never"),
            (&events, "application/grpc-web-text", false, "gRPC never"),
        ] {
            assert_eq!(
                compress.takes(content_type.as_bytes()),
                want,
                "{content_type}: {why}"
            );
        }
        assert!(!usual.takes(b"text/\xff"));
    }
}
