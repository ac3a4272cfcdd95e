//! The handshake's packets, before there is a socket: SYN in, SYN-ACK out.

use aya_ebpf::{
    bindings::{BPF_F_CURRENT_NETNS, TC_ACT_UNSPEC, bpf_sock, bpf_sock_tuple},
    cty::c_void,
    helpers::generated::{bpf_sk_release, bpf_skb_load_bytes_relative, bpf_skc_lookup_tcp},
    macros::classifier,
    programs::TcContext,
};
use tracer_common::{
    counter::Counter,
    endpoint::{Endpoint, Tuple},
    settings::Settings,
};

use crate::{
    kernel::{self, Sock},
    maps::{ANY, HANDSHAKES, Handshake, count, is_known_port},
    traced::now,
};

/// A SYN-ACK is sent for at most about two minutes; one that is older belongs to an earlier attempt from the same port.
const STALE_NS: u64 = 130_000_000_000;

/// `tcx` or `clsact` ingress, for every packet that an interface receives. It looks at SYNs for listeners of this host.
#[classifier]
pub fn tc_ingress(context: TcContext) -> i32 {
    if let Some((tuple, sequence)) = syn(&context)
        && (!kernel::has_filter(Settings::PORT_FILTER) || is_known_port(tuple.local.port))
        && is_for_listener(&context, &tuple)
    {
        let now = now();
        if let Some(times) = HANDSHAKES.get_ptr_mut(tuple) {
            // SAFETY: the map keeps the value's memory while the program runs.
            let times = unsafe { &mut *times };
            if times.sequence != sequence {
                *times = Handshake { syn: now, synack: 0, sequence, padding: 0 };
            }
        } else {
            store(&tuple, Handshake { syn: now, synack: 0, sequence, padding: 0 });
        }
    }
    TC_ACT_UNSPEC
}

/// Notes that a SYN-ACK of the request socket `sock` left.
#[inline(always)]
pub fn synack_sent(port: u16, sock: Sock, now: u64) {
    if kernel::has_filter(Settings::PORT_FILTER) && !is_known_port(port) {
        return;
    }
    let tuple = sock.tuple();
    if let Some(times) = HANDSHAKES.get_ptr_mut(tuple) {
        // SAFETY: the map keeps the value's memory while the program runs.
        let times = unsafe { &mut *times };
        if times.synack == 0 {
            times.synack = now;
        } else if times.syn == 0 && now.saturating_sub(times.synack) > STALE_NS {
            *times = Handshake { syn: 0, synack: now, sequence: 0, padding: 0 };
        }
    } else {
        store(&tuple, Handshake { syn: 0, synack: now, sequence: 0, padding: 0 });
    }
}

/// The handshake's times of the connection `tuple`, which is established now.
#[inline(always)]
pub fn take(tuple: &Tuple) -> Option<Handshake> {
    // SAFETY: the value is copied at once.
    let times = unsafe { HANDSHAKES.get(tuple) }.copied()?;
    let _ = HANDSHAKES.remove(tuple);
    Some(times)
}

#[inline(always)]
fn store(tuple: &Tuple, times: Handshake) {
    if HANDSHAKES.insert(tuple, times, ANY).is_err() {
        count(Counter::HandshakeInsertFailed);
    }
}

#[inline(always)]
fn load<T: Copy>(context: &TcContext, offset: u32, mut value: T) -> Option<T> {
    const FROM_NETWORK_HEADER: u32 = 1; // BPF_HDR_START_NET
    let destination = (&raw mut value).cast::<c_void>();
    // SAFETY: the helper fills exactly the destination or fails. Relative to the network header, so that it works
    // on devices without an Ethernet header as well.
    let failed = unsafe {
        bpf_skb_load_bytes_relative(
            context.skb.skb.cast(),
            offset,
            destination,
            size_of::<T>() as u32,
            FROM_NETWORK_HEADER,
        )
    };
    (failed == 0).then_some(value)
}

