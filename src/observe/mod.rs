//! What the operator sees: access log, diagnostics log.
