//! containerd's configuration as it shall be, drafted and shown to containerd before anything is changed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cocoon_stage::{Code, Failure};
use toml::Table;

use super::Install;
use super::classes::Class;
use super::disk::Print;
use super::places::{Places, covers};
use super::store::{Manifest, Store, failed};
use crate::containerd::main_file::{self, Additions};
use crate::containerd::{
    Containerd, Dialect, Effective, RUNTIME_TYPE, Runtime, SNAPSHOTTER, SNAPSHOTTER_SOCKET, Scope, Wanted,
    plugin, render, text,
};

/// Largest main file that is edited, in bytes.
const MOST: u64 = 4 * 1024 * 1024;
/// A draft beside the main file, so that its relative imports are found. No `*.toml` matches it.
const DRAFT: &str = ".containerd.cocoon-draft";

pub(crate) fn refused(reason: impl Into<String>) -> Failure {
    Failure::new(Code::NodeConfigRefused, reason)
}

/// containerd's main file as it is.
#[derive(Clone, Debug)]
pub struct MainFile {
    /// Where it truly is: links are followed, so that they stay.
    pub path: PathBuf,
    /// What it is; `None` where there is none.
    pub print: Option<Print>,
    /// Its text without anything of Cocoon's.
    pub base: String,
    /// Whether it has something of Cocoon's in it.
    pub edited: bool,
}

impl MainFile {
    /// Reads it.
    ///
    /// # Errors
    /// `NODE-CONFIG-REFUSED` where it is not a text that can be edited.
    pub fn read(places: &Places, manifest: Option<&Manifest>) -> Result<Self, Failure> {
        let mut path = places.on_disk(&places.config);
        if fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink()) {
            if !places.is_live() {
                return Err(refused(format!(
                    "{} is a link, which may lead out of the image",
                    path.display()
                )));
            }
            path = fs::canonicalize(&path).map_err(|e| refused(format!("{}: {e}", path.display())))?;
        }
        remove_drafts(&path);
        let print = Print::of(&path).map_err(|e| refused(e.to_string()))?;
        if print.is_none() {
            return Ok(MainFile { path, print, base: String::new(), edited: false });
        }
        if fs::metadata(&path).is_ok_and(|m| m.len() > MOST) {
            return Err(refused(format!("{} is larger than {MOST} bytes", path.display())));
        }
        let bytes = fs::read(&path).map_err(|e| refused(format!("{}: {e}", path.display())))?;
        let text =
            String::from_utf8(bytes).map_err(|_| refused(format!("{} is not UTF-8", path.display())))?;
        let edited = main_file::is_edited(&text) || manifest.is_some_and(|m| m.entry(&path).is_some());
        let import = manifest.map_or_else(|| places.import(), |m| m.import.clone());
        let base = if edited { main_file::strip(&text, &import) } else { text };
        Ok(MainFile { path, print, base, edited })
    }
}

/// The configuration as it shall be.
#[derive(Debug)]
pub struct Draft {
    /// The main file; `None` where it can stay as it is.
    pub main: Option<String>,
    /// Cocoon's own file; none for containerd 1.
    pub drop_in: Option<String>,
    base: String,
    additions: Additions,
    before: Effective,
    wanted: Wanted,
}

