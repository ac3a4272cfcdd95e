//! The kernel function that contains an address.
//!
//! `/proc/kallsyms` has a line for each of the kernel's 100 000 to 300 000 symbols. It is read as a stream, for all
//! addresses in question at once, and only the answers stay in memory.

use foldhash::fast::FixedState;
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::PathBuf,
};

/// Where the kernel lists its symbols.
const KALLSYMS: &str = "/proc/kallsyms";
/// Addresses remembered at once.
const CAPACITY: usize = 1024;
/// No function has more bytes: an address farther from the symbol before it is in none. It also holds off the zeros
/// which stand for all addresses where `kernel.kptr_restrict` hides them.
const LARGEST: u64 = 1 << 20;

/// The functions found so far.
#[derive(Debug)]
pub struct Symbols {
    file: PathBuf,
    names: HashMap<u64, Option<String>, FixedState>,
}

impl Default for Symbols {
    /// The running kernel's.
    fn default() -> Self {
        Self { file: KALLSYMS.into(), names: HashMap::default() }
    }
}

impl Symbols {
    /// The name of the function that contains `address`; `None` if there is none or the kernel does not tell.
    pub fn name(&mut self, address: u64) -> Option<&str> {
        self.look_up(&[address]);
        self.names.get(&address)?.as_deref()
    }

    /// Finds the functions that contain `addresses`, in one pass over the kernel's list.
    pub fn look_up(&mut self, addresses: &[u64]) {
        let unknown: Vec<u64> =
            addresses.iter().copied().filter(|address| !self.names.contains_key(address)).take(CAPACITY).collect();
        if unknown.is_empty() {
            return;
        }
        let found =
            File::open(&self.file).and_then(|file| functions(BufReader::with_capacity(64 << 10, file), &unknown));
        if self.names.len() + unknown.len() > CAPACITY {
            self.names.clear();
        }
        // A list that cannot be read is not tried again for these addresses.
        let found = found.unwrap_or_else(|_| vec![None; unknown.len()]);
        self.names.extend(unknown.into_iter().zip(found));
    }
}

/// Whether the running kernel has a function of that name, in a module or built in.
pub fn exists(function: &str) -> bool {
    let search = |file| {
        let mut found = false;
        each_symbol(BufReader::with_capacity(64 << 10, file), |symbol| {
            found = symbol.name == function.as_bytes();
            !found
        })?;
        Ok::<_, io::Error>(found)
    };
    File::open(KALLSYMS).and_then(search).unwrap_or(false)
}

/// A line of the list.
struct Symbol<'a> {
    address: u64,
    kind: u8,
    name: &'a [u8],
}

impl<'a> Symbol<'a> {
    /// From `ffffffff81f63250 T nft_do_chain`, then for a module's a tab and `[nf_tables]`.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.split(u8::is_ascii_whitespace);
        let address = u64::from_str_radix(str::from_utf8(fields.next()?).ok()?, 16).ok()?;
        let [kind] = *fields.next()? else { return None };
        Some(Self { address, kind, name: fields.next()? })
    }
}

/// Calls `with` for each symbol for as long as it returns true.
fn each_symbol(mut list: impl BufRead, mut with: impl FnMut(&Symbol) -> bool) -> io::Result<()> {
    let mut line = Vec::new();
    while list.read_until(b'\n', &mut line)? != 0 {
        if Symbol::parse(&line).is_some_and(|symbol| !with(&symbol)) {
            break;
        }
        line.clear();
    }
    Ok(())
}

/// The symbol nearest before an address, so far.
#[derive(Clone, Default)]
struct Nearest {
    start: u64,
    kind: u8,
    name: Vec<u8>,
}