/// The ends of the connection that the packet wants to open, and its sequence number, if it is a SYN.
#[inline(always)]
fn syn(context: &TcContext) -> Option<(Tuple, u32)> {
    const IPV4: u16 = 0x0800_u16.to_be();
    const IPV6: u16 = 0x86dd_u16.to_be();
    const TCP: u8 = 6;
    // SAFETY: a context field that the verifier knows.
    let protocol = unsafe { (*context.skb.skb).protocol } as u16;
    match protocol {
        IPV4 => {
            let [version_and_length, ..] = load(context, 0, [0_u8; 2])?;
            let [next] = load(context, 9, [0_u8; 1])?;
            let header = u32::from(version_and_length & 15) * 4;
            if next != TCP || !is_syn(context, header)? {
                return None;
            }
            let [source, destination] = load(context, 12, [[0_u8; 4]; 2])?;
            let [source_port, destination_port] = load(context, header, [0_u16; 2])?;
            let [sequence] = load(context, header + 4, [0_u32; 1])?;
            let tuple = Tuple {
                peer: Endpoint::v4(source, u16::from_be(source_port)),
                local: Endpoint::v4(destination, u16::from_be(destination_port)),
            };
            Some((tuple, sequence))
        }
        IPV6 => {
            let [next] = load(context, 6, [0_u8; 1])?;
            if next != TCP || !is_syn(context, 40)? {
                return None;
            }
            let [source, destination] = load(context, 8, [[0_u8; 16]; 2])?;
            let [source_port, destination_port] = load(context, 40, [0_u16; 2])?;
            let [sequence] = load(context, 44, [0_u32; 1])?;
            let tuple = Tuple {
                peer: Endpoint::v6(source, u16::from_be(source_port)),
                local: Endpoint::v6(destination, u16::from_be(destination_port)),
            };
            Some((tuple, sequence))
        }
        _ => None,
    }
}

#[inline(always)]
fn is_syn(context: &TcContext, header: u32) -> Option<bool> {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let [flags] = load(context, header + 13, [0_u8; 1])?;
    Some(flags & (SYN | ACK) == SYN)
}

/// Whether this host would let the SYN open a connection: a listener has the port, or a connection with the same
/// ends that has just ended (`TIME_WAIT`) and makes way for it.
#[inline(always)]
fn is_for_listener(context: &TcContext, tuple: &Tuple) -> bool {
    const LISTEN: u32 = 10;
    const TIME_WAIT: u32 = 6;
    // SAFETY: an all-zero value is valid, and so is writing either form of the union; the socket that the helper
    // finds is released before the program ends.
    unsafe {
        let mut key: bpf_sock_tuple = core::mem::zeroed();
        let (peer, local) = (tuple.peer, tuple.local);
        let is_v4 = peer.address[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        let size = if is_v4 {
            let v4 = &raw mut key.__bindgen_anon_1.ipv4;
            (*v4).saddr = u32::from_ne_bytes([peer.address[12], peer.address[13], peer.address[14], peer.address[15]]);
            (*v4).daddr =
                u32::from_ne_bytes([local.address[12], local.address[13], local.address[14], local.address[15]]);
            (*v4).sport = peer.port.to_be();
            (*v4).dport = local.port.to_be();
            size_of_val(&*v4)
        } else {
            let v6 = &raw mut key.__bindgen_anon_1.ipv6;
            (*v6).saddr = core::mem::transmute::<[u8; 16], [u32; 4]>(peer.address);
            (*v6).daddr = core::mem::transmute::<[u8; 16], [u32; 4]>(local.address);
            (*v6).sport = peer.port.to_be();
            (*v6).dport = local.port.to_be();
            size_of_val(&*v6)
        };
        let skb = context.skb.skb.cast();
        let sock: *mut bpf_sock =
            bpf_skc_lookup_tcp(skb, &raw mut key, size as u32, i64::from(BPF_F_CURRENT_NETNS) as u64, 0);
        if sock.is_null() {
            return false;
        }
        let state = (*sock).state;
        bpf_sk_release(sock.cast());
        state == LISTEN || state == TIME_WAIT
    }
}
