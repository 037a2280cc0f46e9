//! CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) as Linux's `crc32c()` computes it: no final inversion.

/// Continues `crc` (first: `!0`) over `data`.
pub(crate) fn crc32c(crc: u32, data: &[u8]) -> u32 {
    data.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0x82f6_3b78 & (c & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value_of_the_catalogue() {
        // RFC 3720 B.4 and the CRC catalogue; both with the final inversion.
        assert_eq!(!super::crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!super::crc32c(!0, &[0; 32]), 0x8a91_36aa);
    }
}
