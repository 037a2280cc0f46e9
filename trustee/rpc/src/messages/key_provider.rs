//! Package `keyprovider`. The bytes hold JSON with layer keys, so these messages are not `Debug` by derive.

use std::fmt;

use zeroize::Zeroize;

/// `KeyProviderKeyWrapProtocolInput` and `KeyProviderKeyWrapProtocolOutput`, which are alike on the wire.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct KeyProviderMessage {
    #[prost(bytes = "vec", tag = "1")]
    pub json: Vec<u8>,
}

impl fmt::Debug for KeyProviderMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyProviderMessage")
    }
}

impl Drop for KeyProviderMessage {
    fn drop(&mut self) {
        self.json.zeroize();
    }
}
