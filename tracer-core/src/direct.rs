//! Text that is written directly, without the machinery of `fmt`: what is shown of every request is.

use std::fmt::{self, Write};

/// What can be written directly. Its `Display`, if it has one, is the same.
pub trait Direct {
    /// Writes it to `out`.
    ///
    /// # Errors
    ///
    /// If `out` cannot be written to: a [`Line`] always can.
    fn write_to(&self, out: &mut impl Write) -> fmt::Result;
}

impl Direct for u64 {
    fn write_to(&self, out: &mut impl Write) -> fmt::Result {
        out.write_str(itoa::Buffer::new().format(*self))
    }
}

/// A number as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Hexadecimal(pub u64);

impl Direct for Hexadecimal {
    fn write_to(&self, out: &mut impl Write) -> fmt::Result {
        let mut digits = [0; 16];
        for (digit, byte) in digits.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            digit.copy_from_slice(&[byte >> 4, byte & 0xf].map(|half| b"0123456789abcdef"[usize::from(half)]));
        }
        ascii(out, &digits)
    }
}

/// Fills `place` with the last digits of `number`, zeros in front.
pub fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Writes `text`, which is ASCII.
pub fn ascii(out: &mut impl Write, text: &[u8]) -> fmt::Result {
    out.write_str(str::from_utf8(text).unwrap_or_default())
}

/// A line of output, put together from many short pieces; its memory is used again for the next one.
///
/// It copies them itself: the `memcpy` of musl is one instruction that takes longer to begin than they take.
#[derive(Clone, Debug, Default)]
pub struct Line(Vec<u8>);

impl Line {
    /// An empty line.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Appends `text`.
    pub fn push_str(&mut self, text: &str) {
        const SHORT: usize = 64;
        if text.len() > SHORT {
            self.0.extend_from_slice(text.as_bytes());
            return;
        }
        let (eights, rest) = text.as_bytes().as_chunks::<8>();
        let (fours, rest) = rest.as_chunks::<4>();
        let (twos, rest) = rest.as_chunks::<2>();
        self.copy(eights);
        self.copy(fours);
        self.copy(twos);
        self.copy(rest.as_chunks::<1>().0);
    }

    /// Appends pieces of a length that the compiler knows.
    fn copy<const N: usize>(&mut self, pieces: &[[u8; N]]) {
        for piece in pieces {
            self.0.extend_from_slice(piece);
        }
    }

    /// Appends what can be written directly.
    pub fn push(&mut self, text: &impl Direct) {
        // This takes everything.
        let _ = text.write_to(self);
    }

    /// Cuts it off after `length` bytes.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only text is pushed, and cut off between characters.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(it: &impl Direct) -> String {
        let mut line = Line::new();
        line.push(it);
        line.as_str().to_owned()
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_fmt_writes_them(number: u64) {
            prop_assert_eq!(text(&number), number.to_string());
            prop_assert_eq!(text(&Hexadecimal(number)), format!("{number:016x}"));
            let mut place = [0; 5];
            digits(&mut place, number);
            prop_assert_eq!(str::from_utf8(&place).unwrap(), format!("{:05}", number % 100_000));
        }

        #[test]
        fn a_line_is_its_pieces(pieces in prop::collection::vec(".{0,90}", 0..9)) {
            let mut line = Line::new();
            for piece in &pieces { line.push_str(piece); }
            prop_assert_eq!(line.as_str(), pieces.concat());
            line.truncate(pieces.first().map_or(0, String::len));
            prop_assert_eq!(line.as_bytes(), pieces.first().map_or("", |piece| piece).as_bytes());
            line.clear();
            prop_assert_eq!(line.as_str(), "");
        }
    }
}
