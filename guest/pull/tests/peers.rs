//! Images made by umoci and pushed by skopeo to a real registry, judged against what umoci unpacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests

#[path = "../../../net/registry/tests/fake/mod.rs"]
mod fake;
mod image;
mod run;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use cocoon_image::{Digest, Platform};
use cocoon_pull::PullRequest;
use run::{Place, Rootfs, request};

/// The registry ends when our end of its keeper's standard input closes, however this process ends.
const KEEPER: &str = r#""$@" & pid=$!; cat >/dev/null; kill -9 $pid; wait $pid 2>/dev/null"#;

struct Registry {
    keeper: Child,
    port: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Registry {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: '{}/blobs'}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", "docker-registry", "serve"])
            .arg(&config)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(keeper.stderr.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "docker-registry did not start");
            if let Some(rest) = line.split("listening on 127.0.0.1:").nth(1) {
                break rest.chars().take_while(char::is_ascii_digit).collect();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Registry { keeper, port, _folder: folder }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Type, mode, owner, time, size and content of everything below a directory. Times of directories are left out: what
/// is put into them after their layer changes them in a merged tree.
fn listing(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let who = format!("{}:{} {:o}", meta.uid(), meta.gid(), meta.permissions().mode());
            let what = if meta.is_dir() {
                waiting.push(path.clone());
                who
            } else if meta.is_symlink() {
                format!("{who} -> {} {}", std::fs::read_link(&path).unwrap().display(), meta.mtime())
            } else {
                let content = Digest::sha256(&std::fs::read(&path).unwrap());
                format!("{who} {} links {} {content}", meta.mtime(), meta.nlink())
            };
            all.insert(path.strip_prefix(top).unwrap().to_owned(), what);
        }
    }
    all
}

/// Changes a bundle's root file system for the next layer.
fn change(root: &Path, step: usize) {
    let at = |p: &str| root.join(p);
    let mode =
        |p: &str, mode| std::fs::set_permissions(at(p), std::fs::Permissions::from_mode(mode)).unwrap();
    match step {
        0 => {
            for dir in ["etc/deep/er", "srv", "tmp", "lib64"] {
                std::fs::create_dir_all(at(dir)).unwrap();
            }
            for i in 0..300 {
                std::fs::write(at(&format!("srv/f{i}")), format!("content {i}").repeat(i)).unwrap();
            }
            std::fs::write(at("etc/conf"), "one").unwrap();
            std::fs::write(at("etc/deep/er/x"), "one").unwrap();
            std::fs::hard_link(at("srv/f7"), at("srv/seven")).unwrap();
            std::fs::write(at("lib64/dir-to-file"), "x").unwrap();
            symlink("/etc/conf", at("etc/link")).unwrap();
            symlink("nowhere", at("etc/dangling")).unwrap();
            mode("tmp", 0o1777);
            mode("srv/f9", 0o4755);
            std::os::unix::fs::chown(at("srv/f8"), Some(1000), Some(2000)).unwrap();
        }
        1 => {
            std::fs::remove_file(at("srv/f1")).unwrap();
            std::fs::remove_dir_all(at("etc/deep")).unwrap();
            std::fs::write(at("etc/conf"), "two").unwrap();
            std::fs::remove_dir_all(at("lib64")).unwrap();
            std::fs::write(at("lib64"), "now a file").unwrap();
            std::fs::write(at("big"), vec![3; 5 << 20]).unwrap();
        }
        _ => {
            std::fs::create_dir_all(at("etc/deep/new")).unwrap();
            std::fs::write(at("etc/deep/new/y"), "three").unwrap();
            std::fs::write(at("srv/f1"), "again").unwrap();
            std::fs::remove_file(at("etc/link")).unwrap();
            std::fs::create_dir(at("etc/link")).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_of_umoci_and_skopeo_unpack_as_umoci_unpacks_them() {
    for needed in ["docker-registry", "skopeo", "umoci"] {
        if Command::new(needed).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err()
        {
            println!("skipped: {needed} is not installed");
            return;
        }
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may keep owners and mount");
        return;
    }
    let (registry, work) = (Registry::start(), tempfile::tempdir().unwrap());
    let at = |p: &str| work.path().join(p).to_str().unwrap().to_owned();
    let layout = at("layout");
    tool("umoci", &["init", "--layout", &layout]);
    let tagged = format!("{layout}:image");
    tool("umoci", &["new", "--image", &tagged]);
    for step in 0..3 {
        let bundle = at(&format!("bundle{step}"));
        tool("umoci", &["unpack", "--image", &tagged, &bundle]);
        change(&Path::new(&bundle).join("rootfs"), step);
        tool("umoci", &["repack", "--image", &tagged, &bundle]);
    }
    tool("umoci", &["unpack", "--image", &tagged, &at("judge")]);
    let expected = listing(&work.path().join("judge/rootfs"));
    assert!(expected.len() > 300);

    for (i, options) in [
        &["--dest-compress-format", "gzip"][..],
        &["--dest-compress-format", "zstd", "--dest-compress"],
        &["--format", "v2s2"],
        &["--dest-decompress"],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("127.0.0.1:{}/test:v{i}", registry.port);
        let (source, target) = (format!("oci:{tagged}"), format!("docker://{name}"));
        let digest_file = at("digest");
        let mut arguments =
            vec!["--insecure-policy", "copy", "--dest-tls-verify=false", "--digestfile", &digest_file];
        // Decompression is only offered towards folders.
        if options.contains(&"--dest-decompress") {
            let folder = format!("dir:{}", at("plain"));
            tool("skopeo", &["--insecure-policy", "copy", "--dest-decompress", &source, &folder]);
            arguments.extend([folder.as_str(), target.as_str()]);
            tool("skopeo", &arguments);
        } else {
            arguments.extend(options.iter());
            arguments.extend([source.as_str(), target.as_str()]);
            tool("skopeo", &arguments);
        }
        let digest = std::fs::read_to_string(&digest_file).unwrap().trim().parse().unwrap();
        let place = Place::new();
        let wanted = PullRequest { platform: Platform::host(), ..request(&name, digest) };
        let pulled = place.pull(wanted).await.unwrap_or_else(|e| panic!("{options:?}: {e}"));
        assert_eq!(pulled.layers.len(), 3);
        let Some(rootfs) = Rootfs::mount(&pulled.layers) else { return };
        let seen = listing(&rootfs.path());
        for (path, what) in &expected {
            assert_eq!(seen.get(path), Some(what), "{options:?}: {}", path.display());
        }
        assert_eq!(seen.len(), expected.len(), "{options:?}");
    }
}
