//! What the running kernel's type information (BTF) tells: where struct members are, and the shapes of tracepoints,
//! functions and enumerations.
//!
//! The format is the kernel's `Documentation/bpf/btf.rst`. Nothing is indexed: a question walks the types once, which
//! takes about a millisecond, and all that stays in memory is the file itself and where its types begin.

use std::{
    ffi::CStr,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

/// Why the kernel's BTF is not known.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel was built without it.
    #[error(
        "{0} does not exist: this kernel was built without CONFIG_DEBUG_INFO_BTF, \
         and nothing can be traced on it.\nBoot a kernel that has it, such as any current one of Amazon Linux 2023, Ubuntu, RHEL or Debian."
    )]
    Missing(PathBuf),
    /// It exists and cannot be read.
    #[error("cannot read the kernel's types from {path}: {source}.\nRun as root, with /sys mounted.")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the read failed with.
        source: io::Error,
    },
    /// It is not BTF, or of a kind that this program does not know.
    #[error(
        "{path} is not BTF that this program understands: {reason}.\n\
         If it is the running kernel's own, please report the kernel's version."
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The kinds of types that are asked for, as in the kernel's `include/uapi/linux/btf.h`.
mod kind {
    pub const PTR: u32 = 2;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// What follows a type's header, by kind: bytes once, and bytes for each of its elements.
const LAYOUT: [(usize, usize); 20] = [
    (0, 0),  // void, never written down
    (4, 0),  // INT
    (0, 0),  // PTR
    (12, 0), // ARRAY
    (0, 12), // STRUCT
    (0, 12), // UNION
    (0, 8),  // ENUM
    (0, 0),  // FWD
    (0, 0),  // TYPEDEF
    (0, 0),  // VOLATILE
    (0, 0),  // CONST
    (0, 0),  // RESTRICT
    (0, 0),  // FUNC: its element count is the linkage
    (0, 8),  // FUNC_PROTO
    (4, 0),  // VAR
    (0, 12), // DATASEC
    (0, 0),  // FLOAT
    (4, 0),  // DECL_TAG
    (0, 0),  // TYPE_TAG
    (0, 12), // ENUM64
];

/// Bytes of a type's header.
const TYPE_HEADER: usize = 12;
/// How many modifiers a type may have, and how many anonymous structs and unions are looked into for a member: only a
/// malformed file exceeds it.
const MAX_NESTED: u32 = 1000;

/// The header of a type.
#[derive(Clone, Copy)]
struct Type {
    /// Where what follows the header begins.
    body: usize,
    info: u32,
    /// The id of the type that it refers to, or its size.
    target: u32,
}

impl Type {
    const fn kind(self) -> u32 {
        self.info >> 24 & 0x7f
    }

    /// The number of members, values or parameters.
    const fn elements(self) -> usize {
        (self.info & 0x00ff_ffff) as usize
    }

    /// For a struct: members have bit-field sizes in their offsets. For an enumeration: values are signed.
    const fn flag(self) -> bool {
        self.info >> 31 == 1
    }

