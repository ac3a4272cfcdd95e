//! Messages byte by byte, and the running kernel.

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::*;

/// A message, padded for another one behind it.
fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], body].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn error(number: i32) -> Vec<u8> {
    // The kernel puts the header of the request behind the number.
    message(uapi::NLMSG_ERROR, 0, &[number.to_ne_bytes().as_slice(), &[0; 16]].concat())
}

fn done(body: &[u8]) -> Vec<u8> {
    message(uapi::NLMSG_DONE, 2, body)
}

/// The kind and the body of a message.
type Content = (u16, Vec<u8>);

/// The messages in a datagram, and whether it ends the answer.
fn taken(datagram: &[u8]) -> (Vec<Content>, Result<bool, NetlinkError>) {
    let mut found = Vec::new();
    let ended = take(datagram, &mut |message| found.push((message.kind, message.body.to_vec())));
    (found, ended)
}

/// That a datagram is an answer that the kernel refused with this error.
fn refused(datagram: &[u8]) -> Option<Errno> {
    match taken(datagram).1 {
        Err(NetlinkError::Refused(number)) => Some(number),
        _ => None,
    }
}

#[test]
fn messages_are_taken_one_after_the_other() {
    let datagram = [message(20, 2, &[7, 7]), message(uapi::NLMSG_NOOP, 0, &[]), message(21, 2, &[8; 4])].concat();
    let (found, ended) = taken(&datagram);
    assert_eq!(found, [(20, vec![7, 7]), (21, vec![8; 4])]);
    assert!(!ended.unwrap());
    // The last one may lack the padding.
    assert_eq!(taken(&message(20, 2, &[7, 7])[..18]).0, [(20, vec![7, 7])]);
}

#[test]
fn what_is_behind_the_end_is_not_read() {
    for end in [error(0), done(&[0; 4]), done(&[])] {
        let (found, ended) = taken(&[message(20, 2, &[1]), end, message(20, 2, &[2])].concat());
        assert_eq!(found, [(20, vec![1])]);
        assert!(ended.unwrap());
    }
}

#[test]
fn an_error_is_one_wherever_it_stands() {
    for number in [Errno::PERM, Errno::NODEV, Errno::OPNOTSUPP] {
        let code = -number.raw_os_error();
        assert_eq!(refused(&error(code)), Some(number));
        assert_eq!(refused(&[message(20, 2, &[1]), error(code)].concat()), Some(number));
        assert_eq!(refused(&done(&code.to_ne_bytes())), Some(number));
    }
    // What the kernel never writes is no success.
    for code in [1, 5000, -5000, i32::MAX, i32::MIN] {
        assert_eq!(refused(&error(code)), Some(Errno::PROTO), "{code}");
    }
}

#[test]
fn a_message_that_breaks_off_is_an_error() {
    let whole = [message(20, 2, &[7; 8]), error(0)].concat();
    assert!(taken(&whole).1.unwrap());
    for length in (0..whole.len()).filter(|&length| length != 24) {
        assert!(matches!(taken(&whole[..length]).1, Err(NetlinkError::Incomplete)), "{length}");
    }
    // An acknowledgement without its number, and lengths that are shorter than the header or longer than the datagram.
    assert!(matches!(taken(&message(uapi::NLMSG_ERROR, 0, &[0; 2])).1, Err(NetlinkError::Incomplete)));
    for length in [0_u32, 15, 25, u32::MAX] {
        let mut wrong = message(20, 2, &[7; 8]);
        wrong[..4].copy_from_slice(&length.to_ne_bytes());
        assert!(matches!(taken(&wrong).1, Err(NetlinkError::Incomplete)), "{length}");
    }
}

#[test]
fn a_list_that_changed_is_not_taken_for_complete() {
    let changed = uapi::NLM_F_DUMP_INTR;
    let end = |flags| message(uapi::NLMSG_DONE, flags, &[0; 4]);
    for datagram in [[message(20, 2, &[1]), end(2 | changed)], [message(20, 2 | changed, &[1]), end(2)]] {
        assert!(matches!(taken(&datagram.concat()).1, Err(NetlinkError::Interrupted)));
    }
}

