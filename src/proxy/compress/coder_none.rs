//! The coder of a build without the cargo feature `compression`: there is none, and `check` refuses the key.

use std::io;

use bytes::Bytes;

use crate::respond::Coding;

/// Nothing.
#[derive(Debug)]
pub(super) enum Coder {}

impl Coder {
    /// None.
    pub(super) const fn begin(_coding: Coding, _length: Option<u64>) -> Option<Self> {
        None
    }

    pub(super) const fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(super) const fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(super) const fn finish(&mut self) -> io::Result<()> {
        match *self {}
    }

    pub(super) const fn ready(&self) -> usize {
        match *self {}
    }

    pub(super) const fn take(&mut self) -> Bytes {
        match *self {}
    }
}
