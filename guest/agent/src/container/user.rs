//! From the plan's user to numeric ids, by the image's `/etc/passwd` and `/etc/group`.
//!
//! The meaning is that of an image config's `User` field as container engines read it: `user[:group]`, names or
//! numbers, a number need not be listed, and supplementary groups apply only where no group is given.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use super::paths;
use crate::Error;

/// Longest `/etc/passwd` or `/etc/group` that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// The kernel's `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65536;

/// Who a container's process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// The home directory, `/` where the user is not listed.
    pub(crate) home: String,
}

impl User {
    /// The same user with further groups.
    pub(crate) fn with_groups(mut self, groups: &[u32]) -> Self {
        for group in groups {
            if !self.groups.contains(group) {
                self.groups.push(*group);
            }
        }
        self
    }
}

/// Looks the user up in the image whose root `root` is.
///
/// # Errors
/// [`Error::User`] where it does not exist there; [`Error::Container`] where the files cannot be read.
pub(crate) fn lookup(root: BorrowedFd<'_>, user: &str) -> Result<User, Error> {
    let passwd = read_database(root, "/etc/passwd")?;
    let group = read_database(root, "/etc/group")?;
    resolve(user, &passwd, &group)
}

fn read_database(root: BorrowedFd<'_>, path: &str) -> Result<String, Error> {
    let Some(fd) = paths::open_file(root, path).map_err(Error::container(format!("open {path}")))? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    let read = File::from(fd).take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.map_err(Error::container(format!("read {path}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(Error::User { user: path.into(), problem: "the file is larger than 1 MiB".into() });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Account { name, uid, gid, home })
    })
}

/// Name, gid and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        let gid = id(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// A numeric id; engines allow those of a signed 32-bit number.
fn id(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|n| i32::try_from(*n).is_ok())
}

pub(crate) fn resolve(spec: &str, passwd: &str, group: &str) -> Result<User, Error> {
    let fail = |problem: &str| Error::User { user: spec.to_owned(), problem: problem.to_owned() };
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|g| !g.is_empty())),
        None => (spec, None),
    };
    let number = if user.is_empty() { Some(0) } else { id(user) };
    // A number is always an id, even where a user has that name.
    let account = accounts(passwd).find(|a| number.map_or(a.name == user, |n| a.uid == n));
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(number)) => number,
        (None, None) => return Err(fail("is not in the image's /etc/passwd and is not a number")),
    };
    let mut supplementary = Vec::new();
    let gid = match wanted_group {
        Some(wanted) => {
            let number = id(wanted);
            groups(group)
                .find(|(name, gid, _)| number.map_or(*name == wanted, |n| *gid == n))
                .map(|(_, gid, _)| gid)
                .or(number)
                .ok_or_else(|| fail("its group is not in the image's /etc/group and is not a number"))?
        }
        None => {
            if let Some(account) = &account {
                let member = |members: &str| members.split(',').any(|m| m.trim() == account.name);
                let ids = groups(group).filter(|(_, _, members)| member(members)).map(|(_, gid, _)| gid);
                supplementary.extend(ids.take(MAX_GROUPS));
            }
            account.as_ref().map_or(0, |a| a.gid)
        }
    };
    let home = account.as_ref().map(|a| a.home).filter(|h| h.starts_with('/')).unwrap_or("/");
    Ok(User { uid, gid, groups: supplementary, home: home.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbad line\n\
        web:x:33:33:www:/var/www:/bin/sh\nalice:x:1000:1001::/home/alice:\n7:x:8:8::/seven:\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nstaff:x:50:alice,web\nusers:x:1001:\nvideo:x:44: alice\n";

    fn found(spec: &str) -> User {
        resolve(spec, PASSWD, GROUP).unwrap()
    }

    #[test]
    fn users_as_engines_read_them() {
        let user = |uid, gid, groups: &[u32], home: &str| User {
            uid,
            gid,
            groups: groups.into(),
            home: home.into(),
        };
        assert_eq!(found(""), user(0, 0, &[], "/root"));
        assert_eq!(found("alice"), user(1000, 1001, &[50, 44], "/home/alice"));
        assert_eq!(found("1000"), user(1000, 1001, &[50, 44], "/home/alice"));
        assert_eq!(found("alice:staff"), user(1000, 50, &[], "/home/alice"));
        assert_eq!(found("alice:"), found("alice"));
        assert_eq!(found("4242"), user(4242, 0, &[], "/"));
        assert_eq!(found("4242:4343"), user(4242, 4343, &[], "/"));
        assert_eq!(found(":staff"), user(0, 50, &[], "/root"));
        assert_eq!(found("7"), user(7, 0, &[], "/"), "a number is an id, not a name");
    }

    #[test]
    fn unknown_names_are_refused_with_the_code() {
        for spec in ["mallory", "alice:mallory", "-1", "4294967296", "2147483648", "root\n"] {
            let error = resolve(spec, PASSWD, GROUP).unwrap_err();
            let failure = cocoon_stage::Failure::from(error);
            assert_eq!(failure.code, cocoon_stage::Code::StartUserUnknown, "{spec}");
        }
        assert_eq!(resolve("5", "", "").unwrap().uid, 5, "an image without the files has numbers only");
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(spec in ".{0,40}", passwd in "([a-z:0-9\n]|.){0,400}", group in "([a-z:,0-9\n]|.){0,400}") {
            let _ = resolve(&spec, &passwd, &group);
        }
    }
}
