//! A story on a cluster of its own.

use std::path::Path;
use std::time::Duration;

use super::{Cluster, Options};

/// Tells a story on a cluster of its own, then removes its pods, and looks whether anything is left that should be gone. It is
/// passed over, and the reason printed, where this machine or this call of the tests lacks something.
///
/// # Panics
/// Where the story fails, or something is left.
#[allow(clippy::unwrap_used, clippy::panic)] // a test's frame
pub fn tell(options: Options, story: impl FnOnce(&mut Cluster) + Send) {
    // A thread moves into the node's network, and with it all that it starts.
    let told = std::thread::scope(|scope| {
        let tell = || {
            let _turn = crate::job::turn().unwrap();
            let Some(mut cluster) = Cluster::start(options).unwrap() else { return };
            let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(&mut cluster)));
            if let Err(panic) = heard {
                eprintln!("{}", cluster.last_words());
                std::panic::resume_unwind(panic);
            }
            let removed = cluster.kubectl(&[
                "delete",
                "pods",
                "--all",
                "-n",
                "default",
                "--grace-period=1",
                "--timeout=120s",
            ]);
            removed.unwrap();
            let left = cluster.left(Duration::from_secs(60)).unwrap();
            assert_eq!(left, Vec::<String>::new(), "left behind; {}", cluster.last_words());
        };
        scope.spawn(tell).join()
    });
    if let Err(panic) = told {
        std::panic::resume_unwind(panic);
    }
}

/// Paths of the files below a folder.
pub(super) fn files_below(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let below = |path: std::path::PathBuf| match path.is_dir() {
        true => files_below(&path),
        false => vec![path.display().to_string()],
    };
    entries.flat_map(|entry| below(entry.path())).collect()
}
