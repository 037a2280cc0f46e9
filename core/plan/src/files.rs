//! What the host may put into a volume: names and amounts. The guest asks here before it makes anything.

/// Most files of one volume.
pub const MAX_FILES: usize = 4096;
/// Largest file, in bytes.
pub const MAX_FILE_BYTES: u64 = 4 << 20;
/// Most bytes of all volumes of a pod together; a file or folder counts as whole pages of 4096 bytes, and at least one.
pub const MAX_POD_BYTES: u64 = 64 << 20;
/// Most names in a path.
pub const MAX_DEPTH: usize = 16;
/// Longest name in a path, in bytes (`NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It has more than [`MAX_DEPTH`] names.
    #[error("is deeper than {MAX_DEPTH} names")]
    Deep,
    /// A name is longer than [`MAX_NAME`] bytes.
    #[error("holds a name of more than {MAX_NAME} bytes")]
    Long,
    /// A name is empty, `.` or `..`, or holds a control character.
    #[error("is not a relative path of plain names")]
    NotPlain,
    /// The first name begins with `..`: such names are the guest's own.
    #[error("begins with `..`")]
    Reserved,
}

/// The names of a file's path below its volume, outermost first; at least one.
///
/// # Errors
/// [`PathError`].
pub fn names(path: &str) -> Result<Vec<&str>, PathError> {
    let mut names = Vec::new();
    for name in path.split('/') {
        if names.len() == MAX_DEPTH {
            return Err(PathError::Deep);
        }
        if name.len() > MAX_NAME {
            return Err(PathError::Long);
        }
        if matches!(name, "" | "." | "..") || name.chars().any(char::is_control) {
            return Err(PathError::NotPlain);
        }
        names.push(name);
    }
    match names.first() {
        Some(first) if first.starts_with("..") => Err(PathError::Reserved),
        _ => Ok(names),
    }
}

/// What a file or folder of this size takes, in bytes: whole pages, and at least one.
pub fn taken(bytes: u64) -> u64 {
    const PAGE: u64 = 4096;
    bytes.max(1).div_ceil(PAGE).saturating_mul(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_relative_names_only() {
        assert_eq!(names("a").unwrap(), ["a"]);
        assert_eq!(names("a/b..c/..d").unwrap(), ["a", "b..c", "..d"]);
        for bad in ["", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "../a", "a/../b", "a\0b", "a\nb"] {
            assert_eq!(names(bad), Err(PathError::NotPlain), "{bad:?}");
        }
        assert_eq!(names("..data/x"), Err(PathError::Reserved));
        assert_eq!(names("..."), Err(PathError::Reserved));
        assert_eq!(names(&vec!["a"; 16].join("/")).unwrap().len(), 16);
        assert_eq!(names(&vec!["a"; 17].join("/")), Err(PathError::Deep));
        assert_eq!(names(&"/".repeat(1 << 20)), Err(PathError::NotPlain));
        assert_eq!(names(&"a".repeat(256)), Err(PathError::Long));
        assert!(names(&"a".repeat(255)).is_ok());
    }

    #[test]
    fn everything_takes_whole_pages() {
        assert_eq!([0, 1, 4096, 4097].map(taken), [4096, 4096, 4096, 8192]);
        assert!(taken(u64::MAX) >= u64::MAX - 4096);
    }
}
