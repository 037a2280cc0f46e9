//! `LocalFs`: one folder per namespace, one file per key.

use std::path::Path;

use super::folder::Folder;
use super::{Each, Imported, Report, is_key, is_namespace};
use crate::Error;

/// Gives every value of upstream's `LocalFs` folder to `each`. In file names, `/` stands as the four characters
/// `\x2F`. An error means that the folder itself cannot be opened or listed; all else is in the [`Report`].
pub fn import_local_fs(folder: &Path, each: &mut Each<'_>) -> Result<Report, Error> {
    let root = Folder::open(folder)?;
    let mut report = Report::default();
    let listed = root.each_name(&mut |name| match name {
        Ok(name) if is_namespace(name) => match root.folder(name) {
            Ok(inside) => namespace(name, &inside, &mut report, each),
            Err(reason) => report.problem(name, reason),
        },
        Ok(name) => report.problem(name, "not the name of a namespace"),
        Err(name) => report.problem(&name, "the name is not UTF-8"),
    });
    listed.map_err(|reason| Error::io(folder, std::io::Error::other(reason)))?;
    Ok(report)
}

fn namespace(ns: &str, folder: &Folder, report: &mut Report, each: &mut Each<'_>) {
    let listed = folder.each_name(&mut |name| {
        let name = match name {
            Ok(name) => name,
            Err(name) => return report.problem(&format!("{ns}/{name}"), "the name is not UTF-8"),
        };
        let place = format!("{ns}/{name}");
        let key = name.replace(r"\x2F", "/");
        if !is_key(&key) {
            return report.problem(&place, "not a valid key");
        }
        match folder.read(name) {
            Ok(value) => report.give(&place, Imported { namespace: ns.to_owned(), key, value }, each),
            Err(reason) => report.problem(&place, reason),
        }
    });
    if let Err(reason) = listed {
        report.problem(ns, reason);
    }
}
