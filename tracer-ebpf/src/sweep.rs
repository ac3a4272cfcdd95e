//! The sweep: user space reads the requests that no event will report soon.

use aya_ebpf::{cty::c_void, helpers::generated::bpf_seq_write};
use tracer_common::{connection::Connection, record::RequestRecord, shared::Shared};

use crate::{
    kernel::{Sock, now},
    maps::{ACCEPTS, ACCEPTS_MORE},
    traced::is_wanted_reader,
};

/// The kernel's `struct bpf_iter__bpf_sk_storage_map`: each member padded to 8 bytes.
#[repr(C)]
pub struct Context {
    meta: *const Meta,
    map: *const c_void,
    sk: *const c_void,
    value: *const Connection,
}

/// The kernel's `struct bpf_iter_meta`.
#[repr(C)]
pub struct Meta {
    seq: *mut c_void,
    session_id: u64,
    seq_num: u64,
}

/// `iter/bpf_sk_storage_map` over `CONNECTIONS`: writes a [`RequestRecord`] for each request that was not reported,
/// or was answered further since. It changes nothing: the same request is reported by its own event later.
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
#[unsafe(no_mangle)]
pub extern "C" fn sweep(context: *const Context) -> i32 {
    // SAFETY: the verifier knows the context and every pointer in it.
    unsafe {
        let (sock, value) = ((*context).sk, (*context).value);
        // The last call, after all elements, has neither.
        if sock.is_null() || value.is_null() {
            return 0;
        }
        let connection = &*value;
        if connection.is_to_be_looked_at()
            && is_wanted_reader(connection)
            && let Some(tcp) = Sock::new(sock).as_tcp()
        {
            let mut record = RequestRecord::of(connection, false, tcp.smoothed_round_trip(), now());
            // Until the first read the moment may wait where the hook could leave it.
            if record.sequence == 1 && record.accepted == 0 && record.flags & RequestRecord::ADOPTED == 0 {
                let more = || ACCEPTS_MORE.get(connection.address.get()).copied();
                let moment = ACCEPTS.find(&connection.address.get()).map(Shared::get).or_else(more);
                record.accepted = moment.unwrap_or(0);
                // A process has it although no hook saw `accept()`, as that of an io_uring.
                if record.accepted == 0 && Sock::new(sock).is_held() {
                    record.flags |= RequestRecord::ACCEPT_UNSEEN;
                }
            }
            if tcp.is_read_by_kernel() {
                record.flags |= RequestRecord::READ_UNSEEN;
            }
            bpf_seq_write((*(*context).meta).seq.cast(), (&raw const record).cast(), size_of::<RequestRecord>() as u32);
        }
    }
    0
}
