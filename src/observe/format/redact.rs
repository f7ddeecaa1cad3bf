//! Secrets in queries and in the addresses of referring pages: their values become `REDACTED`.
//!
//! A key begins after `?`, `#`, `&` or `;`; the value of a secret key ends at the next `&` only, because a `;` may belong to
//! it. A key is read with its escapes decoded and without the brackets or dots of nested forms, so that `user%5Bpassword%5D`
//! and `login.password` are keys of a password.

use std::borrow::Cow;

use crate::snapshot::log::Redaction;

/// A query without the values of secret keys. Borrowed where it has none.
pub(in crate::observe) fn query<'q>(query: &'q [u8], redaction: &Redaction) -> Cow<'q, [u8]> {
    if redaction.is_empty() || !query.contains(&b'=') {
        return Cow::Borrowed(query);
    }
    let mut clean: Option<Vec<u8>> = None;
    let mut rest = query;
    let mut done = 0;
    while let Some((before, after)) = split(rest, |byte| byte == b'=') {
        let key = before
            .rsplit(|byte| matches!(byte, b'?' | b'#' | b'&' | b';'))
            .next()
            .unwrap_or(before);
        let value = query.len() - after.len();
        if secret(key, redaction) {
            let clean = clean.get_or_insert_default();
            clean.extend_from_slice(query.get(done..value).unwrap_or_default());
            clean.extend_from_slice(REDACTED);
            let end = after
                .iter()
                .position(|byte| *byte == b'&')
                .unwrap_or(after.len());
            done = value + end;
        }
        rest = query.get(done.max(value)..).unwrap_or_default();
    }
    match clean {
        None => Cow::Borrowed(query),
        Some(mut clean) => {
            clean.extend_from_slice(query.get(done..).unwrap_or_default());
            Cow::Owned(clean)
        }
    }
}

/// A referring page without user name, password and the values of secret keys.
pub(super) fn referer<'r>(referer: &'r [u8], redaction: &Redaction) -> Cow<'r, [u8]> {
    let clean = query(referer, redaction);
    match userinfo(&clean) {
        None => clean,
        Some((start, end)) => {
            let mut whole = clean.get(..start).unwrap_or_default().to_vec();
            whole.extend_from_slice(REDACTED);
            whole.extend_from_slice(clean.get(end..).unwrap_or_default());
            Cow::Owned(whole)
        }
    }
}

/// Where the user name and password of an absolute URL stand.
fn userinfo(url: &[u8]) -> Option<(usize, usize)> {
    let start = url.windows(2).position(|pair| pair == b"//")? + 2;
    let rest = url.get(start..)?;
    let authority = rest
        .split(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .next()?;
    let at = authority.iter().rposition(|byte| *byte == b'@')?;
    Some((start, start + at))
}

fn secret(key: &[u8], redaction: &Redaction) -> bool {
    let decoded: Cow<'_, [u8]> = if key.contains(&b'%') {
        percent_encoding::percent_decode(key).into()
    } else {
        Cow::Borrowed(key)
    };
    let last = decoded
        .rsplit(|byte| matches!(byte, b'[' | b']' | b'.'))
        .find(|part| !part.is_empty());
    redaction.covers(&decoded) || last.is_some_and(|last| redaction.covers(last))
}

fn split(bytes: &[u8], at: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    let place = bytes.iter().position(|byte| at(*byte))?;
    let (before, after) = bytes.split_at_checked(place)?;
    Some((before, after.get(1..)?))
}

const REDACTED: &[u8] = b"REDACTED";
