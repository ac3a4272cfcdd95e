//! The sweep: asks the kernel for the requests that no event has reported.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use aya::{
    Btf, Ebpf,
    programs::{Iter, ProgramError},
};
use tracer_common::record::RequestRecord;

use super::{
    diagnostics::Diagnostics,
    link::{Command, create},
};
use crate::clock::monotonic;
use tracer_core::decode::{Record, decode};

/// The way to the requests that no event has reported.
#[derive(Debug)]
pub enum Sweep {
    /// An iterator, which makes the records in the kernel.
    Iterator(Iteration),
    /// Socket diagnostics.
    Diagnostics(Diagnostics),
}

impl Sweep {
    /// Calls `each` with every request that was not reported or was answered further since.
    pub fn run(&self, ebpf: &Ebpf, mut each: impl FnMut(RequestRecord)) -> io::Result<()> {
        match self {
            Self::Iterator(iteration) => iteration.run(|bytes| {
                if let Ok(Record::Request(record)) = decode(bytes) {
                    each(record);
                }
            }),
            Self::Diagnostics(diagnostics) => diagnostics.run(ebpf, monotonic(), each),
        }
    }
}

/// The attached iterator.
#[derive(Debug)]
pub struct Iteration {
    link: OwnedFd,
}

/// `union bpf_attr` as `BPF_LINK_CREATE` and `BPF_ITER_CREATE` read it (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// `union bpf_iter_link_info`.
#[repr(C)]
struct IterInfo {
    map_fd: u32,
}

/// Its length, as the kernel wants it.
const ITER_INFO_LENGTH: u32 = 4;

const _: () = assert!(size_of::<IterInfo>() == ITER_INFO_LENGTH as usize);

impl Iteration {
    /// Loads `program` and attaches it to the map of the connections. By hand, because aya 0.14 attaches iterators
    /// without the map that they are to walk.
    pub(super) fn new(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<Self, ProgramError> {
        const BPF_TRACE_ITER: u32 = 28;
        let map = match ebpf.map("CONNECTIONS") {
            Some(aya::maps::Map::SkStorage(map)) => map.fd().as_fd().try_clone_to_owned(),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let map = map.map_err(aya::maps::MapError::IoError)?;
        let program: &mut Iter = match ebpf.program_mut(name) {
            Some(program) => program.try_into()?,
            None => return Err(ProgramError::NotLoaded),
        };
        program.load("bpf_sk_storage_map", btf)?;
        let info = IterInfo { map_fd: map.as_raw_fd().cast_unsigned() };
        let attributes = LinkCreate {
            prog_fd: program.fd()?.as_fd().as_raw_fd().cast_unsigned(),
            attach_type: BPF_TRACE_ITER,
            iter_info: (&raw const info) as u64,
            iter_info_len: ITER_INFO_LENGTH,
            ..LinkCreate::default()
        };
        let link = create(Command::LinkCreate, &attributes)
            .map_err(|io_error| aya::sys::SyscallError { call: "bpf_link_create", io_error })?;
        Ok(Self { link })
    }

    /// Calls `each` with the bytes of a [`RequestRecord`] for every request that was not reported or was answered
    /// further since.
    fn run(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let attributes = IterCreate { link_fd: self.link.as_raw_fd().cast_unsigned(), flags: 0 };
        let mut file = File::from(create(Command::IterCreate, &attributes)?);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        bytes.chunks_exact(size_of::<RequestRecord>()).for_each(&mut each);
        Ok(())
    }
}
