//! Small BTF files, built type by type, and the running kernel's.

use super::{BtfError, KernelBtf, kind};
use crate::probe::OTHER_ARCHITECTURE;
use proptest::prelude::{any, prop, proptest};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const INT: u32 = 1;
const BITFIELDS: u32 = 1 << 31;

/// Writes BTF, type by type.
#[derive(Default)]
struct Builder {
    types: Vec<u32>,
    count: u32,
    strings: Vec<u8>,
    layouts: Vec<u8>,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn add(&mut self, kind: u32, elements: u32, name: &str, size_or_type: u32, body: &[u32]) -> u32 {
        let name = self.name(name);
        // The flag of a type comes in the kind.
        self.types.extend([name, (kind & 0x7f) << 24 | kind & (1 << 31) | elements, size_or_type]);
        self.types.extend_from_slice(body);
        self.count += 1;
        self.count
    }

    fn int(&mut self) -> u32 {
        self.add(INT, 0, "int", 4, &[32])
    }

    /// Members: name, type, offset in bits.
    fn composite(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let body: Vec<u32> = members.iter().flat_map(|&(name, id, offset)| [self.name(name), id, offset]).collect();
        self.add(kind, u32::try_from(members.len()).unwrap(), name, 64, &body)
    }

    /// Values: name, and their words.
    fn enumeration<const WORDS: usize>(&mut self, kind: u32, name: &str, values: &[(&str, [u32; WORDS])]) -> u32 {
        let body: Vec<u32> =
            values.iter().flat_map(|&(name, words)| [self.name(name)].into_iter().chain(words)).collect();
        self.add(kind, u32::try_from(values.len()).unwrap(), name, 4, &body)
    }

    fn prototype(&mut self, parameters: u32) -> u32 {
        self.add(kind::FUNC_PROTO, parameters, "", 0, &vec![0; parameters as usize * 2])
    }

    fn bytes(mut self) -> Vec<u8> {
        self.name("");
        let types = u32::try_from(self.types.len() * 4).unwrap();
        let strings = u32::try_from(self.strings.len()).unwrap();
        let mut header = vec![0x0001_eb9f, 24, 0, types, types, strings];
        if !self.layouts.is_empty() {
            header[1] = 32;
            header.extend([types + strings, u32::try_from(self.layouts.len()).unwrap()]);
        }
        let words = header.iter().chain(&self.types);
        words.flat_map(|word| word.to_le_bytes()).chain(self.strings).chain(self.layouts).collect()
    }

    fn parse(self) -> KernelBtf {
        KernelBtf::parse(self.bytes()).unwrap()
    }
}

/// `struct sock`, in small: an anonymous union with an anonymous struct in it, typedefs, qualifiers, bit-fields.
fn sock() -> Builder {
    let mut btf = Builder::default();
    let int = btf.int();
    let ports = btf.composite(kind::STRUCT, "", &[("dport", int, 0), ("num", int, 16)]);
    let addresses = btf.composite(kind::UNION, "", &[("both", int, 0), ("", ports, 0)]);
    let pointer = btf.add(kind::PTR, 0, "", 0, &[]);
    let net = btf.composite(kind::STRUCT, "", &[("net", pointer, 0)]);
    let possible_net = btf.add(kind::TYPEDEF, 0, "possible_net_t", net, &[]);
    let constant = btf.add(kind::CONST, 0, "", possible_net, &[]);
    let flags = btf.composite(
        kind::STRUCT | BITFIELDS,
        "flags",
        &[
            ("plain", int, 32),
            ("low", int, (3 << 24) + 64),
            ("middle", int, (7 << 24) + 67),
            ("high", int, (1 << 24) + 74),
        ],
    );
    let common =
        btf.composite(kind::STRUCT, "sock_common", &[("daddr", int, 0), ("", addresses, 64), ("net", constant, 128)]);
    btf.composite(kind::STRUCT, "sock", &[("__sk_common", common, 32), ("flags", flags, 256)]);
    btf.enumeration(kind::ENUM, "state", &[("ESTABLISHED", [1]), ("CLOSE", [7])]);
    btf
}

