//! The kernel modules that tests need, taken out of an unpacked package together with those they depend on.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::sh;

/// What is used in the virtual machine; on a host the kernel loads these by itself.
const NEEDED: [&str; 16] = [
    "veth",
    "sch_ingress",
    "sch_tbf",
    "sch_netem",
    "cls_bpf",
    "act_bpf",
    "nf_tables",
    "nf_conntrack_netlink",
    "nft_ct",
    "nft_limit",
    "nft_numgen",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_reject_inet",
    "inet_diag",
    "tcp_diag",
];

/// Whether `target` holds all that are needed today.
pub fn are_complete(target: &Path) -> bool {
    fs::read_to_string(target.join("needed")).is_ok_and(|needed| needed == NEEDED.join("\n"))
}

/// Writes the needed modules of `tree`, not compressed, into `target`, and their order of loading into its file `order`.
pub fn extract(tree: &Path, release: &str, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let mut extraction = Extraction::new(tree, release, target)?;
    for name in NEEDED {
        extraction.add(name)?;
    }
    fs::write(target.join("order"), extraction.order.join("\n") + "\n")?;
    fs::write(target.join("needed"), NEEDED.join("\n"))?;
    Ok(())
}

struct Extraction<'a> {
    target: &'a Path,
    /// Path of each module by its name.
    modules: HashMap<String, PathBuf>,
    /// Names of those that are part of the kernel image.
    builtin: Vec<String>,
    /// Names of those extracted, each after what it depends on.
    order: Vec<String>,
}

impl<'a> Extraction<'a> {
    fn new(tree: &Path, release: &str, target: &'a Path) -> Result<Self> {
        let places = ["lib/modules", "usr/lib/modules"].map(|place| tree.join(place).join(release));
        let root = places.iter().find(|root| root.join("kernel").exists());
        let root = root.with_context(|| format!("the packages of {release} hold no modules"))?;
        let mut modules = HashMap::new();
        collect(&root.join("kernel"), &mut modules)?;
        let builtin = fs::read_to_string(root.join("modules.builtin")).context("cannot read modules.builtin")?;
        let builtin = builtin.lines().filter_map(|path| module_name(Path::new(path))).collect();
        Ok(Self { target, modules, builtin, order: Vec::new() })
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        if self.order.contains(&name) || self.builtin.contains(&name) {
            return Ok(());
        }
        let packed = self.modules.get(&name).with_context(|| format!("the kernel has no module {name}"))?;
        let module = self.target.join(format!("{name}.ko"));
        decompress(packed, &module)?;
        let dependencies = sh::read(Command::new("modinfo").args(["-F", "depends"]).arg(&module))?;
        for dependency in dependencies.split(',').filter(|name| !name.is_empty()) {
            self.add(dependency)?;
        }
        self.order.push(name);
        Ok(())
    }
}

fn collect(dir: &Path, modules: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, modules)?;
        } else if let Some(name) = module_name(&path) {
            modules.insert(name, path);
        }
    }
    Ok(())
}

/// `nf_tables` of `…/nf_tables.ko.xz`; the kernel takes `-` and `_` for the same.
fn module_name(path: &Path) -> Option<String> {
    let (name, packing) = path.file_name()?.to_str()?.split_once(".ko")?;
    matches!(packing, "" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

fn decompress(packed: &Path, module: &Path) -> Result<()> {
    let program = match packed.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::copy(packed, module).map(drop).with_context(|| format!("cannot copy {}", packed.display())),
    };
    let output = fs::File::create(module).with_context(|| format!("cannot create {}", module.display()))?;
    let status = Command::new(program).arg("-dc").arg(packed).stdin(Stdio::null()).stdout(output).status();
    let status = status.with_context(|| format!("cannot run {program}; `cargo xtask setup` installs it"))?;
    ensure!(status.success(), "{program} cannot decompress {}: {status}", packed.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules() {
        let name = |path| module_name(Path::new(path));
        assert_eq!(name("kernel/net/sched/sch_ingress.ko").unwrap(), "sch_ingress");
        assert_eq!(name("a/nf-log-syslog.ko.xz").unwrap(), "nf_log_syslog");
        assert_eq!(name("a/veth.ko.zst").unwrap(), "veth");
        assert_eq!(name("modules.order"), None);
        assert_eq!(name("a/veth.ko.txt"), None);
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on_and_a_builtin_one_is_left_out() {
        // `modinfo` reads an ELF file only: the order is shown with modules that depend on nothing.
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().join("lib/modules/1.2.3");
        fs::create_dir_all(root.join("kernel")).unwrap();
        fs::write(root.join("modules.builtin"), "kernel/veth.ko\n").unwrap();
        let mut extraction = Extraction::new(tree.path(), "1.2.3", tree.path()).unwrap();
        extraction.add("veth").unwrap();
        assert!(extraction.order.is_empty());
        assert!(extraction.add("absent").unwrap_err().to_string().contains("no module absent"));
    }
}
