//! Paths from a leaf to a root that the caller trusts.

use super::Certificate;
use crate::Error;

/// Most certificates of a path, leaf and root included.
pub const MAX_DEPTH: usize = 8;
/// Most certificates of a pool that are looked at.
const MAX_POOL: usize = 32;

/// A verified path: names, signatures, authorities and path lengths fit. Neither dates nor revocation were looked at.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    /// The leaf first, the trusted root last. A leaf that is itself a trusted root is a path of one.
    pub certificates: Vec<&'a Certificate>,
}

impl Path<'_> {
    /// The trusted end.
    pub fn root(&self) -> Option<&Certificate> {
        self.certificates.last().copied()
    }

    /// The first certificate outside its validity.
    pub fn expired(&self, now_unix: u64) -> Option<&Certificate> {
        self.certificates.iter().find(|c| !c.validity().contains(now_unix)).copied()
    }
}

/// Finds the path from `leaf` through certificates of the hostile `pool` to one of `roots`, which are trusted as they are
/// and must be byte for byte or by key and name the issuer.
///
/// # Errors
/// [`Error::Certificate`] where there is none.
pub fn path<'a>(
    leaf: &'a Certificate,
    pool: &'a [Certificate],
    roots: &'a [Certificate],
) -> Result<Path<'a>, Error> {
    let mut certificates = vec![leaf];
    let mut current = leaf;
    if roots.iter().any(|root| root.der() == leaf.der()) {
        return Ok(Path { certificates });
    }
    while certificates.len() < MAX_DEPTH {
        // Authorities between `current` and the leaf; what `current`'s issuer's path length counts.
        let below = certificates.len() - 1;
        let may = |issuer: &Certificate| {
            issuer.is_authority() && issuer.path_length().is_none_or(|limit| usize::from(limit) >= below)
        };
        let issues = |issuer: &&Certificate| {
            issuer.subject_name() == current.issuer_name() && may(issuer) && current.is_issued_by(issuer)
        };
        if let Some(root) = roots.iter().find(issues) {
            certificates.push(root);
            return Ok(Path { certificates });
        }
        let next = pool
            .iter()
            .take(MAX_POOL)
            .filter(|c| !certificates.iter().any(|seen| seen.der() == c.der()))
            .find(issues)
            .ok_or(Error::Certificate("no path to a trusted root"))?;
        certificates.push(next);
        current = next;
    }
    Err(Error::Certificate("the path to a trusted root is too long"))
}
