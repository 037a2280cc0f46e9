//! What the Ultravisor's HMAC covers, and whether it is right.
//!
//! HMAC-SHA-512 by the request's measurement key over: header tags (208), configuration unique id (16), length of the user
//! data (2), zeros (2), length of the additional data (4), user data, request nonce (16), additional data. The nonce is
//! there because our requests always ask for it.

use aws_lc_rs::hmac;

use super::header::HeaderTags;

/// Length of a measurement and of the key that makes it.
pub(super) const MEASUREMENT_SIZE: usize = 64;
/// Length of the nonce within a request.
pub(super) const NONCE_SIZE: usize = 16;

/// The parts of a measurement.
pub(super) struct Items<'a> {
    pub tags: &'a HeaderTags,
    pub cuid: &'a [u8; 16],
    pub user_data: &'a [u8],
    pub nonce: &'a [u8; NONCE_SIZE],
    pub additional_data: &'a [u8],
}

impl Items<'_> {
    fn to_bytes(&self) -> Option<Vec<u8>> {
        let user_length = u16::try_from(self.user_data.len()).ok()?;
        let additional_length = u32::try_from(self.additional_data.len()).ok()?;
        let parts: [&[u8]; 8] = [
            &self.tags.to_bytes(),
            self.cuid,
            &user_length.to_be_bytes(),
            &[0, 0],
            &additional_length.to_be_bytes(),
            self.user_data,
            self.nonce,
            self.additional_data,
        ];
        Some(parts.concat())
    }

    /// Whether the key's owner measured exactly this. Takes the same time wherever a wrong measurement differs.
    pub fn are_measured_by(&self, key: &[u8; MEASUREMENT_SIZE], measurement: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA512, key);
        self.to_bytes().is_some_and(|bytes| hmac::verify(&key, &bytes, measurement).is_ok())
    }

    /// The measurement, as the Ultravisor makes it.
    #[cfg(test)]
    pub fn measure(&self, key: &[u8; MEASUREMENT_SIZE]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA512, key);
        hmac::sign(&key, &self.to_bytes().unwrap()).as_ref().to_vec()
    }
}
