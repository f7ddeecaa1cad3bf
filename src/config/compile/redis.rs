//! `[redis]`: where limits are counted that several machines share.

use std::sync::Arc;

use crate::config::{Context, Diagnostic, Table};
use crate::snapshot::share::{Fail, Share};

/// Where; nothing where no table is written.
pub(super) fn compile(root: &Table, cx: &mut Context) -> Option<Arc<Share>> {
    let table = root.table("redis")?;
    let node = table.get("url")?;
    let url = node.as_str()?;
    let fail = match table.str("fail") {
        Some("closed") => Fail::Closed,
        _ => Fail::Open,
    };
    if !plausible(url) {
        // The URL may hold a password and is not repeated.
        let finding =
            Diagnostic::error("bad-redis-url", node.span, "this is no address of a Redis");
        cx.say(finding.help(
            "`redis://host:6379/0`, `rediss://host` over TLS, or `unix:///run/redis/redis.sock`",
        ));
        return None;
    }
    let share = Share::of(url, fail, cx.memory.share.as_ref());
    cx.memory.share = Some(Arc::clone(&share));
    Some(share)
}

#[cfg(feature = "redis")]
fn plausible(url: &str) -> bool {
    redis::Client::open(url).is_ok()
}

/// Without the feature the table is refused as a whole.
#[cfg(not(feature = "redis"))]
const fn plausible(_url: &str) -> bool {
    true
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

    use super::*;
    use crate::config::node::{FileId, parse};

    fn read(text: &str, cx: &mut Context) -> Option<Arc<Share>> {
        let (root, mistakes) = parse(text, FileId(0));
        assert_eq!(mistakes, []);
        compile(&root, cx)
    }

    #[test]
    fn a_url_is_read_or_refused_and_never_repeated() {
        for (url, good, why) in [
            ("http://127.0.0.1", false, "another protocol"),
            ("redis://:s3cret@host:port", false, "no port"),
            ("127.0.0.1:6379", false, "no scheme"),
            ("redis://127.0.0.1", true, "the usual port"),
            ("redis://user:s3cret@10.0.0.1:6380/3", true, "a password"),
            ("rediss://redis.example", true, "over TLS"),
            ("unix:///run/redis.sock", true, "a socket"),
        ] {
            let mut cx = Context::default();
            let share = read(&format!("[redis]\nurl = \"{url}\""), &mut cx);
            assert_eq!(share.is_some(), good, "{why}");
            let found = format!("{:?} {share:?}", cx.report.diagnostics);
            assert_eq!(found.contains("bad-redis-url"), !good, "{found}");
            assert!(!found.contains("s3cret"), "{found}");
        }
    }

    #[test]
    fn what_stays_is_kept_over_a_load() {
        let mut cx = Context::default();
        let text = "[redis]\nurl = \"redis://127.0.0.1\"\n";
        let first = read(text, &mut cx).unwrap();
        assert_eq!(first.fail, Fail::Open);
        assert!(Arc::ptr_eq(&first, &read(text, &mut cx).unwrap()));
        let closed = read(&format!("{text}fail = \"closed\""), &mut cx).unwrap();
        assert_eq!(closed.fail, Fail::Closed);
        assert!(!Arc::ptr_eq(&first, &closed));
    }
}
