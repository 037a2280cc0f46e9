//! Open descriptors that QEMU takes over from this process.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::io::{FdFlags, fcntl_setfd};

/// An open descriptor that QEMU inherits under the number it has here. It is close-on-exec in this process, so that only
/// the QEMU whose specification names it gets it.
#[derive(Clone)]
pub struct Descriptor(Arc<OwnedFd>);

impl Descriptor {
    /// Its number, here and in QEMU.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Arc<OwnedFd>> for Descriptor {
    fn from(fd: Arc<OwnedFd>) -> Self {
        Descriptor(fd)
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Descriptor(Arc::new(fd))
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Descriptor({})", self.number())
    }
}

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        self.number() == other.number()
    }
}

impl Eq for Descriptor {}

/// Lets the command's child keep the descriptors, which stay open as long as the command does.
///
/// They keep their numbers: a number chosen here could be one that the standard library uses between fork and exec.
#[allow(unsafe_code)]
pub(crate) fn inherit(command: &mut Command, descriptors: Vec<Descriptor>) {
    let keep = move || {
        for descriptor in &descriptors {
            fcntl_setfd(descriptor.0.as_fd(), FdFlags::empty()).map_err(io::Error::from)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls and allocates nothing.
    unsafe {
        command.pre_exec(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_gets_what_is_named_and_nothing_else() {
        let open = || Descriptor::from(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let (named, other) = (open(), open());
        let seen = |inherited: Vec<Descriptor>| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(format!(
                "for n in {} {}; do test -e /proc/self/fd/$n && echo $n; done; true",
                named.number(),
                other.number()
            ));
            inherit(&mut command, inherited);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        assert_eq!(seen(vec![named.clone()]), format!("{}\n", named.number()));
        assert_eq!(seen(vec![]), "", "and stays close-on-exec here");
    }
}
