//! Paths of files that the host puts into volumes.
#![no_main]

use cocoon_plan::files::{MAX_DEPTH, MAX_NAME, names};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    if let Ok(names) = names(path) {
        assert_eq!(names.join("/"), path);
        assert!((1..=MAX_DEPTH).contains(&names.len()));
        assert!(names.iter().all(|n| (1..=MAX_NAME).contains(&n.len()) && *n != "." && *n != ".."));
        assert!(!names[0].starts_with("..") && !path.contains('\0'));
    }
});