#[test]
fn members_are_found_in_anonymous_structs_and_through_typedefs() {
    let btf = sock().parse();
    assert_eq!(btf.offset("sock", "__sk_common"), Some(4));
    assert_eq!(btf.offset("sock", "__sk_common.daddr"), Some(4));
    assert_eq!(btf.offset("sock", "__sk_common.dport"), Some(12));
    assert_eq!(btf.offset("sock", "__sk_common.num"), Some(14));
    assert_eq!(btf.offset("sock_common", "both"), Some(8));
    assert_eq!(btf.offset("sock", "__sk_common.net"), Some(20));
    assert_eq!(btf.offset("sock", "__sk_common.net.net"), Some(20));
}

#[test]
fn a_bit_field_is_at_the_byte_of_its_lowest_bit() {
    let btf = sock().parse();
    let offsets = ["plain", "low", "middle", "high"].map(|name| btf.offset("flags", name));
    assert_eq!(offsets, [Some(4), Some(8), Some(8), Some(9)]);
    assert_eq!(btf.offset("sock", "flags.high"), Some(41));
}

#[test]
fn what_is_not_there_is_not_found() {
    let btf = sock().parse();
    for member in ["", ".", "nothing", "__sk_common.", "__sk_common.nothing", "__sk_common.daddr.x", "__sk_commo"] {
        assert_eq!(btf.offset("sock", member), None, "{member}");
    }
    assert_eq!(btf.offset("", "net"), None);
    assert_eq!(btf.offset("int", "x"), None);
    // A typedef is not the name of a struct.
    assert_eq!(btf.offset("possible_net_t", "net"), None);
}

#[test]
fn structs_of_one_name_must_agree() {
    let mut btf = sock();
    btf.composite(kind::STRUCT, "sock", &[("__sk_common", 1, 32), ("flags", 1, 64)]);
    // Other things of that name do not matter.
    btf.add(kind::TYPEDEF, 0, "sock", 1, &[]);
    let btf = btf.parse();
    assert_eq!(btf.offset("sock", "__sk_common"), Some(4));
    assert_eq!(btf.offset("sock", "flags"), None);
    assert_eq!(btf.offset("sock", "__sk_common.daddr"), Some(4));
}

#[test]
fn tracepoints_and_functions_have_arguments() {
    let mut btf = Builder::default();
    let [three, four] = [3, 4].map(|parameters| btf.prototype(parameters));
    let pointer = btf.add(kind::PTR, 0, "", four, &[]);
    btf.add(kind::TYPEDEF, 0, "btf_trace_kfree_skb", pointer, &[]);
    // The element count of a function is its linkage.
    btf.add(kind::FUNC, 1, "tcp_sendmsg", three, &[]);
    btf.add(kind::FUNC, 0, "ambiguous", three, &[]);
    btf.add(kind::FUNC, 0, "ambiguous", four, &[]);
    let btf = btf.parse();
    assert!(btf.has_tracepoint("kfree_skb") && !btf.has_tracepoint("tcp_sendmsg"));
    assert_eq!(btf.tracepoint_arguments("kfree_skb"), Some(3));
    assert_eq!(btf.function_arguments("tcp_sendmsg"), Some(3));
    assert_eq!(btf.function_arguments("ambiguous"), None);
    assert_eq!(btf.function_arguments("btf_trace_kfree_skb"), None);
}

