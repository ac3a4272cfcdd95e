//! The two things about an ELF file that decide where it runs: its machine, and whether it needs a dynamic loader.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// Program header type of the path of the dynamic loader.
const PT_INTERP: u32 = 3;

/// What was read from a 64-bit little-endian ELF file.
#[derive(Debug, PartialEq, Eq)]
pub struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// No dynamic loader is named: it runs where there are no libraries.
    pub is_static: bool,
}

/// Reads the headers of a file.
pub fn read(path: &Path) -> Result<Elf> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is not a program", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Elf> {
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        bail!("no 64-bit little-endian ELF header");
    }
    let machine = u16::from_le_bytes(field(bytes, 18)?);
    let headers = usize::try_from(u64::from_le_bytes(field(bytes, 32)?)).context("offset of the program headers")?;
    let size = usize::from(u16::from_le_bytes(field(bytes, 54)?));
    let count = usize::from(u16::from_le_bytes(field(bytes, 56)?));
    let mut is_static = true;
    for index in 0..count {
        let kind = u32::from_le_bytes(field(bytes, headers.saturating_add(index * size))?);
        is_static &= kind != PT_INTERP;
    }
    Ok(Elf { machine, is_static })
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N]> {
    let slice = bytes.get(offset..).and_then(|rest| rest.first_chunk());
    slice.copied().with_context(|| format!("the ELF headers end before byte {offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header, and program headers of the given types.
    fn elf(machine: u16, types: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(types.len()).unwrap().to_le_bytes());
        for kind in types {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn static_without_interpreter() {
        assert_eq!(parse(&elf(62, &[6, 1, 2])).unwrap(), Elf { machine: 62, is_static: true });
        assert_eq!(parse(&elf(183, &[6, PT_INTERP, 1])).unwrap(), Elf { machine: 183, is_static: false });
    }

    #[test]
    fn own_test_binary_is_dynamic() {
        let own = read(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(own.is_static, cfg!(target_feature = "crt-static"));
    }

    #[test]
    fn cut_and_foreign_files_are_refused() {
        assert!(parse(b"#!/bin/sh\n").is_err());
        let whole = elf(62, &[1]);
        assert!(parse(&whole[..60]).is_err());
        assert!(parse(&whole[..66]).is_err());
    }
}