/// For each of `addresses` the name of the function that contains it. The list is not sorted.
fn functions(list: impl BufRead, addresses: &[u64]) -> io::Result<Vec<Option<String>>> {
    let mut nearest = vec![Nearest::default(); addresses.len()];
    each_symbol(list, |symbol| {
        for (address, nearest) in addresses.iter().zip(&mut nearest) {
            // Of several names for one place the first is kept.
            if symbol.address <= *address && symbol.address > nearest.start {
                nearest.start = symbol.address;
                nearest.kind = symbol.kind;
                nearest.name.clear();
                nearest.name.extend_from_slice(symbol.name);
            }
        }
        true
    })?;
    let name = |(address, nearest): (&u64, &Nearest)| {
        let is_function = matches!(nearest.kind, b't' | b'T' | b'w' | b'W') && address - nearest.start < LARGEST;
        is_function.then(|| source_name(&String::from_utf8_lossy(&nearest.name)).to_owned())
    };
    Ok(addresses.iter().zip(&nearest).map(name).collect())
}

/// The name in the source: without what the compiler adds to the parts and copies that it makes of a function, such as
/// `.isra.0`, `.part.0`, `.constprop.0` and `.cold`.
fn source_name(symbol: &str) -> &str {
    symbol.split_once('.').map_or(symbol, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
        0000000000000000 A __per_cpu_start\n\
        ffffffff81000000 T _stext\n\
        ffffffff81001000 t tcp_rcv_synsent.isra.0\n\
        ffffffff81002000 T tcp_v4_rcv\n\
        ffffffff81002000 T alias_of_it\n\
        ffffffff81003000 t cookie_v4_check.part.0.cold\n\
        ffffffff82000000 D jiffies\n\
        ffffffffc0001000 t nft_do_chain\t[nf_tables]\n\
        ffffffffc0000000 t nft_first\t[nf_tables]\n";

    fn find<const N: usize>(list: &str, addresses: [u64; N]) -> [Option<String>; N] {
        functions(list.as_bytes(), &addresses).unwrap().try_into().unwrap()
    }

    #[test]
    fn the_function_that_contains_an_address_is_found() {
        let [first, exact, inner, cold, module] = [
            0xffff_ffff_8100_1fff,
            0xffff_ffff_8100_2000,
            0xffff_ffff_8100_2abc,
            0xffff_ffff_8100_3001,
            0xffff_ffff_c000_1234,
        ];
        let names = find(LIST, [first, exact, inner, cold, module]);
        let names = names.each_ref().map(|name| name.as_deref().unwrap());
        assert_eq!(names, ["tcp_rcv_synsent", "tcp_v4_rcv", "tcp_v4_rcv", "cookie_v4_check", "nft_do_chain"]);
    }

    #[test]
    fn what_is_in_no_function_has_no_name() {
        let [data, far, user] = [0xffff_ffff_8200_0010, 0xffff_ffff_c0f0_0000, 0x1234];
        assert_eq!(find(LIST, [data, far, user]), [None, None, None]);
    }

    #[test]
    fn hidden_addresses_are_no_answer() {
        let hidden = LIST.lines().map(|line| ["0000000000000000", &line[16..], "\n"].concat()).collect::<String>();
        assert_eq!(find(&hidden, [0xffff_ffff_8100_2000]), [None]);
    }

    #[test]
    fn the_list_is_read_once_for_an_address() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, LIST).unwrap();
        let mut symbols = Symbols { file: file.path().to_owned(), names: HashMap::default() };
        symbols.look_up(&[0xffff_ffff_8100_2000, 0x10]);
        drop(file);
        assert_eq!(symbols.name(0xffff_ffff_8100_2000), Some("tcp_v4_rcv"));
        assert_eq!(symbols.name(0x10), None);
        assert_eq!(symbols.name(0xffff_ffff_8100_1000), None);
        for address in 0..3000 {
            symbols.name(address);
        }
        assert!(symbols.names.len() <= CAPACITY);
    }

    #[test]
    fn the_running_kernel_lists_its_functions() {
        assert!(exists("tcp_v4_rcv") && !exists("no_such_function"));
    }
}
