//! Compares the duration parser with a second, slower one that computes in integers.

#![no_main]

use libfuzzer_sys::fuzz_target;

const GREATEST: u128 = i64::MAX as u128;

/// The duration in nanoseconds, without its sign. Each term is rounded down. `None` if the grammar refuses the text.
fn read(text: &str) -> Option<u128> {
    let is_bare = |c: char| c.is_ascii_digit() || c == '.';
    if text.chars().all(is_bare) {
        return term(text, 1_000_000_000);
    }
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    match rest {
        "" => return None,
        // With a sign, only 0 needs no unit.
        "0" => return Some(0),
        _ => {}
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let number = rest.find(|c| !is_bare(c))?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(is_bare).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.saturating_add(term(digits, unit)?);
        rest = after;
    }
    Some(total)
}

fn term(digits: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    // More digits make no difference: the number is already beyond the greatest duration, or below a nanosecond.
    let whole = whole.trim_start_matches('0');
    let whole: u128 = if whole.len() > 25 { u128::MAX } else { whole.parse().unwrap_or(0) };
    let fraction = &fraction[..fraction.len().min(20)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = fraction.parse().unwrap_or(0);
    Some(whole.saturating_mul(unit).saturating_add(fraction * unit / scale))
}

fuzz_target!(|text: &str| {
    let expected = read(text);
    let got = parentwatch::parse_duration_or_zero(text).map(|duration| duration.as_nanos());
    let without_zero = parentwatch::parse_duration(text).map(|duration| duration.as_nanos());
    assert_eq!(without_zero, got.filter(|got| *got > 0), "{text:?}");
    let greatest = if text.starts_with('-') { 0 } else { GREATEST };
    // Go, and so our parser, computes the fraction of each term in floating point. Each term may be off by a
    // nanosecond, and by more where 53 bits are too few for the digits.
    let terms = text.matches(|c: char| c.is_ascii_alphabetic() || c == '.').count() as u128 + 1;
    match (expected, got) {
        (None, None) => {}
        (Some(expected), Some(got)) => {
            assert!(got <= greatest, "{text:?}: {got}");
            assert!(expected.abs_diff(got) <= 2 * terms, "{text:?}: {got}, expected {expected}");
        }
        (Some(expected), None) => {
            assert!(expected.saturating_add(2 * terms) > greatest, "{text:?}: expected {expected}");
        }
        (None, Some(got)) => panic!("{text:?}: {got}, expected nothing"),
    }
});