impl Draft {
    /// Makes it.
    ///
    /// # Errors
    /// `NODE-CONFIG-REFUSED`: the present configuration is not one, or leaves no place.
    pub fn make(
        wish: &Install,
        classes: &[Class],
        containerd: &Containerd,
        dialect: Dialect,
        main: &MainFile,
    ) -> Result<Self, Failure> {
        let places = &wish.places;
        let version = containerd.version();
        if wish.snapshotter && (version.major, version.minor) == (1, 6) {
            let reason =
                format!("containerd {version} has one snapshotter for all runtimes; --snapshotter needs 1.7");
            return Err(Failure::new(Code::NodeContainerdUnusable, reason));
        }
        let at = |reason: String| refused(format!("{}: {reason}", main.path.display()));
        let base = match (&main.print, dialect) {
            (Some(_), _) => main.base.clone(),
            (None, Dialect::One) => format!("{MADE}version = 2\n"),
            (None, Dialect::Two) => format!("{MADE}version = 3\n"),
        };
        let version = main_file::version(&base).map_err(at)?;
        if dialect == Dialect::Two && version < 2 {
            return Err(at(
                "containerd 2 ignores parts of a configuration of version 1; `containerd config migrate`"
                    .into(),
            ));
        }
        let before =
            before(containerd, main).map_err(|e| at(format!("containerd refuses it as it is: {e}")))?;
        let wanted = Wanted {
            runtimes: classes
                .iter()
                .map(|class| Runtime {
                    name: class.name.into(),
                    shim: text(&places.shim()),
                    config: text(&places.class(class.name)),
                })
                .collect(),
            snapshotter: wish.snapshotter.then(|| SNAPSHOTTER_SOCKET.to_owned()),
        };
        let names = super::names();
        let mut additions = Additions::default();
        let mut drop_in = None;
        match dialect {
            Dialect::One => {
                let own = main_file::runtimes(&base, plugin(version));
                let kept = |name: &str| own.iter().any(|o| o == name) || names.contains(&name);
                let lost: Table = before.runtimes().into_iter().filter(|(name, _)| !kept(name)).collect();
                additions.block = Some(render(&wanted, version, dialect, &lost, &[]));
                additions.annotate_snapshots = (wish.snapshotter && !before.snapshots_are_annotated())
                    .then(|| plugin(version).to_owned());
            }
            Dialect::Two => {
                let tables = render(&wanted, version, dialect, &Table::new(), &before.unpacked());
                drop_in = Some(format!("{OWN}version = {}\n\n{tables}", version.min(3)));
                if !main_file::imports(&base).iter().any(|p| covers(p, &places.drop_in())) {
                    additions.import = Some(places.import());
                }
            }
        }
        let edited = main_file::edit(&base, &additions).map_err(at)?;
        let main_text = (main.print.is_none() || edited != base).then_some(edited);
        Ok(Draft { main: main_text, drop_in, base, additions, before, wanted })
    }

    /// Shows the draft to containerd. No file of the configuration is touched.
    ///
    /// # Errors
    /// `NODE-CONFIG-REFUSED` with what containerd says against it, or what would be different.
    pub fn try_out(
        &self,
        places: &Places,
        containerd: &Containerd,
        store: &Store,
        main: &MainFile,
    ) -> Result<(), Failure> {
        let drafts = store.drafts();
        fs::create_dir_all(&drafts).map_err(|e| failed(&e))?;
        let mut additions = self.additions.clone();
        let mut base = self.base.clone();
        if let Some(text) = &self.drop_in {
            let path = drafts.join("cocoon.toml");
            fs::write(&path, text).map_err(|e| failed(&e))?;
            let drafted = drafts.join("cocoon*.toml").to_string_lossy().into_owned();
            base = without(&base, &places.drop_in(), &drafted).map_err(refused)?;
            additions.import = Some(drafted);
        }
        let draft = main_file::edit(&base, &additions).map_err(refused)?;
        let path = if main.print.is_some() { main.path.with_file_name(DRAFT) } else { drafts.join("main") };
        let tried = with_draft(&path, &draft, |path| self.confirm(containerd, path));
        let _ = fs::remove_dir_all(&drafts);
        let hint =
            if places.is_live() { "" } else { " (files that it imports were looked for on this machine)" };
        tried.map_err(|reason| refused(format!("{}: {reason}{hint}", main.path.display())))
    }

    /// Asks containerd what the configuration `path` comes to, and compares: what was, and Cocoon's runtimes.
    ///
    /// # Errors
    /// A sentence.
    pub fn confirm(&self, containerd: &Containerd, path: &Path) -> Result<(), String> {
        let after = containerd.effective(path).map_err(|e| format!("containerd would refuse it: {e}"))?;
        let names = super::names();
        let differences =
            self.before.differences(&after, &Scope { runtimes: &names, snapshotter: SNAPSHOTTER });
        if !differences.is_empty() {
            return Err(format!("other settings would change: {}", differences.join("; ")));
        }
        let two = containerd.version().dialect() == Some(Dialect::Two);
        if two && self.wanted.snapshotter.is_some() && !after.unpacks(&self.before.unpacked(), SNAPSHOTTER) {
            return Err(
                "what the transfer service unpacks (unpack_config) would not be what it was, and Cocoon's"
                    .into(),
            );
        }
        match lacks(&after, &self.wanted) {
            None => Ok(()),
            Some(what) => Err(format!(
                "containerd would not see {what}; does a file that it imports define runtimes of the CRI plugin?"
            )),
        }
    }
}

