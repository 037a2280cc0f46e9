//! ASCII armor (RFC 9580, section 6): base64 between lines of dashes. The checksum may be missing; if there is one, it counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most blocks of one text.
const MAX_BLOCKS: usize = 256;

/// The content of all blocks with the label, one after the other; `None` where the bytes are not armored.
pub(super) fn decode(bytes: &[u8], label: &str) -> Option<Result<Vec<u8>, String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    if !text.trim_start().starts_with("-----BEGIN PGP ") {
        return None;
    }
    Some(blocks(text, label))
}

fn blocks(text: &str, label: &str) -> Result<Vec<u8>, String> {
    let (begin, end) = (format!("-----BEGIN PGP {label}-----"), format!("-----END PGP {label}-----"));
    let mut all = Vec::new();
    let mut rest = text.trim();
    for _ in 0..MAX_BLOCKS {
        let block = rest.strip_prefix(begin.as_str());
        let block = block.ok_or_else(|| format!("text where a block {label:?} should begin"))?;
        let (block, after) = block.split_once(end.as_str()).ok_or("an armored block without its end")?;
        all.extend(block_content(block)?);
        rest = after.trim_start();
        if rest.is_empty() {
            return Ok(all);
        }
    }
    Err("too many armored blocks".to_owned())
}

fn block_content(block: &str) -> Result<Vec<u8>, String> {
    let mut lines = block.lines().map(str::trim_end).skip(1);
    // Headers end at an empty line.
    for line in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        if !line.contains(": ") && !line.ends_with(':') {
            return Err("a malformed armor header".to_owned());
        }
    }
    let mut body = String::with_capacity(block.len());
    let mut checksum = None;
    for line in lines.filter(|line| !line.is_empty()) {
        match (line.strip_prefix('='), &checksum) {
            (Some(sum), None) if sum.len() == 4 => checksum = Some(sum),
            (None, None) => body.push_str(line.trim_start()),
            _ => return Err("text after an armor checksum".to_owned()),
        }
    }
    let content = STANDARD.decode(body).map_err(|_| "armor that is not base64")?;
    if let Some(sum) = checksum {
        let sum = STANDARD.decode(sum).map_err(|_| "a malformed armor checksum")?;
        let [_, expected @ ..] = crc24(&content).to_be_bytes();
        if sum != expected {
            return Err("an armor checksum that does not fit".to_owned());
        }
    }
    Ok(content)
}

fn crc24(bytes: &[u8]) -> u32 {
    let mut crc = 0x00b7_04ce_u32;
    for byte in bytes {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0186_4cfb;
            }
        }
    }
    crc & 0x00ff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_with_and_without_a_checksum() {
        let [_, sum @ ..] = crc24(b"hello").to_be_bytes();
        let with = format!(
            "-----BEGIN PGP X-----\nComment: a\n\naGVs\nbG8=\n={}\n-----END PGP X-----\n",
            STANDARD.encode(sum)
        );
        let without = "-----BEGIN PGP X-----\r\n\r\naGVsbG8=\r\n-----END PGP X-----\r\n";
        assert_eq!(decode(with.as_bytes(), "X"), Some(Ok(b"hello".to_vec())));
        assert_eq!(decode(without.as_bytes(), "X"), Some(Ok(b"hello".to_vec())));
        assert_eq!(decode(format!("{with}\n{without}").as_bytes(), "X"), Some(Ok(b"hellohello".to_vec())));
        assert_eq!(decode(b"\x99\x01", "X"), None);
        for bad in [
            with.replace("aGVs", "aGVt"),
            with.replace("END", "ENB"),
            with.replace("Comment: a", "junk"),
            format!("{with}junk"),
            with.replace("PGP X", "PGP Y"),
        ] {
            assert!(decode(bad.as_bytes(), "X").unwrap().is_err(), "{bad}");
        }
    }
}
