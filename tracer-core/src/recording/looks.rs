//! What a file is that is no recording.

/// Names the kind of file that begins with `head`.
pub fn looks_like(head: &[u8]) -> String {
    const KNOWN: [(&[u8], &str); 10] = [
        (b"{\"kind\":", "JSON lines, perhaps the output of tracer --json"),
        (b"\x1f\x8b", "a gzip file; decompress it first"),
        (b"\x28\xb5\x2f\xfd", "a zstd file; decompress it first"),
        (b"\xfd7zXZ", "an xz file; decompress it first"),
        (b"PK\x03\x04", "a zip file; unpack it first"),
        (b"\x7fELF", "a program (ELF)"),
        (b"\xd4\xc3\xb2\xa1", "a packet capture (pcap)"),
        (b"\x4d\x3c\xb2\xa1", "a packet capture (pcap)"),
        (b"\x0a\x0d\x0d\x0a", "a packet capture (pcapng)"),
        (b"{", "JSON"),
    ];
    if head.is_empty() {
        return "an empty file".to_owned();
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*name).to_owned();
    }
    if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return "a text file".to_owned();
    }
    let first: Vec<_> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("binary data that begins with {}", first.join(" "))
}

#[cfg(test)]
mod tests {
    use super::looks_like;

    #[test]
    fn says_what_it_is() {
        assert_eq!(looks_like(b""), "an empty file");
        assert_eq!(looks_like(b"{\"kind\":\"request\""), "JSON lines, perhaps the output of tracer --json");
        assert_eq!(looks_like(b"10.0.0.1 - - [10/"), "a text file");
        assert_eq!(looks_like(&[0, 1, 0xff]), "binary data that begins with 00 01 ff");
    }
}
