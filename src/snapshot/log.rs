//! `[access_log]` as data.

/// One access log.
#[derive(Debug)]
pub struct AccessLog;
