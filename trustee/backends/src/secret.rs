//! Secrets in memory and in files: growing buffers that leave no copy behind, tokens and PINs from files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::Error;

/// Longest token or PIN in bytes.
const MAX_TOKEN: u64 = 8 * 1024;

/// Appends; a buffer that must grow is wiped after its move.
pub(crate) fn append(buffer: &mut Zeroizing<Vec<u8>>, more: &[u8]) {
    let needed = buffer.len().saturating_add(more.len());
    if needed > buffer.capacity() {
        let room = needed.max(buffer.capacity().saturating_mul(2));
        let mut bigger = Zeroizing::new(Vec::with_capacity(room));
        bigger.extend_from_slice(buffer);
        *buffer = bigger;
    }
    buffer.extend_from_slice(more);
}

/// The one line in a file: a token or PIN of visible ASCII, 1 byte to 8 KiB, line ends at its end cut off.
///
/// A file that every user of the machine can read or write is refused.
pub(crate) fn line_from_file(path: &Path) -> Result<Zeroizing<String>, Error> {
    let fail =
        |problem: &str| Error::SecretFile { path: path.display().to_string(), problem: problem.into() };
    // Asked before it is opened: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(|e| fail(&e.to_string()))?;
    if !metadata.is_file() {
        return Err(fail("not a regular file"));
    }
    if metadata.mode() & 0o007 != 0 {
        return Err(fail("every user may read or write it; run chmod o="));
    }
    if metadata.len() > MAX_TOKEN {
        return Err(fail("over 8 KiB"));
    }
    let file = File::open(path).map_err(|e| fail(&e.to_string()))?;
    let room = usize::try_from(MAX_TOKEN).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_TOKEN + 1).read_to_end(&mut bytes).map_err(|e| fail(&e.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| fail("not text"))?.trim_end_matches(['\r', '\n']);
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fail("not one line of visible ASCII without spaces"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Foreign text for an error message: at most `limit` characters, control characters as spaces.
pub(crate) fn tame(text: &str, limit: usize) -> String {
    text.trim().chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn one_private_line_is_read() {
        for (content, mode) in [(&b"hvs.abc\n"[..], 0o600), (b"hvs.abc", 0o440), (b"hvs.abc\r\n", 0o400)] {
            assert_eq!(line_from_file(file(content, mode).path()).unwrap().as_str(), "hvs.abc");
        }
    }

    #[test]
    fn other_files_are_refused_without_their_content() {
        let long = vec![b'a'; 9000];
        for (content, mode) in [
            (&b"s3cret\n"[..], 0o604),
            (b"s3cret\n", 0o602),
            (b"", 0o600),
            (b"\n", 0o600),
            (b"s3cret two", 0o600),
            (b"s3cret\ntwo", 0o600),
            (b"s3cret\xff", 0o600),
            (&long, 0o600),
        ] {
            let error = line_from_file(file(content, mode).path()).unwrap_err();
            assert!(matches!(error, Error::SecretFile { .. }));
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(line_from_file(Path::new("/")).is_err());
        assert!(line_from_file(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn buffers_grow() {
        let mut buffer = Zeroizing::new(Vec::new());
        for i in 0..100u8 {
            append(&mut buffer, &[i, i]);
        }
        assert_eq!(buffer.len(), 200);
        assert_eq!(buffer[198..], [99, 99]);
        assert_eq!(tame("  a\nb\u{1b}[31m  ", 4), "a b ");
    }
}
