//! Cocoon's tables for containerd's configuration, as text.

use std::path::Path;

use toml::{Table, Value};

use super::Dialect;

/// The plugin of configuration version 1, of version 2, of 3.
const CRI: [&str; 3] = ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"];
const IMAGES: &str = "io.containerd.cri.v1.images";
const TRANSFER: &str = "io.containerd.transfer.v1.local";
const PLATFORM: &str = "linux/amd64";
/// The runtime's type, by which containerd would look for the shim were there no path.
pub const RUNTIME_TYPE: &str = "io.containerd.cocoon.v2";
/// Annotations of pods that reach the shim: upstream's, and Cocoon's own.
pub const POD_ANNOTATIONS: [&str; 2] = ["io.katacontainers.*", "dev.cocoon.*"];
/// Annotations of containers that reach the shim.
pub const CONTAINER_ANNOTATIONS: [&str; 2] = ["dev.cocoon.*", "io.kubernetes.container.terminationMessage*"];
/// Name of the proxy snapshotter's plugin.
pub const SNAPSHOTTER: &str = "cocoon";
/// Its socket.
pub const SNAPSHOTTER_SOCKET: &str = "/run/cocoon/snapshotter.sock";

/// One runtime of containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Its name, which is the RuntimeClass's handler.
    pub name: String,
    /// The shim's path as containerd sees it.
    pub shim: String,
    /// The class file as the shim sees it.
    pub config: String,
}

/// What is written for it all.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The runtimes.
    pub runtimes: Vec<Runtime>,
    /// The proxy snapshotter's socket, where images are to go there.
    pub snapshotter: Option<String>,
}

/// Name of the CRI plugin in a configuration of `version`.
pub fn plugin(version: i64) -> &'static str {
    match version {
        ..=1 => CRI[0],
        2 => CRI[1],
        3.. => CRI[2],
    }
}

/// The tables for a configuration of `version`. `lost` are runtimes that containerd 1 would forget because there is a table
/// of runtimes now, with their values; `unpacked` what containerd 2's transfer service unpacks already.
pub fn render(wanted: &Wanted, version: i64, dialect: Dialect, lost: &Table, unpacked: &[Table]) -> String {
    let plugin = plugin(version);
    let mut out = String::new();
    for (name, value) in lost {
        out.push_str("# As it was: containerd 1 drops its built-in runtime once a file names one.\n");
        let path = format!("plugins.{}.containerd.runtimes.{}", quote(plugin), quote(name));
        render_table(&path, value.as_table().unwrap_or(&Table::new()), &mut out);
    }
    for runtime in &wanted.runtimes {
        let path = format!("plugins.{}.containerd.runtimes.{}", quote(plugin), runtime.name);
        out.push_str(&format!("[{path}]\n"));
        out.push_str(&format!("runtime_type = {}\n", quote(RUNTIME_TYPE)));
        out.push_str(&format!("runtime_path = {}\n", quote(&runtime.shim)));
        out.push_str(&format!("pod_annotations = {}\n", list(&POD_ANNOTATIONS)));
        out.push_str(&format!("container_annotations = {}\n", list(&CONTAINER_ANNOTATIONS)));
        out.push_str("privileged_without_host_devices = true\n");
        if wanted.snapshotter.is_some() {
            out.push_str(&format!("snapshotter = {}\n", quote(SNAPSHOTTER)));
        }
        out.push_str(&format!("[{path}.options]\nConfigPath = {}\n\n", quote(&runtime.config)));
    }
    let Some(socket) = &wanted.snapshotter else { return out };
    if dialect == Dialect::Two {
        render_images(wanted, unpacked, &mut out);
        if version == 2 {
            // Where the main file says otherwise in the older plugin, that is migrated last.
            out.push_str(&format!(
                "[plugins.{}.containerd]\ndisable_snapshot_annotations = false\n\n",
                quote(plugin)
            ));
        }
    }
    out.push_str(&format!(
        "[proxy_plugins.{SNAPSHOTTER}]\ntype = \"snapshot\"\naddress = {}\n",
        quote(socket)
    ));
    out
}

