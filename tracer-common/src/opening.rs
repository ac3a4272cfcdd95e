//! What the first three bytes of a turn say about its protocol.
//!
//! These three bytes are the only payload that is ever read, and only their class leaves the program that reads them. They
//! are read from the buffer of the process that has just read them itself, where the kernel shows it.

/// The class of the first three bytes of a turn.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Opening {
    /// Not known: nobody has read the turn, or not through a plain system call.
    #[default]
    Unknown = 0,
    /// A TLS record of a handshake.
    TlsHandshake = 1,
    /// A change of ciphers: the end of the client's part of a TLS handshake. The first data often follows at once.
    TlsCiphers = 2,
    /// A TLS alert in the clear. TLS 1.3 encrypts alerts, so that they look like data.
    TlsAlert = 3,
    /// A TLS record with encrypted data.
    TlsData = 4,
    /// The beginning of an HTTP method.
    Http = 5,
    /// Other printable text, such as a command of Redis or a body.
    Text = 6,
    /// A WebSocket frame of a client, or the preface of HTTP/2 in the clear: frames follow, not requests in turn.
    WebSocket = 7,
    /// Anything else.
    Binary = 8,
    /// `GET` or `HEAD`: an HTTP method whose requests have no body. Its [`class`](Opening::class) is [`Opening::Http`]. The
    /// numbers between are taken: see [`crate::connection::BEHIND`].
    Bodiless = 12,
}

impl Opening {
    /// All classes, in the order of their numbers, without [`Opening::Bodiless`].
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::TlsHandshake,
        Self::TlsCiphers,
        Self::TlsAlert,
        Self::TlsData,
        Self::Http,
        Self::Text,
        Self::WebSocket,
        Self::Binary,
    ];

    /// The class of a turn that begins with `bytes`.
    #[inline(always)]
    #[must_use]
    pub const fn of(bytes: [u8; 3]) -> Self {
        let [kind, major, minor] = bytes;
        // RFC 8446, section 5.1: content type, then the version 3.1 to 3.4 (3.0 for SSL).
        if major == 3 && minor <= 4 && kind >= 20 && kind <= 23 {
            return match kind {
                20 => Self::TlsCiphers,
                21 => Self::TlsAlert,
                22 => Self::TlsHandshake,
                _ => Self::TlsData,
            };
        }
        if is_bodiless(bytes) {
            Self::Bodiless
        } else if is_method(bytes) {
            Self::Http
        } else if is_frame(kind, major) || is_preface(bytes) {
            Self::WebSocket
        } else if is_text(kind) && is_text(major) && is_text(minor) {
            Self::Text
        } else {
            Self::Binary
        }
    }

    /// The class with that number.
    #[must_use]
    pub const fn numbered(number: u32) -> Self {
        match number {
            1 => Self::TlsHandshake,
            2 => Self::TlsCiphers,
            3 => Self::TlsAlert,
            4 => Self::TlsData,
            5 => Self::Http,
            6 => Self::Text,
            7 => Self::WebSocket,
            8 => Self::Binary,
            12 => Self::Bodiless,
            _ => Self::Unknown,
        }
    }

    /// What tells protocols apart: [`Opening::Http`] for each HTTP method.
    #[inline(always)]
    #[must_use]
    pub const fn class(self) -> Self {
        match self {
            Self::Bodiless => Self::Http,
            opening => opening,
        }
    }
}

/// Three bytes as one number.
const fn word(bytes: [u8; 3]) -> u32 {
    (bytes[0] as u32) << 16 | (bytes[1] as u32) << 8 | bytes[2] as u32
}

#[inline(always)]
const fn is_bodiless(bytes: [u8; 3]) -> bool {
    word(bytes) == word(*b"GET") || word(bytes) == word(*b"HEA")
}

/// The other methods of RFC 9110, PATCH (RFC 5789), QUERY, and those of `WebDAV` and caches that are in use.
const METHODS: [[u8; 3]; 20] = [
    *b"POS", *b"PUT", *b"DEL", *b"CON", *b"OPT", *b"TRA", *b"PAT", *b"QUE", *b"PRO", *b"MKC", *b"COP", *b"MOV",
    *b"LOC", *b"UNL", *b"REP", *b"SEA", *b"MKA", *b"PUR", *b"BAN", *b"SOU",
];

#[inline(always)]
const fn is_method(bytes: [u8; 3]) -> bool {
    let word = word(bytes);
    let mut index = 0;
    let mut found = false;
    while index < METHODS.len() {
        found |= word == self::word(METHODS[index]);
        index += 1;
    }
    found
}

/// HTTP/2 in the clear begins with `PRI * HTTP/2.0` (RFC 9113, section 3.4).
#[inline(always)]
const fn is_preface(bytes: [u8; 3]) -> bool {
    word(bytes) == word(*b"PRI")
}

/// RFC 6455, section 5.2: the last frame of a message or one of several (first bit), compressed or not (second bit), one
/// of six operations; masked, as every frame of a client is.
#[inline(always)]
const fn is_frame(head: u8, length: u8) -> bool {
    let operation = head & 0x3f;
    let is_operation = operation <= 2 || (operation >= 8 && operation <= 10);
    is_operation && length & 0x80 != 0
}

#[inline(always)]
const fn is_text(byte: u8) -> bool {
    (byte >= 0x20 && byte < 0x7f) || byte == b'\t' || byte == b'\n' || byte == b'\r'
}

#[cfg(test)]
mod tests {
    use super::Opening::{self, Binary, Bodiless, Http, Text, TlsAlert, TlsCiphers, TlsData, TlsHandshake, WebSocket};

    #[test]
    fn protocols_are_told_apart_by_their_first_bytes() {
        let cases: [(&[u8; 3], Opening); 20] = [
            (b"GET", Bodiless),
            (b"HEA", Bodiless),
            (b"POS", Http),
            (b"QUE", Http),
            (b"*1\r", Text),
            (b"PIN", Text),
            (b"{\"a", Text),
            (b"get", Text),
            // The preface of HTTP/2.
            (b"PRI", WebSocket),
            // Text, close.
            (&[0x81, 0x85, 0x12], WebSocket),
            (&[0x88, 0x82, 0], WebSocket),
            // A server's frames are not masked.
            (&[0x81, 0x05, 0xff], Binary),
            // HTTP/2: settings.
            (&[0, 0, 18], Binary),
            (&[22, 3, 1], TlsHandshake),
            (&[20, 3, 3], TlsCiphers),
            (&[21, 3, 3], TlsAlert),
            (&[23, 3, 3], TlsData),
            // Neither a type nor a version of TLS.
            (&[24, 3, 3], Binary),
            (&[22, 4, 1], Binary),
            (&[23, 3, 9], Binary),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Opening::of(*bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn numbers_are_those_of_the_list() {
        for (number, opening) in (0..).zip(Opening::ALL) {
            assert_eq!((opening as u32, Opening::numbered(number), opening.class()), (number, opening, opening));
        }
        assert_eq!(Opening::numbered(9), Opening::Unknown);
        assert_eq!((Opening::numbered(Bodiless as u32), Bodiless.class()), (Bodiless, Http));
    }
}
