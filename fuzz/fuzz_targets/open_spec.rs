//! What a guest without plan makes of the host's documents: every field of a creation is the host's.
#![no_main]

use cocoon_plan::MountPlan;
use cocoon_plan::open::{OpenMount, OpenRequest, container};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8], Vec<(String, String, String, bool, u8)>)| {
    let (name, image, spec, mounts) = input;
    let kinds = ["files", "memory", "scratch", "block", "other"];
    let mounts: Vec<_> = mounts
        .into_iter()
        .map(|(target, volume, sub_path, read_only, kind)| OpenMount {
            target,
            volume,
            sub_path,
            read_only,
            kind: kinds[usize::from(kind) % kinds.len()].into(),
        })
        .collect();
    if let Ok(open) = container(&OpenRequest { name, image, spec, mounts: &mounts }) {
        let container = open.container;
        assert!(!container.args.is_empty() && container.cwd.starts_with('/'));
        assert!(!container.name.contains('/') && !container.name.starts_with('.'));
        for mount in &container.mounts {
            assert!(mount.target().starts_with('/') && !mount.target().split('/').any(|p| p == ".."));
            if let MountPlan::Volume { volume, sub_path, .. } = mount {
                assert!(open.volumes.iter().any(|v| v.name == *volume));
                assert!(!sub_path.starts_with('/') && !sub_path.split('/').any(|p| p == ".."));
            }
        }
    }
});
