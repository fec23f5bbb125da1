// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Strict parsers for writes to `/proc/sys/solana/*`.
//!
//! One value, ASCII digits, at most one newline at the end. Signs, spaces, other bases, trailing text and more than 32
//! bytes are refused: a sysctl must not guess.

use super::Percent;

/// The longest write any file accepts, in bytes, newline included. A `u64` needs 21.
const MAX_WRITE_LEN: usize = 32;

/// The bytes are not a valid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// Parses a decimal number.
///
/// # Errors
///
/// [`Invalid`] for anything but digits with one optional newline, and for a value that does not fit a `u64`.
pub fn parse_u64(input: &[u8]) -> Result<u64, Invalid> {
    digits(line(input)?)
}

/// Parses `0` or `1`.
///
/// # Errors
///
/// [`Invalid`] for everything else, `01` included.
pub fn parse_flag(input: &[u8]) -> Result<bool, Invalid> {
    match line(input)? {
        b"0" => Ok(false),
        b"1" => Ok(true),
        _ => Err(Invalid),
    }
}

/// Parses a share from 0 to 100 with up to two decimals: `15`, `12.5`, `12.25`.
///
/// # Errors
///
/// [`Invalid`] for another form or more than 100.
pub fn parse_percent(input: &[u8]) -> Result<Percent, Invalid> {
    let line = line(input)?;
    let dot = line.iter().position(|&byte| byte == b'.').unwrap_or(line.len());
    let (whole, rest) = line.split_at(dot);
    let decimals = match rest {
        [] => 0,
        [b'.', tenths] => digits(&[*tenths, b'0'])?,
        [b'.', tenths, hundredths] => digits(&[*tenths, *hundredths])?,
        _ => return Err(Invalid),
    };
    let hundredths = digits(whole)?.checked_mul(100).and_then(|h| h.checked_add(decimals)).ok_or(Invalid)?;
    if hundredths > 10_000 {
        return Err(Invalid);
    }
    u32::try_from(hundredths).map(Percent::from_hundredths).map_err(|_| Invalid)
}

/// Parses a share as [`parse_percent`] does, or the word `unknown` as `None`.
///
/// # Errors
///
/// [`Invalid`] for everything else.
pub fn parse_rate(input: &[u8]) -> Result<Option<Percent>, Invalid> {
    match line(input)? {
        b"unknown" => Ok(None),
        _ => parse_percent(input).map(Some),
    }
}

/// Returns the input without its newline; refuses more than [`MAX_WRITE_LEN`] bytes.
fn line(input: &[u8]) -> Result<&[u8], Invalid> {
    if input.len() > MAX_WRITE_LEN {
        return Err(Invalid);
    }
    Ok(input.strip_suffix(b"\n").unwrap_or(input))
}

fn digits(text: &[u8]) -> Result<u64, Invalid> {
    if text.is_empty() {
        return Err(Invalid);
    }
    text.iter().try_fold(0_u64, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte & 0x0f,
            _ => return Err(Invalid),
        };
        number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit))).ok_or(Invalid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BAD: &[&[u8]] = &[
        b"",
        b"\n",
        b" ",
        b"-1",
        b"+1",
        b" 1",
        b"1 ",
        b"1\n\n",
        b"1\0",
        b"0x10",
        b"ten",
        b"1 2",
        b"1,5",
        b"1.",
        b".5",
        b"1e3",
        b"18446744073709551616",
        b"99999999999999999999999999",
        b"000000000000000000000000000000000001",
        b"\xff",
        b"1\r\n",
    ];

    #[test]
    fn malformed_writes_are_refused_by_every_parser() {
        for bad in BAD {
            assert_eq!(parse_u64(bad), Err(Invalid), "{bad:?}");
            assert_eq!(parse_flag(bad), Err(Invalid), "{bad:?}");
            assert_eq!(parse_percent(bad), Err(Invalid), "{bad:?}");
            assert_eq!(parse_rate(bad), Err(Invalid), "{bad:?}");
        }
    }

    #[test]
    fn numbers_up_to_the_maximum_are_accepted() {
        assert_eq!(parse_u64(b"0"), Ok(0));
        assert_eq!(parse_u64(b"50000\n"), Ok(50_000));
        assert_eq!(parse_u64(b"18446744073709551615\n"), Ok(u64::MAX));
        assert_eq!(parse_u64(b"1.5"), Err(Invalid));
    }

    #[test]
    fn flags_are_exactly_zero_or_one() {
        assert_eq!((parse_flag(b"0\n"), parse_flag(b"1")), (Ok(false), Ok(true)));
        assert!([&b"2"[..], b"01", b"true", b"on"].iter().all(|bad| parse_flag(bad).is_err()));
    }

    #[test]
    fn percents_have_up_to_two_decimals_and_are_at_most_100() {
        let hundredths = |text: &[u8]| parse_percent(text).map(Percent::hundredths);
        assert_eq!(hundredths(b"15\n"), Ok(1_500));
        assert_eq!(hundredths(b"12.5"), Ok(1_250));
        assert_eq!(hundredths(b"12.05\n"), Ok(1_205));
        assert_eq!(hundredths(b"100.00"), Ok(10_000));
        for bad in [&b"100.01"[..], b"101", b"1.234", b"1..2", b"1.2.3", b"unknown", b"184467440737095517"] {
            assert_eq!(hundredths(bad), Err(Invalid), "{bad:?}");
        }
    }

    #[test]
    fn a_rate_may_be_unknown() {
        assert_eq!(parse_rate(b"unknown\n"), Ok(None));
        assert_eq!(parse_rate(b"97.25"), Ok(Some(Percent::from_hundredths(9_725))));
        assert!(parse_rate(b"unknown ").is_err() && parse_rate(b"Unknown").is_err());
    }

    proptest! {
        #[test]
        fn every_number_round_trips(number: u64) {
            prop_assert_eq!(parse_u64(number.to_string().as_bytes()), Ok(number));
            prop_assert_eq!(parse_u64(format!("{number}\n").as_bytes()), Ok(number));
        }

        #[test]
        fn every_percent_round_trips_in_both_forms(hundredths in 0_u32..=10_000) {
            let percent = Percent::from_hundredths(hundredths);
            prop_assert_eq!(parse_percent(percent.to_string().as_bytes()), Ok(percent));
            prop_assert_eq!(parse_percent(format!("{percent:#}").as_bytes()), Ok(percent));
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let digits_only = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let numeric = !digits_only.is_empty() && digits_only.iter().all(u8::is_ascii_digit);
            prop_assert!(numeric || parse_u64(&bytes).is_err());
            let _ = (parse_flag(&bytes), parse_percent(&bytes), parse_rate(&bytes));
        }
    }
}
