//! Programs of this host for a machine that has no packages: each with the shared libraries that it needs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::initramfs::File;
use crate::sh;

/// Where Debian keeps programs. Not everybody's `PATH` has all of it.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The files of these programs. In the machine the programs are in `/usr/sbin`, the libraries where they are here.
pub fn programs(names: &[&str]) -> Result<Vec<File>> {
    let mut files = BTreeSet::new();
    for name in names {
        let program = find(name)?;
        let listed = sh::read(&mut sh::command("ldd", [&program]))?;
        let libraries = libraries(&listed).with_context(|| format!("libraries of {}", program.display()))?;
        files.extend(libraries.into_iter().map(|library| File { from: library.clone(), to: library }));
        files.insert(File { to: Path::new("/usr/sbin").join(name), from: program });
    }
    Ok(files.into_iter().collect())
}

fn find(name: &str) -> Result<PathBuf> {
    let found = PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    found.with_context(|| format!("there is no program {name}; `cargo xtask setup` installs it"))
}

/// The files that `ldd` lists: `NAME => PATH (ADDRESS)`, for the dynamic loader `PATH (ADDRESS)`; the kernel's own has no
/// path.
fn libraries(listed: &str) -> Result<Vec<PathBuf>> {
    if let Some(missing) = listed.lines().find(|line| line.ends_with("not found")) {
        bail!("{}", missing.trim());
    }
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_the_list() {
        let listed = "\tlinux-vdso.so.1 (0x00007f3800eb0000)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 \
                      (0x00007f3800c8c000)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f3800eb2000)";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(listed).unwrap(), expected);
        assert!(libraries("\tlibabsent.so.1 => not found").unwrap_err().to_string().contains("libabsent"));
    }

    #[test]
    fn a_program_comes_with_what_it_needs() {
        let files = programs(&["sh"]).unwrap();
        let comes = |end: &str| files.iter().any(|file| file.to.ends_with(end) && file.from.is_file());
        assert!(comes("usr/sbin/sh") && comes("libc.so.6"), "{files:?}");
        assert!(programs(&["no-such-program"]).unwrap_err().to_string().contains("cargo xtask setup"));
    }
}
