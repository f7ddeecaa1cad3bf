//! What the operator sees: the access log and the diagnostics log.
//!
//! - [`record`]: what one line of the access log says, gathered along a request's life.
//! - [`mod@format`]: from a record to the bytes of a line: JSON, nginx's `combined`, templates; escaping, redaction, privacy.
//! - [`facts`]: what rules read and no other column carries.
//! - [`access_log`]: where lines go; workers never wait for it.
//! - [`metrics`]: counters, and their page for Prometheus.
//! - [`ring`]: what the newest requests were judged by.
//! - [`logging`]: the diagnostics log (tracing).
//!
//! This room decides nothing and never sees a configuration file; [`crate::snapshot::log`] says what to log.

pub mod access_log;
pub mod facts;
pub mod format;
pub mod logging;
pub mod metrics;
pub mod record;
pub mod ring;
