//! Durations as people write them.

use std::time::Duration;

/// Units and their seconds.
const UNITS: [(&str, f64); 6] = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads `250ms`, `1.5s`, `2m`; a plain number is seconds.
///
/// # Errors
///
/// If it is no such duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = if unit.is_empty() { Some(1.0) } else { UNITS.iter().find(|(it, _)| *it == unit).map(|it| it.1) };
    let seconds = factor.and_then(|factor| Some(number.parse::<f64>().ok()? * factor));
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "write a number and a unit (ns, us, ms, s, m, h), for example 250ms or 1.5s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_to_the_nanosecond() {
        for (text, nanoseconds) in [
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("30", 30_000_000_000),
            ("1h", 3_600_000_000_000),
            ("0.1ms", 100_000),
            ("7ns", 7),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
        for wrong in ["", "s", "-1s", "1 s", "1d", "1.2.3s", "1e3", "inf", "NaN", "99999999999999999999999s", "٣s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
