//! Paths from a leaf to a root that the caller trusts.

use const_oid::ObjectIdentifier;

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
/// An authority with name constraints, critical or not, issues nothing here: they are not understood.
///
/// # Errors
/// [`Error::Certificate`] where there is none, or none that is found within bounded work.
pub fn path<'a>(
    leaf: &'a Certificate,
    pool: &'a [Certificate],
    roots: &'a [Certificate],
) -> Result<Path<'a>, Error> {
    find(leaf, pool, roots, None)
}

/// As [`path`], over authorities alone that may certify for the purpose ([`Certificate::lets_purpose`]), the root
/// included. The leaf's own extended key usage is the caller's question.
///
/// # Errors
/// As [`path`].
pub fn path_for<'a>(
    leaf: &'a Certificate,
    pool: &'a [Certificate],
    roots: &'a [Certificate],
    purpose: ObjectIdentifier,
) -> Result<Path<'a>, Error> {
    find(leaf, pool, roots, Some(purpose))
}

fn find<'a>(
    leaf: &'a Certificate,
    pool: &'a [Certificate],
    roots: &'a [Certificate],
    purpose: Option<ObjectIdentifier>,
) -> Result<Path<'a>, Error> {
    let mut certificates = vec![leaf];
    if roots.iter().any(|root| root.der() == leaf.der()) {
        return Ok(Path { certificates });
    }
    let mut search = Search { pool, roots, purpose, signatures: MAX_SIGNATURES, refused: None };
    if search.extend(&mut certificates) {
        return Ok(Path { certificates });
    }
    Err(Error::Certificate(search.refused.unwrap_or("no path to a trusted root")))
}

/// A depth-first search.
struct Search<'a> {
    pool: &'a [Certificate],
    roots: &'a [Certificate],
    purpose: Option<ObjectIdentifier>,
    /// How many more signatures may be checked.
    signatures: usize,
    /// Why a path that might have been was not taken.
    refused: Option<&'static str>,
}

impl<'a> Search<'a> {
    /// Completes the path to a root; leaves it as it was where that is impossible. At most [`MAX_DEPTH`] levels deep.
    fn extend(&mut self, certificates: &mut Vec<&'a Certificate>) -> bool {
        let Some(current) = certificates.last().copied() else { return false };
        if certificates.len() >= MAX_DEPTH {
            self.refused = Some("the path to a trusted root is too long");
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
        if !may {
            return false;
        }
        if issuer.has_name_constraints() {
            self.refused = Some("an authority has name constraints, which are not supported");
            return false;
        }
        if self.purpose.is_some_and(|purpose| !issuer.lets_purpose(purpose)) {
            self.refused = Some("an authority's extended key usage does not allow the purpose");
            return false;
        }
        self.signatures -= 1;
        current.is_issued_by(issuer)
    }
}