/// A main file whose imports read the other files beside `own`, but not `own`, which has the last word otherwise when it is there
/// from an earlier installation: it would hide the draft. Where there are no others, `drafted` is imported twice, which is once.
fn without(base: &str, own: &Path, drafted: &str) -> Result<String, String> {
    let folder = own.parent().unwrap_or(Path::new("/"));
    main_file::replace_imports(base, |pattern| {
        if !own.exists() || !covers(pattern, own) || Path::new(pattern).parent() != Some(folder) {
            return None;
        }
        let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
        let others = files.filter(|file| file != own && covers(pattern, file));
        let mut others: Vec<String> = others.map(|file| file.to_string_lossy().into_owned()).collect();
        others.sort();
        Some(if others.is_empty() { vec![drafted.to_owned()] } else { others })
    })
}

/// What of `wanted` an effective configuration does not have.
pub(crate) fn lacks(effective: &Effective, wanted: &Wanted) -> Option<String> {
    let runtimes = effective.runtimes();
    for runtime in &wanted.runtimes {
        let found = runtimes.get(&runtime.name);
        let is = |keys: &[&str], value: &str| {
            let at = keys.iter().try_fold(found?, |v, key| v.get(key))?;
            Some(at.as_str()? == value)
        };
        let whole = is(&["runtime_type"], RUNTIME_TYPE) == Some(true)
            && is(&["runtime_path"], &runtime.shim) == Some(true)
            && is(&["options", "ConfigPath"], &runtime.config) == Some(true);
        let placed = wanted.snapshotter.is_none()
            || effective.snapshotter_of(&runtime.name).as_deref() == Some(SNAPSHOTTER);
        if !whole || !placed {
            return Some(format!("the runtime {}", runtime.name));
        }
    }
    let socket = wanted.snapshotter.as_deref()?;
    let plugins = effective.proxy_plugins();
    let found = plugins.get(SNAPSHOTTER).and_then(|p| p.get("address")).and_then(toml::Value::as_str);
    if found != Some(socket) {
        return Some("the proxy snapshotter".into());
    }
    (!effective.snapshots_are_annotated()).then(|| "that snapshots are to be annotated".into())
}

const MADE: &str = "# Made by `cocoon node install`, since containerd had no configuration file.\n";
const OWN: &str =
    "# Cocoon's runtimes: written by `cocoon node install`, removed by `cocoon node uninstall`.\n";

/// What the configuration comes to without Cocoon's part.
fn before(containerd: &Containerd, main: &MainFile) -> Result<Effective, String> {
    if main.print.is_none() || !main.edited {
        return containerd.effective(&main.path);
    }
    with_draft(&main.path.with_file_name(DRAFT), &main.base, |path| containerd.effective(path))
}

fn with_draft<T>(path: &Path, text: &str, act: impl FnOnce(&Path) -> Result<T, String>) -> Result<T, String> {
    let _ = fs::remove_file(path);
    let result =
        write_private(path, text).map_err(|e| format!("{}: {e}", path.display())).and_then(|()| act(path));
    let _ = fs::remove_file(path);
    result
}

/// containerd's configuration may hold credentials of registries.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    fs::File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

/// Removes a draft that a killed run left.
pub(crate) fn remove_drafts(main: &Path) {
    let main = fs::canonicalize(main).unwrap_or_else(|_| main.to_path_buf());
    let _ = fs::remove_file(main.with_file_name(DRAFT));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_drop_in_does_not_hide_the_draft() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("cocoon.toml");
        let folder = dir.path().display();
        let base = format!("version = 3\nimports = ['/etc/other.toml', '{folder}/*.toml'] # mine\n[grpc]\n");
        let imports = || main_file::imports(&without(&base, &own, "/drafts/cocoon*.toml").unwrap());
        assert_eq!(imports().len(), 2, "it is not there yet");
        fs::write(&own, "").unwrap();
        assert_eq!(imports(), ["/etc/other.toml", "/drafts/cocoon*.toml"]);
        fs::write(dir.path().join("a.toml"), "").unwrap();
        fs::write(dir.path().join("z.toml"), "").unwrap();
        fs::write(dir.path().join("z.txt"), "").unwrap();
        assert_eq!(
            imports(),
            ["/etc/other.toml".into(), format!("{folder}/a.toml"), format!("{folder}/z.toml")]
        );
        assert!(without(&base, &own, "x").unwrap().ends_with("] # mine\n[grpc]\n"));
    }
}
