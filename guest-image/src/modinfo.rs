//! Reads the `.modinfo` section of a Linux kernel module (an ELF64 little-endian object).
//!
//! Debian's kernel packages carry no `modules.dep` (depmod writes it at installation), but every module
//! names the modules whose symbols it uses in `depends=`.

/// The `depends=` of a module: names of modules, `_` and `-` normalised to `_`. `None` where the bytes are
/// not an ELF64 object with a `.modinfo` section.
pub(crate) fn depends(elf: &[u8]) -> Option<Vec<String>> {
    let section = section(elf, b".modinfo")?;
    let mut names = Vec::new();
    for entry in section.split(|b| *b == 0) {
        let Some(list) = entry.strip_prefix(b"depends=") else { continue };
        let list = std::str::from_utf8(list).ok()?;
        names.extend(list.split(',').filter(|n| !n.is_empty()).map(normalise));
    }
    Some(names)
}

/// A module's name as the kernel knows it.
pub(crate) fn normalise(name: &str) -> String {
    name.replace('-', "_")
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let raw: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(usize::from(u16::from_le_bytes(raw)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let raw: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(raw)).ok()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    let raw: [u8; 8] = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
    usize::try_from(u64::from_le_bytes(raw)).ok()
}

/// The bytes of a section (System V ABI, ELF-64 object file format).
fn section<'a>(elf: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    // 0x7f E L F, 64 bit, little endian.
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = u64_at(elf, 0x28)?;
    let (entry_size, count, names_index) = (u16_at(elf, 0x3a)?, u16_at(elf, 0x3c)?, u16_at(elf, 0x3e)?);
    let header = |index: usize| table.checked_add(index.checked_mul(entry_size)?);
    let body = |at: usize| {
        let (offset, size) = (u64_at(elf, at.checked_add(0x18)?)?, u64_at(elf, at.checked_add(0x20)?)?);
        elf.get(offset..offset.checked_add(size)?)
    };
    let names = body(header(names_index)?)?;
    (0..count).find_map(|index| {
        let at = header(index)?;
        let name = names.get(u32_at(elf, at)?..)?;
        let name = name.split(|b| *b == 0).next()?;
        (name == wanted).then(|| body(at)).flatten()
    })
}

/// Whether the bytes are an x86-64 program that needs no dynamic loader, and if not, why.
pub(crate) fn check_static_program(elf: &[u8]) -> Result<(), &'static str> {
    const EXECUTABLE: usize = 2;
    const SHARED: usize = 3;
    const X86_64: usize = 62;
    const INTERPRETER: usize = 3;
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return Err("it is not a 64-bit ELF program");
    }
    let truncated = "it is truncated";
    if !matches!(u16_at(elf, 0x10).ok_or(truncated)?, EXECUTABLE | SHARED) {
        return Err("it is not an executable");
    }
    if u16_at(elf, 0x12).ok_or(truncated)? != X86_64 {
        return Err("it is not for x86-64");
    }
    let table = u64_at(elf, 0x20).ok_or(truncated)?;
    let (size, count) = (u16_at(elf, 0x36).ok_or(truncated)?, u16_at(elf, 0x38).ok_or(truncated)?);
    for index in 0..count {
        let at = index.checked_mul(size).and_then(|o| o.checked_add(table)).ok_or(truncated)?;
        if u32_at(elf, at).ok_or(truncated)? == INTERPRETER {
            return Err("it is linked dynamically; build it with `-C target-feature=+crt-static`");
        }
    }
    Ok(())
}

/// Makes the smallest ELF object with that `.modinfo`; tests need modules without a compiler.
#[cfg(test)]
pub(crate) fn fake_module(modinfo: &[u8]) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut elf = vec![0_u8; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[0x10] = 1; // relocatable
    elf[0x12] = 62;
    let (info_at, names_at) = (64, 64 + modinfo.len());
    elf.extend_from_slice(modinfo);
    elf.extend_from_slice(names);
    let table = elf.len();
    elf[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
    elf[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
    for (name, at, len) in [(0_u32, 0, 0), (1, info_at, modinfo.len()), (10, names_at, names.len())] {
        let mut header = [0_u8; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(len as u64).to_le_bytes());
        elf.extend_from_slice(&header);
    }
    elf
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn depends_are_read_and_normalised() {
        let module = fake_module(b"license=GPL\0depends=virtio_ring,net-failover\0name=x\0");
        assert_eq!(depends(&module).unwrap(), ["virtio_ring", "net_failover"]);
        assert_eq!(depends(&fake_module(b"license=GPL\0depends=\0")).unwrap(), [""; 0]);
        assert_eq!(depends(b"not elf"), None);
    }

    #[test]
    fn programs_are_told_from_other_files() {
        assert!(check_static_program(b"#!/bin/sh\n").is_err());
        assert!(check_static_program(&fake_module(b"")).is_err());
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(check_static_program(&own).unwrap_err().contains("dynamic"));
    }

    proptest! {
        #[test]
        fn a_broken_module_never_panics(mut cut in 0_usize..400, at in 0_usize..400, byte: u8) {
            let mut elf = fake_module(b"license=GPL\0depends=a,b\0");
            let len = elf.len();
            elf[at % len] = byte;
            cut %= len;
            let _ = depends(&elf);
            let _ = depends(&elf[..cut]);
            let _ = check_static_program(&elf);
            let _ = check_static_program(&elf[..cut]);
        }
    }
}