    const fn is_composite(self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }
}

/// The kernel's types. It holds the whole file (5 to 10 MB): drop it when all has been asked.
pub struct KernelBtf {
    data: Vec<u8>,
    /// Where each type begins in `data`; the first has id 1.
    types: Vec<u32>,
    strings: Range<usize>,
}

impl KernelBtf {
    /// Reads the types in the file `path`, in general `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// If there is no such file, it cannot be read, or it is not valid BTF; the messages say what to do.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, BtfError> {
        let path = path.as_ref();
        let data = fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BtfError::Missing(path.to_owned()),
            _ => BtfError::Unreadable { path: path.to_owned(), source },
        })?;
        Self::parse(data).map_err(|reason| BtfError::Malformed { path: path.to_owned(), reason })
    }

    fn parse(data: Vec<u8>) -> Result<Self, String> {
        match data.get(..3) {
            Some([0x9f, 0xeb, 1]) => {}
            Some([0xeb, 0x9f, _]) => return Err("its byte order is not that of this host".to_owned()),
            _ => return Err("it does not begin with a BTF header of version 1".to_owned()),
        }
        let mut btf = Self { data, types: Vec::new(), strings: 0..0 };
        let section = |at| btf.section(at).ok_or("its header points outside of the file");
        let (types, strings) = (section(8)?, section(16)?);
        // Kernels from 2026 on may describe how long the types of each kind are, for readers older than the kind.
        let layouts = if btf.u32(4) >= Some(32) { section(24)? } else { 0..0 };
        btf.strings = strings;
        let mut at = types.start;
        while at < types.end {
            let header = btf.type_at(at).ok_or("it ends within a type")?;
            let (once, each) = btf
                .layout(header.kind(), &layouts)
                .ok_or_else(|| format!("type {} is of the unknown kind {}", btf.types.len() + 1, header.kind()))?;
            btf.types.push(u32::try_from(at).map_err(|_| "it is larger than 4 GiB")?);
            at = header.body + once + each * header.elements();
        }
        if at == types.end { Ok(btf) } else { Err("it ends within a type".to_owned()) }
    }

    /// The byte offset of a member of `structure`, a struct or union; `member` may be a path, dots between its parts.
    ///
    /// Members of anonymous structs and unions count as members of what contains them. For a bit-field, the offset is
    /// that of the byte which holds its lowest bit. `None` if there is no such member, or if several structs have that
    /// name and the member at different places.
    pub fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        agreed(
            self.named(structure)
                .filter(|found| found.is_composite())
                .filter_map(|found| member.split('.').try_fold((found, 0), |at, name| self.step(at, name)))
                .map(|(_, bits)| bits / 8),
        )
    }

    /// Whether the kernel has the tracepoint, as one that `tp_btf` programs attach to.
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoint_arguments(name).is_some()
    }

    /// How many arguments a `tp_btf` program on the tracepoint gets.
    pub fn tracepoint_arguments(&self, name: &str) -> Option<usize> {
        let name = format!("btf_trace_{name}");
        let found = self.named(&name).filter(|found| found.kind() == kind::TYPEDEF);
        // The first parameter is the registered data, which programs do not see.
        agreed(found.filter_map(|found| self.parameters(self.resolve(found.target)?)?.checked_sub(1)))
    }

    /// How many parameters the function has; `...` counts as one. `None` also if several functions have that name and
    /// a different number of them.
    pub fn function_arguments(&self, name: &str) -> Option<usize> {
        agreed(self.named(name).filter(|found| found.kind() == kind::FUNC).filter_map(|found| self.parameters(found)))
    }

    /// The names of an enumeration's values, and the values; negative ones in two's complement. Empty if there is no such
    /// enumeration, or if several have that name and differ.
    pub fn enumeration(&self, name: &str) -> Vec<(String, u64)> {
        agreed(self.named(name).map(|found| self.enumerators(found)).filter(|values| !values.is_empty()))
            .unwrap_or_default()
    }

    /// The names and values of `of`; none if it is not an enumeration, or malformed.
    fn enumerators(&self, of: Type) -> Vec<(String, u64)> {
        let size = match of.kind() {
            kind::ENUM => 8,
            kind::ENUM64 => 12,
            _ => return Vec::new(),
        };
        let value = |at| {
            let low = self.u32(at + 4)?;
            Some(match (of.kind(), of.flag()) {
                (kind::ENUM64, _) => u64::from(self.u32(at + 8)?) << 32 | u64::from(low),
                (_, true) => i64::from(low.cast_signed()).cast_unsigned(),
                (_, false) => low.into(),
            })
        };
        let each = (of.body..).step_by(size).take(of.elements());
        each.map(|at| Some((self.string(self.u32(at)?)?, value(at)?))).collect::<Option<_>>().unwrap_or_default()
    }

    /// The number of parameters of the prototype that `of`, a function or a pointer to one, refers to.
    fn parameters(&self, of: Type) -> Option<usize> {
        let prototype = match of.kind() {
            kind::FUNC | kind::PTR => self.resolve(of.target)?,
            _ => return None,
        };
        (prototype.kind() == kind::FUNC_PROTO).then(|| prototype.elements())
    }

    /// From a struct and its offset in bits to its member `name`.
    fn step(&self, (structure, bits): (Type, u32), name: &str) -> Option<(Type, u32)> {
        let (member, offset) = self.member(structure, name.as_bytes(), &mut { MAX_NESTED })?;
        Some((self.resolve(member)?, bits.checked_add(offset)?))
    }

    /// The type id of the member `name` and its offset in bits.
    fn member(&self, structure: Type, name: &[u8], nested: &mut u32) -> Option<(u32, u32)> {
        if !structure.is_composite() {
            return None;
        }
        (structure.body..).step_by(12).take(structure.elements()).find_map(|at| {
            let (member_name, id, offset) = (self.u32(at)?, self.u32(at + 4)?, self.u32(at + 8)?);
            let offset = if structure.flag() { offset & 0x00ff_ffff } else { offset };
            if member_name != 0 {
                return self.is_name(member_name, name).then_some((id, offset));
            }
            *nested = nested.checked_sub(1)?;
            let (id, inner) = self.member(self.resolve(id)?, name, nested)?;
            Some((id, offset.checked_add(inner)?))
        })
    }

    /// The type `id` without typedefs and qualifiers.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut id = id;
        for _ in 0..MAX_NESTED {
            let found = self.type_at(*self.types.get(id.checked_sub(1)? as usize)? as usize)?;
            match found.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.target;
                }
                _ => return Some(found),
            }
        }
        None
    }

    /// All types of that name, of whatever kind.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Type> + 'a {
        self.types.iter().map(|&at| at as usize).filter_map(move |at| {
            let found = self.u32(at)?;
            if found != 0 && self.is_name(found, name.as_bytes()) { self.type_at(at) } else { None }
        })
    }

    fn layout(&self, kind: u32, layouts: &Range<usize>) -> Option<(usize, usize)> {
        let kind = kind as usize;
        if kind != 0 && kind < LAYOUT.len() {
            return Some(LAYOUT[kind]);
        }
        let at = layouts.start + 4 * kind;
        let [once, each, _, _] = *self.data.get(at..at + 4)? else { return None };
        (kind != 0 && at < layouts.end).then_some((once.into(), each.into()))
    }

    /// The section whose offset from the end of the file's header, and whose length, are at `at`.
    fn section(&self, at: usize) -> Option<Range<usize>> {
        let start = self.u32(4)? as usize + self.u32(at)? as usize;
        let section = start..start + self.u32(at + 4)? as usize;
        (section.end <= self.data.len()).then_some(section)
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        Some(Type { body: at + TYPE_HEADER, info: self.u32(at + 4)?, target: self.u32(at + 8)? })
    }

    /// Compares without looking for the end of the string first: it is asked about every type.
    fn is_name(&self, offset: u32, name: &[u8]) -> bool {
        self.strings_from(offset)
            .and_then(|strings| strings.strip_prefix(name))
            .is_some_and(|end| end.first() == Some(&0))
    }

    fn string(&self, offset: u32) -> Option<String> {
        let text = CStr::from_bytes_until_nul(self.strings_from(offset)?).ok()?;
        text.to_str().ok().map(str::to_owned)
    }

    fn strings_from(&self, offset: u32) -> Option<&[u8]> {
        self.data.get(self.strings.start + offset as usize..self.strings.end)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.data.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

/// What all of `answers` say; `None` if they differ or there are none.
fn agreed<T: PartialEq>(mut answers: impl Iterator<Item = T>) -> Option<T> {
    let first = answers.next()?;
    answers.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests;
