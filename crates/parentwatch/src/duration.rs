//! The duration grammar of `LOCALAI_BACKEND_PARENT_WATCH_INTERVAL`.
//!
//! It is Go's `time.ParseDuration`, ported step by step, because LocalAI's side of the contract is written in Go. It
//! also accepts a bare unsigned decimal number of seconds, as LocalAI's Python and C++ watchers did. `humantime` has
//! another grammar, and only formats durations here.

use std::time::Duration;

/// Reads a duration the way LocalAI does: Go's `time.ParseDuration` exactly (`500ms`, `1.5s`,
/// `1m30s`, `+2s`, `.5s`; units `ns us µs μs ms s m h`, case-sensitive), or a bare unsigned decimal
/// number of seconds (`3`, `0.5`).
///
/// `None` for everything else, and for a duration that is zero, negative, or longer than Go's `Duration` (2⁶³ − 1 ns).
/// White space is not skipped. Nothing is clamped.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(parentwatch::parse_duration("1m30s"), Some(Duration::from_secs(90)));
/// assert_eq!(parentwatch::parse_duration("0.5"), Some(Duration::from_millis(500)));
/// assert_eq!(parentwatch::parse_duration("500MS"), None);
/// ```
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_duration_or_zero(text).filter(|duration| !duration.is_zero())
}

/// [`parse_duration`], but zero is valid too: the grammar of `LOCALAI_BACKEND_PARENT_WATCH_GRACE`.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(parentwatch::parse_duration_or_zero("0"), Some(Duration::ZERO));
/// assert_eq!(parentwatch::parse_duration_or_zero("-1s"), None);
/// ```
pub fn parse_duration_or_zero(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let nanos = match bare_seconds(bytes) {
        true => term(bytes, Some(SECOND))?.0,
        false => go_duration(bytes)?,
    };
    // Go's Duration is an i64: a larger number is an overflow there.
    (nanos <= i64::MAX as u64).then(|| Duration::from_nanos(nanos))
}

const SECOND: u64 = 1_000_000_000;
/// Go accumulates in a u64 and lets it reach 2⁶³, so that the most negative value can be written.
const LIMIT: u64 = 1 << 63;

/// `3`, `0.5`, `5.`, `.25`: digits with at most one point among them, and at least one digit.
fn bare_seconds(bytes: &[u8]) -> bool {
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let points = bytes.iter().filter(|b| **b == b'.').count();
    digits > 0 && points <= 1 && digits + points == bytes.len()
}

/// An optional sign, then one or more terms, or `0` alone. A negative duration is not valid here.
fn go_duration(bytes: &[u8]) -> Option<u64> {
    let (is_negative, mut rest) = match bytes.split_first() {
        Some((sign @ (b'+' | b'-'), rest)) => (*sign == b'-', rest),
        _ => (false, bytes),
    };
    if rest == b"0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (nanos, after) = term(rest, None)?;
        total = total.checked_add(nanos).filter(|total| *total <= LIMIT)?;
        rest = after;
    }
    (total == 0 || !is_negative).then_some(total)
}

/// Reads one number with its unit. Returns the nanoseconds, and the rest of the text. `forced` is the unit of a number
/// without one.
fn term(bytes: &[u8], forced: Option<u64>) -> Option<(u64, &[u8])> {
    let (whole, after_whole) = leading_integer(bytes)?;
    let mut rest = after_whole;
    let mut digits = rest.len() != bytes.len();
    let (mut fraction, mut scale) = (0_u64, 1_f64);
    if let Some((b'.', after_point)) = rest.split_first() {
        let after = leading_fraction(after_point, &mut fraction, &mut scale);
        digits |= after.len() != after_point.len();
        rest = after;
    }
    if !digits {
        return None;
    }
    let unit_length = rest.iter().take_while(|b| **b != b'.' && !b.is_ascii_digit()).count();
    let (name, rest) = rest.split_at_checked(unit_length)?;
    let unit = match forced {
        Some(unit) => unit,
        None => unit_in_nanos(name)?,
    };
    if whole > LIMIT / unit {
        return None;
    }
    let mut nanos = whole * unit;
    if fraction > 0 {
        // The same floating-point computation as in Go, so that the same text gives the same nanosecond.
        nanos = nanos.checked_add((fraction as f64 * (unit as f64 / scale)) as u64)?;
    }
    (nanos <= LIMIT).then_some((nanos, rest))
}

fn unit_in_nanos(name: &[u8]) -> Option<u64> {
    Some(match name {
        b"ns" => 1,
        // U+00B5 (micro sign) and U+03BC (Greek small letter mu)
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1_000,
        b"ms" => 1_000_000,
        b"s" => SECOND,
        b"m" => 60 * SECOND,
        b"h" => 3_600 * SECOND,
        _ => return None,
    })
}

/// Reads digits as a number; `None` if it exceeds 2⁶³. Without digits it is 0.
fn leading_integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut rest = bytes;
    while let Some((digit, after)) = rest.split_first()
        && digit.is_ascii_digit()
    {
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))
            .filter(|value| *value <= LIMIT)?;
        rest = after;
    }
    Some((value, rest))
}

/// Reads the digits after the point. Digits that no longer fit are skipped, as in Go.
fn leading_fraction<'a>(bytes: &'a [u8], value: &mut u64, scale: &mut f64) -> &'a [u8] {
    let mut rest = bytes;
    let mut full = false;
    while let Some((digit, after)) = rest.split_first()
        && digit.is_ascii_digit()
    {
        rest = after;
        if full {
            continue;
        }
        if *value > (LIMIT - 1) / 10 {
            full = true;
            continue;
        }
        let next = *value * 10 + u64::from(digit - b'0');
        if next > LIMIT {
            full = true;
            continue;
        }
        *value = next;
        *scale *= 10.0;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::parse_duration;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_second_sign_and_a_signed_bare_number_are_invalid() {
        for text in ["+-1s", "--1s", "+3", "-0", "+", "-", ".", "", "0", "-1s"] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_limits_are_those_of_gos_int64() {
        assert_eq!(
            parse_duration("9223372036854775807ns"),
            Some(Duration::from_nanos(i64::MAX as u64))
        );
        assert_eq!(parse_duration("9223372036854775808ns"), None);
        assert_eq!(parse_duration("9223372036.854775808s"), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_is_total(text in "\\PC*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn never_panics_on_what_looks_like_a_duration(text in "[-+]?([0-9]{0,20}(\\.[0-9]{0,25})?(ns|us|µs|ms|s|m|h)?){0,4}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn whole_numbers_of_a_unit_are_exact(number in 1_u64..9_223_372, unit in 0_usize..5) {
            let (name, nanos) =
                [("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000_u64)][unit];
            prop_assert_eq!(
                parse_duration(&format!("{number}{name}")),
                Some(Duration::from_nanos(number * nanos))
            );
        }

        #[test]
        fn terms_add_up(a in 0_u64..100, b in 0_u64..100, c in 1_u64..1000) {
            prop_assert_eq!(
                parse_duration(&format!("{a}h{b}m{c}ms")),
                Some(Duration::from_millis(a * 3_600_000 + b * 60_000 + c))
            );
        }

        #[test]
        fn a_bare_number_is_seconds(whole in 0_u64..1_000_000, milli in 0_u64..1000) {
            let with_unit = parse_duration(&format!("{whole}.{milli:03}s"));
            prop_assert_eq!(parse_duration(&format!("{whole}.{milli:03}")), with_unit);
        }
    }
}
