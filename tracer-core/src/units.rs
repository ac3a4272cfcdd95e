//! Quantities for people: three significant digits at most, ASCII only.

use crate::direct::{Direct, ascii, digits};
use std::fmt;

/// A duration in nanoseconds: `812ns`, `41.0us`, `1.23ms`, `1.40s`.
#[derive(Clone, Copy, Debug)]
pub struct Nanoseconds(pub u64);

impl Direct for Nanoseconds {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        scaled(out, self.0, &["ns", "us", "ms", "s"])
    }
}

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// A number of bytes, in powers of ten: `512B`, `20.5kB`, `1.20GB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl Direct for Bytes {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        scaled(out, self.0, &["B", "kB", "MB", "GB", "TB"])
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// A count with its thousands apart: `1 204`.
#[derive(Clone, Copy, Debug)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (thousands, rest) = (self.0 / 1000, self.0 % 1000);
        if thousands == 0 { write!(f, "{rest}") } else { write!(f, "{} {rest:03}", Self(thousands)) }
    }
}

/// A count and its noun.
#[derive(Clone, Copy, Debug)]
pub struct Plural(pub u64, pub &'static str);

impl fmt::Display for Plural {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", Count(self.0), self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// `part` of `whole` in percent, rounded; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    // A `u128` is divided in software.
    if let Some(doubled) = part.checked_mul(200).and_then(|parts| parts.checked_add(whole))
        && let Some(parts) = whole.checked_mul(2)
    {
        return doubled.checked_div(parts).unwrap_or(0);
    }
    let (part, whole) = (u128::from(part), u128::from(whole));
    let percent = (part * 200 + whole).checked_div(2 * whole).unwrap_or(0);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// `value` in the greatest of `units`, each a thousand times the one before, with three significant digits.
fn scaled(out: &mut impl fmt::Write, value: u64, units: &[&str]) -> fmt::Result {
    let (mut unit, mut index) = (1, 0);
    // What rounds up to 1000 moves on to the next unit.
    while index + 1 < units.len() && value >= unit * 1000 - unit / 2 {
        unit *= 1000;
        index += 1;
    }
    // Likewise what rounds up to 10 or 100 has a decimal less.
    if index > 0 && value < unit * 10 - unit / 200 {
        let mut text = *b"0.00";
        let hundredths = (value + unit / 200) / (unit / 100);
        digits(&mut text[..1], hundredths / 100);
        digits(&mut text[2..], hundredths);
        ascii(out, &text)?;
    } else if index > 0 && value < unit * 100 - unit / 20 {
        let mut text = *b"00.0";
        let tenths = (value + unit / 20) / (unit / 10);
        digits(&mut text[..2], tenths / 10);
        digits(&mut text[3..], tenths);
        ascii(out, &text)?;
    } else {
        (round(value) / unit).write_to(out)?;
    }
    out.write_str(units[index])
}

/// Rounds to three significant digits.
fn round(value: u64) -> u64 {
    let step = 10u64.pow(value.checked_ilog10().unwrap_or(0).saturating_sub(2));
    value.saturating_add(step / 2) / step * step
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_text_is_the_value_rounded_to_three_digits(value: u64, shift in 0..64) {
            let value = value >> shift;
            let text = Nanoseconds(value).to_string();
            let at = text.find(|it: char| it.is_alphabetic()).unwrap();
            let (number, unit) = text.split_at(at);
            let unit = match unit { "ns" => 1.0, "us" => 1e3, "ms" => 1e6, _ => 1e9 };
            #[expect(clippy::cast_precision_loss, reason = "three digits of it are looked at")]
            let (shown, rounded) = (number.parse::<f64>().unwrap() * unit, round(value) as f64);
            prop_assert!((shown - rounded).abs() <= rounded * 1e-9, "{value}: {text}");
            let fits = if value < 1000 { number.len() <= 3 } else { number.len() == 4 || (number.len() == 3 && !number.contains('.')) };
            prop_assert!(fits || value >= 999_500_000_000, "{value}: {text}");
        }
    }

    #[test]
    fn durations_have_three_digits_and_the_unit_that_fits() {
        for (value, text) in [
            (0, "0ns"),
            (812, "812ns"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (41_000, "41.0us"),
            (99_949, "99.9us"),
            (99_950, "100us"),
            (999_499, "999us"),
            (999_500, "1.00ms"),
            (1_230_000, "1.23ms"),
            (9_996_000, "10.0ms"),
            (1_400_000_000, "1.40s"),
            (30_000_000_000, "30.0s"),
            (3_600_000_000_000, "3600s"),
        ] {
            assert_eq!(Nanoseconds(value).to_string(), text, "{value}");
        }
        assert!(!Nanoseconds(u64::MAX).to_string().is_empty());
    }

    #[test]
    fn other_quantities() {
        assert_eq!(Bytes(20_480).to_string(), "20.5kB");
        assert_eq!(Bytes(512).to_string(), "512B");
        assert_eq!(Bytes(64 << 20).to_string(), "67.1MB");
        assert_eq!(Count(1_204).to_string(), "1 204");
        assert_eq!(Count(1_000_007).to_string(), "1 000 007");
        assert_eq!(Plural(1, "request").to_string(), "1 request");
        assert_eq!(Plural(0, "request").to_string(), "0 requests");
        assert_eq!((percent(1, 3), percent(2, 3), percent(1, 0), percent(5, 5)), (33, 67, 0, 100));
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }
}
