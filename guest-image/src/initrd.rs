//! Lays out the initrd.
//!
//! | path | what |
//! |---|---|
//! | `/init` | the guest program, PID 1 |
//! | `/modules/NN-name.ko` | kernel modules, numbered in load order |
//! | `/modules/list` | file names of the modules that must load, one a line, in load order |
//! | `/modules/optional` | the same for those that may fail to load (hardware of some hosts only) |
//! | `/modules/layers`, `crypt`, `scratch`, `volumes` | sets that only some plans need, likewise; before what may fail to load `?`, after it the processor's flag that it is for |
//! | `/developer` | empty; only in a developer's image, which may run without a plan |
//! | `/etc/ssl/certs/ca-certificates.crt` | the roots that registries' certificates end in |
//! | `/etc/passwd`, `/etc/group` | root and nobody |
//! | `/dev/console` | what the kernel opens as init's standard streams |
//! | `/proc`, `/sys`, `/run`, `/tmp`, `/var` | empty |

use std::collections::BTreeMap;

use crate::modules::{Member, Selected, When};
use crate::{Archive, Error};

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// The initrd's bytes: an uncompressed cpio archive. Measured under emulation, boot takes the same time as with
/// zstd, lz4 or gzip (what copying a smaller file saves, unpacking costs), and no compressor's version can
/// change the bytes.
pub(crate) fn compose(
    guest: Vec<u8>,
    selected: Selected,
    ca_bundle: Option<Vec<u8>>,
    developer: bool,
) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::new();
    for folder in ["dev", "etc", "modules", "proc", "run", "sys", "var"] {
        archive.directory(folder, 0o755)?;
    }
    archive.directory("tmp", 0o1777)?;
    archive.character_device("dev/console", 0o600, 5, 1)?;
    archive.file("init", 0o755, guest)?;
    archive.file("etc/passwd", 0o644, PASSWD.into())?;
    archive.file("etc/group", 0o644, GROUP.into())?;
    if let Some(bundle) = ca_bundle {
        archive.file("etc/ssl/certs/ca-certificates.crt", 0o644, bundle)?;
    }
    if developer {
        archive.file("developer", 0o444, Vec::new())?;
    }
    let (mut list, mut optional) = (String::new(), String::new());
    let mut files = BTreeMap::new();
    for (number, module) in selected.modules.into_iter().enumerate() {
        let file = format!("{number:02}-{}.ko", module.name);
        match module.when {
            When::Always => list.push_str(&format!("{file}\n")),
            When::Optional => optional.push_str(&format!("{file}\n")),
            When::OnDemand => {}
        }
        archive.file(&format!("modules/{file}"), 0o644, module.object)?;
        files.insert(module.name, file);
    }
    for set in selected.sets {
        let file = |member: &Member| {
            let file = files.get(&member.name)?;
            Some(match member.optional {
                None => format!("{file}\n"),
                Some("") => format!("?{file}\n"),
                Some(flag) => format!("?{file} {flag}\n"),
            })
        };
        let lines: String = set.modules.iter().filter_map(file).collect();
        archive.file(&format!("modules/{}", set.name), 0o644, lines.into())?;
    }
    archive.file("modules/list", 0o644, list.into())?;
    archive.file("modules/optional", 0o644, optional.into())?;
    Ok(archive.finish())
}
