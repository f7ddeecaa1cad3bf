//! A key that is the same on every machine.

use std::hash::Hasher;

use aws_lc_rs::digest::{Context, SHA256};

use crate::policy::limit::Limit;

/// The digest of a limit's place in the configuration and of what `feed` puts in: the same on every machine that runs this
/// build on the same kind of processor.
pub fn digest(limit: &Limit, feed: impl FnOnce(&mut Digest)) -> [u8; 16] {
    let mut digest = Digest(Context::new(&SHA256));
    std::hash::Hash::hash(&(&limit.scope, &limit.name, &limit.per), &mut digest);
    feed(&mut digest);
    let mut out = [0; 16];
    for (place, byte) in out.iter_mut().zip(digest.0.finish().as_ref()) {
        *place = *byte;
    }
    out
}

/// A hasher without a seed that nobody can make two inputs meet in.
pub struct Digest(Context);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of no use here: the whole digest counts.
    fn finish(&self) -> u64 {
        0
    }
}
