//! Made-up `/etc/passwd` and `/etc/group` for containerd's look-ups.
//!
//! containerd turns an image's `USER name` into numbers while it writes a container's spec: it mounts the snapshot and
//! reads these files. The image's own are in its layers, which this host does not have. So the names that its config
//! uses are listed here, with numbers that mean nothing: the guest takes the user from the plan, and looks it up in the
//! image that it verified. Only `root` has its true number. A made-up user is never 0, so that nothing on the host
//! takes it for root.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The number of whoever is not root: `nobody`'s.
const NOBODY: u32 = 65534;
/// Most users, and most groups.
const MAX_NAMES: usize = 256;
/// Most bytes of a name.
const MAX_NAME: usize = 256;

/// Names of users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
}

impl Accounts {
    /// Adds the names in a config's `User`: `user`, `user:group`, either of them as a number.
    pub fn add(&mut self, user: &str) {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        for (names, name) in [(&mut self.users, user), (&mut self.groups, group)] {
            if names.len() < MAX_NAMES && is_name(name) {
                names.insert(name.to_owned());
            }
        }
    }

    /// The text of `/etc/passwd`.
    pub(crate) fn passwd(&self) -> String {
        self.users.iter().fold("root:x:0:0:root:/root:/bin/sh\n".to_owned(), |mut text, name| {
            let _ = writeln!(text, "{name}:x:{NOBODY}:{NOBODY}:looked up in the guest:/:/bin/false");
            text
        })
    }

    /// The text of `/etc/group`.
    pub(crate) fn group(&self) -> String {
        self.groups.iter().fold("root:x:0:\n".to_owned(), |mut text, name| {
            let _ = writeln!(text, "{name}:x:{NOBODY}:");
            text
        })
    }
}

/// Whether it is a name that needs to be listed, and could be: numbers are not looked up, `root` is there.
fn is_name(name: &str) -> bool {
    let clean = |c: char| !c.is_control() && !c.is_whitespace() && c != ':' && c != '/';
    (1..=MAX_NAME).contains(&name.len())
        && name != "root"
        && name.chars().all(clean)
        && !name.chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_and_nothing_else() {
        let mut accounts = Accounts::default();
        for user in [
            "",
            "0",
            "root",
            "1000:1000",
            "web",
            "web:staff",
            "x\ny:0:0",
            "a b",
            "1000:wheel",
            "root:root",
            ":only",
        ] {
            accounts.add(user);
        }
        let passwd = accounts.passwd();
        let users: Vec<_> = passwd.lines().map(|l| l.split(':').take(4).collect::<Vec<_>>()).collect();
        assert_eq!(users, [["root", "x", "0", "0"], ["web", "x", "65534", "65534"]]);
        assert!(passwd.lines().all(|l| l.split(':').count() == 7));
        assert_eq!(accounts.group(), "root:x:0:\nonly:x:65534:\nstaff:x:65534:\nwheel:x:65534:\n");
        for n in 0..1000 {
            accounts.add(&format!("u{n}:{}", "g".repeat(n)));
        }
        assert!(accounts.passwd().lines().count() <= MAX_NAMES + 1 && accounts.group().len() < 256 * 300);
    }
}
