//! Verification of a log through the API alone: every entry is fetched, the tree is computed here.

use cocoon_audit::{Hash, Logged, MAX_PAGE, offline};
use cocoon_stage::{Code, Failure};

use super::audit::{Remembered, Verified, head, key, parse};
use crate::client::AdminClient;

/// Verifies the log up to the head that Trustee signs now, and that it grew from the remembered one.
pub async fn verify(client: &AdminClient, remembered: Option<&Remembered>) -> Result<Verified, Failure> {
    let (head, key) = (head(client).await?, key(client).await?);
    // A key that was remembered is believed before the one that Trustee names now.
    let known = remembered.map(|r| r.public_key.parse()).transpose()?.unwrap_or_else(|| key.clone());
    let mut signed = vec![(head.size, offline::verify_head(&known, &head)?)];
    if let Some(remembered) = remembered {
        let earlier = &remembered.head;
        let root = offline::verify_head(&known, earlier)?;
        if earlier.log_id != head.log_id {
            return Err(tampered(format!(
                "this is log {}, the remembered one is {}",
                head.log_id, earlier.log_id
            )));
        }
        if earlier.size > head.size {
            let reason =
                format!("the log has {} entries, the remembered head has {}", head.size, earlier.size);
            return Err(tampered(reason));
        }
        signed.push((earlier.size, root));
    }
    let mut tree = Peaks::default();
    tree.compare(&signed)?;
    while tree.size < head.size {
        let from = tree.size;
        let path = format!("audit/entries?from={from}&limit={MAX_PAGE}");
        let page: Vec<Logged> = parse(client.get(&path, "entries of the audit log").await?)?;
        let wanted = usize::try_from(head.size - from).unwrap_or(usize::MAX);
        for logged in page.into_iter().take(wanted) {
            if logged.index != tree.size {
                return Err(tampered(format!("entry {} stands where {} should be", logged.index, tree.size)));
            }
            tree.push(Hash::of_leaf(&logged.entry.to_bytes()?));
            tree.compare(&signed)?;
        }
        if tree.size == from {
            return Err(tampered(format!(
                "entry {from} is missing; the signed head has {} entries",
                head.size
            )));
        }
    }
    Ok(Verified { size: head.size, head, key: known })
}

fn tampered(reason: String) -> Failure {
    Failure::new(Code::AuditTampered, reason)
}

/// The roots of the perfect subtrees of a tree that grows, largest first, with their sizes.
#[derive(Default)]
struct Peaks {
    size: u64,
    roots: Vec<(u64, Hash)>,
}

impl Peaks {
    fn push(&mut self, leaf: Hash) {
        let mut new = (1, leaf);
        while let Some((size, left)) = self.roots.pop_if(|(size, _)| *size == new.0) {
            new = (size * 2, Hash::of_node(&left, &new.1));
        }
        self.roots.push(new);
        self.size += 1;
    }

    fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev().map(|(_, root)| *root);
        match roots.next() {
            None => Hash::of_nothing(),
            Some(last) => roots.fold(last, |right, left| Hash::of_node(&left, &right)),
        }
    }

    /// Compares with the roots that were signed for trees of this size.
    fn compare(&self, signed: &[(u64, Hash)]) -> Result<(), Failure> {
        let mut here = signed.iter().filter(|(size, _)| *size == self.size).peekable();
        if here.peek().is_none() {
            return Ok(());
        }
        let root = self.root();
        match here.find(|(_, signed)| *signed != root) {
            Some((size, signed)) => Err(tampered(format!(
                "the first {size} entries have the root {root}, but {signed} was signed for them"
            ))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The well-known test leaves of Certificate Transparency (RFC 6962) and the roots of their trees.
    #[test]
    fn roots_are_those_of_the_standard() {
        let leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        ];
        let mut tree = Peaks::default();
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(tree.root().to_string(), *root, "{size}");
            tree.compare(&[(tree.size, root.parse().unwrap())]).unwrap();
            let other = tree.compare(&[(tree.size, Hash([7; 32]))]).unwrap_err();
            assert_eq!(other.code, Code::AuditTampered);
            if let Some(leaf) = leaves.get(size) {
                tree.push(Hash::of_leaf(&hex::decode(leaf).unwrap()));
            }
        }
    }
}