/// Where containerd 2 prepares images. A file of configuration version 2 may name these plugins too, and has to: of what is
/// migrated from the older ones the snapshotter of a runtime gets lost.
fn render_images(wanted: &Wanted, unpacked: &[Table], out: &mut String) {
    out.push_str(&format!("[plugins.{}]\ndisable_snapshot_annotations = false\n", quote(IMAGES)));
    for runtime in &wanted.runtimes {
        let path = format!("plugins.{}.runtime_platforms.{}", quote(IMAGES), runtime.name);
        out.push_str(&format!(
            "[{path}]\nplatform = {}\nsnapshotter = {}\n",
            quote(PLATFORM),
            quote(SNAPSHOTTER)
        ));
    }
    out.push_str("\n# An imported list replaces the one before it, so those that were are here too.\n");
    for entry in unpacked.iter().chain([&unpacking(SNAPSHOTTER)]) {
        out.push_str(&format!("[[plugins.{}.unpack_config]]\n", quote(TRANSFER)));
        for (key, value) in entry.iter().filter(|(_, v)| !v.is_table()) {
            out.push_str(&format!("{} = {value}\n", quote(key)));
        }
    }
    out.push('\n');
}

/// An entry of the transfer service's list: what may be unpacked into which snapshotter.
pub fn unpacking(snapshotter: &str) -> Table {
    let text = |s: &str| Value::String(s.into());
    Table::from_iter([("platform".into(), text(PLATFORM)), ("snapshotter".into(), text(snapshotter))])
}

/// Every value, the empty ones too: containerd tells absent from empty.
fn render_table(path: &str, table: &Table, out: &mut String) {
    out.push_str(&format!("[{path}]\n"));
    for (key, value) in table.iter().filter(|(_, v)| !v.is_table()) {
        out.push_str(&format!("{} = {value}\n", quote(key)));
    }
    for (key, inner) in table.iter().filter_map(|(k, v)| Some((k, v.as_table()?))) {
        render_table(&format!("{path}.{}", quote(key)), inner, out);
    }
    out.push('\n');
}

fn list(items: &[&str]) -> String {
    format!("[{}]", items.iter().map(|i| quote(i)).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML.
pub(crate) fn quote(text: &str) -> String {
    Value::String(text.into()).to_string()
}

/// A path as text for a configuration.
pub(crate) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(snapshotter: bool) -> Wanted {
        let runtime = |name: &str| Runtime {
            name: name.into(),
            shim: "/opt/cocoon/bin/containerd-shim-cocoon-v2".into(),
            config: format!("/etc/cocoon/{name}.toml"),
        };
        Wanted {
            runtimes: vec![runtime("cocoon"), runtime("cocoon-sim")],
            snapshotter: snapshotter.then(|| SNAPSHOTTER_SOCKET.into()),
        }
    }

    #[test]
    fn each_version_has_its_plugin() {
        for (version, key) in [(1, CRI[0]), (2, CRI[1]), (3, CRI[2])] {
            let text = render(&wanted(false), version, Dialect::Two, &Table::new(), &[]);
            let table: Table = text.parse().unwrap();
            let runtime = &table["plugins"][key]["containerd"]["runtimes"]["cocoon-sim"];
            assert_eq!(runtime["runtime_type"].as_str(), Some(RUNTIME_TYPE));
            assert_eq!(runtime["options"]["ConfigPath"].as_str(), Some("/etc/cocoon/cocoon-sim.toml"));
            assert!(runtime.get("snapshotter").is_none() && table.get("proxy_plugins").is_none());
        }
    }

    #[test]
    fn the_snapshotter_is_named_where_each_version_reads_it() {
        let three: Table =
            render(&wanted(true), 3, Dialect::Two, &Table::new(), &[unpacking("overlayfs")]).parse().unwrap();
        let images = &three["plugins"][IMAGES];
        assert_eq!(images["runtime_platforms"]["cocoon"]["snapshotter"].as_str(), Some("cocoon"));
        assert_eq!(images["disable_snapshot_annotations"].as_bool(), Some(false));
        let unpacked = three["plugins"][TRANSFER]["unpack_config"].as_array().unwrap();
        let into: Vec<_> = unpacked.iter().filter_map(|u| u["snapshotter"].as_str()).collect();
        assert_eq!(into, ["overlayfs", "cocoon"]);
        assert_eq!(three["proxy_plugins"]["cocoon"]["address"].as_str(), Some(SNAPSHOTTER_SOCKET));
    }

    #[test]
    fn what_would_be_lost_is_written_again() {
        let lost: Table = "[runc]\nruntime_type = 'io.containerd.runc.v2'\nn = 0\n[runc.options]\nSystemdCgroup = true\nRoot = ''\n"
            .parse()
            .unwrap();
        let text = render(&wanted(false), 2, Dialect::One, &lost, &[]);
        let table: Table = text.parse().unwrap();
        let runc = table["plugins"][CRI[1]]["containerd"]["runtimes"]["runc"].as_table().unwrap();
        assert_eq!(runc["options"]["SystemdCgroup"].as_bool(), Some(true));
        assert_eq!(runc, lost["runc"].as_table().unwrap());
    }
}