#[test]
fn attributes_are_found_by_their_kind() {
    let inner = [attribute(1, &[1]), attribute(2, b"two and a half"), nested(3, &attribute(1, &[9; 5]))].concat();
    let outer = [attribute(7, &[]), nested(8, &inner), attribute(8, &[0])].concat();
    let found = find(&outer, 8).unwrap();
    assert_eq!(find(&outer, 7), Some(&[][..]));
    assert_eq!(find(&outer, 9), None);
    assert_eq!(find(found, 1), Some(&[1][..]));
    assert_eq!(find(found, 2), Some(&b"two and a half"[..]));
    assert_eq!(find(found, 3).and_then(|found| find(found, 1)), Some(&[9; 5][..]));
    // Without padding behind the last one, at an odd address.
    let odd = [&[0][..], &attribute(4, &[5; 6])[..10]].concat();
    assert_eq!(find(&odd[1..], 4), Some(&[5; 6][..]));
}

#[test]
fn attributes_that_break_off_are_none() {
    let attributes = [attribute(1, &[1; 4]), attribute(2, &[2; 4])].concat();
    for length in 0..attributes.len() {
        assert_eq!(find(&attributes[..length], 2), None, "{length}");
    }
    for length in [0_u16, 3, 9, u16::MAX] {
        let wrong = [&length.to_ne_bytes()[..], &attribute(1, &[1; 4])[2..]].concat();
        assert_eq!(find(&wrong, 1), None, "{length}");
        assert_eq!(find(&wrong, 2), None, "{length}");
    }
}

#[test]
fn a_request_is_encoded_as_the_kernel_reads_it() {
    let request = Request::dump(18, &[1; 6]).with(&attribute(3, b"eth0\0")).with(&attribute(4, &[2]));
    let bytes = request.encoded().unwrap();
    assert_eq!(bytes.len(), 16 + 8 + 12 + 8);
    let (message, rest) = Message::first(&bytes).unwrap();
    assert!(rest.is_empty());
    assert_eq!((message.kind, message.flags), (18, uapi::NLM_F_REQUEST | uapi::NLM_F_DUMP));
    assert_eq!(find(message.attributes_behind(6), 4), Some(&[2][..]));
    assert_eq!(Message::first(&Request::one(18, &[]).encoded().unwrap()).unwrap().0.flags, 5);
}

#[test]
fn the_running_kernel_answers_and_refuses() {
    let interfaces = Request::dump(libc::RTM_GETLINK, &[0; 16]);
    let name = |message: &Message<'_>| find(message.attributes_behind(16), 3).map(<[u8]>::to_vec);
    assert!(interfaces.send(ROUTE, name).unwrap().contains(&b"lo\0".to_vec()));
    // There is no such operation, and no such interface.
    let unknown = Request::dump(libc::RTM_GETLINK, &[0; 16]).send(SOCK_DIAG, name);
    assert!(matches!(unknown, Err(NetlinkError::Refused(_))), "{unknown:?}");
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
    let gone = Request::one(libc::RTM_GETLINK, &body).send(ROUTE, name);
    assert!(matches!(gone, Err(NetlinkError::Refused(Errno::NODEV))), "{gone:?}");
}

/// Bytes that look like messages or attributes, more or less.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        (any::<u16>(), any::<u16>(), vec(any::<u8>(), 0..40))
            .prop_map(|(kind, flags, body)| message(kind, flags, &body)),
        (0_u16..4, vec(any::<u8>(), 0..12)).prop_map(|(kind, body)| message(kind, 0, &body)),
        (any::<u16>(), vec(any::<u8>(), 0..24)).prop_map(|(kind, content)| attribute(kind, &content)),
        vec(any::<u8>(), 0..24),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_read_forever(bytes in bytes(), cut in any::<u8>(), kind in 0_u16..6) {
        let bytes = &bytes[..bytes.len() - usize::from(cut) % (bytes.len() + 1)];
        let (found, _) = taken(bytes);
        prop_assert!(found.iter().map(|(_, body)| 16 + body.len()).sum::<usize>() <= bytes.len());
        prop_assert!(find(bytes, kind).is_none_or(|content| content.len() + 4 <= bytes.len()));
    }

    #[test]
    fn what_is_written_is_read(bodies in vec((16_u16.., vec(any::<u8>(), 0..60)), 1..8)) {
        let datagram: Vec<u8> = bodies.iter().flat_map(|(kind, body)| message(*kind, 2, body)).collect();
        let (found, ended) = taken(&datagram);
        prop_assert_eq!(&found, &bodies);
        prop_assert!(!ended.unwrap());
        let attributes: Vec<u8> = (1..).zip(&bodies).flat_map(|(kind, (_, body))| attribute(kind, body)).collect();
        for (kind, (_, body)) in (1..).zip(&bodies) {
            prop_assert_eq!(find(&attributes, kind), Some(&body[..]));
        }
    }
}
