//! Paths from a leaf to a root that the caller trusts.

use super::Certificate;
use crate::Error;

/// Most certificates of a path, leaf and root included.
pub const MAX_DEPTH: usize = 8;
/// Most certificates of a pool that are looked at.
const MAX_POOL: usize = 16;
/// Most signatures that are checked for one path.
const MAX_SIGNATURES: usize = 24;

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

/// Finds a path from `leaf` through certificates of the hostile `pool` to one of `roots`, which are trusted as they are
/// and must be byte for byte or by key and name the issuer. Of several issuers (renewed, cross-signed) each is tried.
///
/// # Errors
/// [`Error::Certificate`] where there is none, or none that is found within bounded work.
pub fn path<'a>(
    leaf: &'a Certificate,
    pool: &'a [Certificate],
    roots: &'a [Certificate],
) -> Result<Path<'a>, Error> {
    let mut certificates = vec![leaf];
    if roots.iter().any(|root| root.der() == leaf.der()) {
        return Ok(Path { certificates });
    }
    let mut search = Search { pool, roots, signatures: MAX_SIGNATURES, too_long: false };
    if search.extend(&mut certificates) {
        return Ok(Path { certificates });
    }
    let too_long = Error::Certificate("the path to a trusted root is too long");
    Err(if search.too_long { too_long } else { Error::Certificate("no path to a trusted root") })
}

/// A depth-first search.
struct Search<'a> {
    pool: &'a [Certificate],
    roots: &'a [Certificate],
    /// How many more signatures may be checked.
    signatures: usize,
    too_long: bool,
}

impl<'a> Search<'a> {
    /// Completes the path to a root; leaves it as it was where that is impossible. At most [`MAX_DEPTH`] levels deep.
    fn extend(&mut self, certificates: &mut Vec<&'a Certificate>) -> bool {
        let Some(current) = certificates.last().copied() else { return false };
        if certificates.len() >= MAX_DEPTH {
            self.too_long = true;
            return false;
        }
        // Authorities between `current` and the leaf; what `current`'s issuer's path length counts.
        let below = certificates.len() - 1;
        let (roots, pool) = (self.roots, self.pool);
        if let Some(root) = roots.iter().find(|root| self.issues(root, current, below)) {
            certificates.push(root);
            return true;
        }
        for next in pool.iter().take(MAX_POOL) {
            let seen = certificates.iter().any(|seen| seen.der() == next.der());
            if !seen && self.issues(next, current, below) {
                certificates.push(next);
                if self.extend(certificates) {
                    return true;
                }
                certificates.pop();
            }
        }
        false
    }

    /// Whether it may issue and did. The signature comes last, for it costs most.
    fn issues(&mut self, issuer: &Certificate, current: &Certificate, below: usize) -> bool {
        let may = issuer.subject_name() == current.issuer_name()
            && issuer.is_authority()
            && issuer.path_length().is_none_or(|limit| usize::from(limit) >= below)
            && self.signatures > 0;
        if may {
            self.signatures -= 1;
        }
        may && current.is_issued_by(issuer)
    }
}
