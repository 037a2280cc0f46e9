//! What a relying party expects of evidence, whatever its kind.

/// What evidence must carry, and the instant at which it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// What must stand in the evidence's report data (by the kind's own rule of padding or truncation). `None`: the caller
    /// has nothing to compare with; the verdict then has no such check. An empty slice is no expectation that could be met.
    pub report_data: Option<&'a [u8]>,
    /// Digest of the initdata that was presented, which the TEE must bind. `None`: none was presented.
    pub init_data_digest: Option<&'a [u8]>,
    /// Now, Unix seconds.
    pub now_unix: u64,
}

/// Truncated or zero-padded to the field's length; nothing at all is no expectation and matches nothing.
pub(crate) fn padded<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    if value.is_empty() {
        return None;
    }
    let mut out = [0; N];
    out.iter_mut().zip(value).for_each(|(o, i)| *o = *i);
    Some(out)
}
