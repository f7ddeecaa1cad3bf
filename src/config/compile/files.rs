//! Reading the files that a configuration names: bounded, watched also while they are missing, and reported when unreadable.

use std::fs::File;
use std::io::{ErrorKind, Read as _};

use crate::config::context::Context;
use crate::config::diagnostic::Diagnostic;
use crate::config::node::Span;

/// Reads a file named at `span`.
pub(crate) fn read(
    cx: &mut Context,
    span: Span,
    written: &str,
    code: &'static str,
    what: &str,
) -> Option<Vec<u8>> {
    let path = cx.path(span, written);
    let mut content = Vec::new();
    let outcome =
        File::open(&path).and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut content));
    if !cx.watch.contains(&path) {
        cx.watch.push(path);
    }
    match outcome {
        Ok(size) if u64::try_from(size).unwrap_or(u64::MAX) > SIZE_MAX => {
            let message = format!("`{written}` is larger than 16 MiB");
            cx.error(code, span, message);
            None
        }
        Ok(_) => Some(content),
        Err(why) => {
            let message = format!("cannot read {what} from `{written}`: {}", reason(&why));
            cx.say(
                Diagnostic::error(code, span, message)
                    .help("paths are relative to the file that names them"),
            );
            None
        }
    }
}

/// Reads a text file named at `span`.
pub(crate) fn read_text(cx: &mut Context, span: Span, written: &str, what: &str) -> Option<String> {
    let content = read(cx, span, written, "unreadable-file", what)?;
    match String::from_utf8(content) {
        Ok(text) => Some(text),
        Err(_) => {
            cx.error(
                "unreadable-file",
                span,
                format!("`{written}` is no UTF-8 text"),
            );
            None
        }
    }
}

/// An error of the system in the words of our messages.
pub(crate) fn reason(why: &std::io::Error) -> String {
    if why.kind() == ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else {
        why.to_string().to_lowercase()
    }
}

/// The largest file that is read whole.
const SIZE_MAX: u64 = 16 * 1024 * 1024;
