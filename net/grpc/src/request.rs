//! What a handler knows of its call beside the message.

use std::time::Duration;

use http::HeaderMap;

/// The metadata of one call.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) headers: HeaderMap,
    /// How long the call may take in all.
    pub time: Duration,
}

impl Call {
    /// The caller's metadata of this name (lower case); `None` if absent or not visible ASCII. The first of several.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
