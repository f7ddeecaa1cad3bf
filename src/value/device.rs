//! What is known of the device that a request comes from.

use serde_json::{Map, Value};

/// Facts about a device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// The facts; an object.
    pub facts: Map<String, Value>,
    /// Whether what is said of the device elsewhere than in `certificate` is unknown: its list is missing or too old.
    pub failed: bool,
}

/// The name under which a client certificate's facts stand, and nobody else's.
pub const CERTIFICATE: &str = "certificate";