#[test]
fn enumerations_have_values() {
    const SIGNED: u32 = 1 << 31;
    let mut btf = Builder::default();
    btf.enumeration(kind::ENUM, "reason", &[("NONE", [0]), ("NO_SOCKET", [3]), ("SUBSYSTEM", [0xffff_0000])]);
    btf.enumeration(kind::ENUM | SIGNED, "signed", &[("MINUS", [u32::MAX])]);
    btf.enumeration(kind::ENUM64, "wide", &[("HIGH", [1, 2])]);
    // A declaration without values does not matter, another enumeration of the same name does.
    btf.enumeration::<1>(kind::ENUM, "reason", &[]);
    btf.enumeration(kind::ENUM, "ambiguous", &[("A", [1])]);
    btf.enumeration(kind::ENUM, "ambiguous", &[("A", [2])]);
    btf.composite(kind::STRUCT, "structure", &[("member", 1, 0)]);
    let btf = btf.parse();
    let values = [("NONE", 0), ("NO_SOCKET", 3), ("SUBSYSTEM", 0xffff_0000)];
    assert_eq!(btf.enumeration("reason"), values.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!(btf.enumeration("signed"), [("MINUS".to_owned(), u64::MAX)]);
    assert_eq!(btf.enumeration("wide"), [("HIGH".to_owned(), 2 << 32 | 1)]);
    for none in ["ambiguous", "structure", "nothing"] {
        assert_eq!(btf.enumeration(none), [], "{none}");
    }
}

#[test]
fn a_kind_that_is_new_is_skipped_if_the_file_describes_it() {
    const NEW: u32 = 21;
    let new = |layouts| {
        let mut btf = Builder { layouts, ..Builder::default() };
        btf.add(NEW, 2, "", 0, &[7, 8, 8, 8, 8]);
        let int = btf.int();
        btf.composite(kind::STRUCT, "after", &[("it", int, 8)]);
        KernelBtf::parse(btf.bytes())
    };
    let layouts = [[0; 84].as_slice(), &[4, 8, 0, 0]].concat();
    assert_eq!(new(layouts).unwrap().offset("after", "it"), Some(1));
    assert_eq!(new(Vec::new()).err().unwrap(), "type 1 is of the unknown kind 21");
}

#[test]
fn a_type_that_contains_itself_ends() {
    let mut btf = Builder::default();
    btf.composite(kind::STRUCT, "endless", &[("", 1, 0), ("", 1, 8)]);
    btf.add(kind::TYPEDEF, 0, "btf_trace_endless", 2, &[]);
    let btf = btf.parse();
    assert_eq!(btf.offset("endless", "x"), None);
    assert_eq!(btf.tracepoint_arguments("endless"), None);
}

#[test]
fn errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vmlinux");
    assert!(matches!(KernelBtf::load(&file), Err(BtfError::Missing(_))));
    assert!(matches!(KernelBtf::load(folder.path()), Err(BtfError::Unreadable { .. })));
    std::fs::write(&file, b"\x7fELF").unwrap();
    let error = KernelBtf::load(&file).err().unwrap().to_string();
    assert!(error.contains("header of version 1"), "{error}");
}

#[test]
fn the_running_kernel_is_understood() {
    if !std::path::Path::new(VMLINUX).exists() {
        eprintln!("this kernel has no BTF");
        return;
    }
    let btf = KernelBtf::load(VMLINUX).unwrap();
    let offsets = tracer_common::offsets::Offsets::resolve(|name, member| btf.offset(name, member));
    let missing = offsets.missing().filter(|member| !OTHER_ARCHITECTURE.contains(member));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());
    assert_eq!(btf.tracepoint_arguments("inet_sock_set_state"), Some(3));
    assert!(btf.enumeration("nf_inet_hooks").contains(&("NF_INET_LOCAL_OUT".to_owned(), 3)));
}

proptest! {
    #[test]
    fn damaged_files_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sock().bytes();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(length.index(bytes.len()) + 1);
        if let Ok(btf) = KernelBtf::parse(bytes) {
            let _ = btf.offset("sock", "__sk_common.net.net");
            let _ = btf.function_arguments("sock");
            let _ = btf.enumeration("state");
        }
    }
}
