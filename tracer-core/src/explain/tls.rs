//! What short data may be that a connection with TLS carries, if it is no request: its length is all that can be seen.

/// Close alerts, in bytes: of TLS 1.3, with the ciphers of TLS 1.2 that are in use (AES-GCM, ChaCha20-Poly1305), and in the clear.
const ALERTS: [u32; 4] = [24, 31, 23, 7];
/// What TLS 1.3 and these ciphers add to a record's content, in bytes.
const ADDED: [u32; 3] = [22, 29, 21];
/// Frames of HTTP/2 that need no answer, in bytes: SETTINGS that acknowledges, `WINDOW_UPDATE` and `RST_STREAM`, PING and GOAWAY
/// (RFC 9113, section 6).
const FRAMES: [u32; 3] = [9, 13, 17];

/// Whether `bytes` is the length of a close alert.
pub fn is_alert(bytes: u32) -> bool {
    ALERTS.contains(&bytes)
}

/// Whether `bytes` is the length of a record with one frame of HTTP/2 that needs no answer.
pub fn is_frame(bytes: u32) -> bool {
    ADDED.iter().any(|added| FRAMES.iter().any(|frame| frame + added == bytes))
}

/// Whether `bytes` may be how a peer takes its leave: an alert, a frame, or a frame and the alert behind it.
pub fn is_farewell(bytes: u32) -> bool {
    is_alert(bytes) || is_frame(bytes) || ALERTS.iter().any(|alert| bytes.checked_sub(*alert).is_some_and(is_frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_tls_and_http_2() {
        let all = |is: fn(u32) -> bool| (0..200).filter(|&bytes| is(bytes)).collect::<Vec<_>>();
        assert_eq!(all(is_alert), [7, 23, 24, 31]);
        assert_eq!(all(is_frame), [30, 31, 34, 35, 38, 39, 42, 46]);
        assert!(is_farewell(24) && is_farewell(39) && is_farewell(39 + 24) && is_farewell(46 + 31));
    }

    /// `PING` of Redis in both of its forms, and the shortest request of HTTP/1.1. With TLS 1.2, the shortest `PING` is as long as a
    /// `WINDOW_UPDATE` with TLS 1.3.
    #[test]
    fn short_requests_have_other_lengths() {
        for (content, added) in [(6, 22), (14, 22), (27, 22), (14, 29), (27, 29)] {
            assert!(!is_alert(content + added) && !is_frame(content + added), "{content} + {added}");
        }
        assert!(is_frame(6 + 29));
    }
}
