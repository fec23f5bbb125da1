//! Ages and sizes as users write and read them.

use std::time::Duration;

/// Seconds of each unit of time.
const TIMES: [(&str, u64); 4] = [("m", 60), ("h", 3600), ("d", 86_400), ("w", 7 * 86_400)];

/// Bytes of each unit of size.
const SIZES: [(&str, u64); 3] = [("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];

/// Parses an age such as `30d` or `12h`.
///
/// # Errors
/// The reason, for anything else.
pub fn parse_age(text: &str) -> Result<Duration, String> {
    let seconds = parse(text, &TIMES).ok_or_else(|| format!("`{text}` is not an age such as 30d, 12h or 2w"))?;
    Ok(Duration::from_secs(seconds))
}

/// Parses a size such as `20G`; returns bytes.
///
/// # Errors
/// The reason, for anything else.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, &SIZES).ok_or_else(|| format!("`{text}` is not a size such as 500M, 20G or 1T"))
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*factor)
}

/// Formats bytes with the largest unit of [`parse_size`] that leaves a whole, and one decimal.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let (unit, factor) = SIZES.into_iter().rev().find(|(_, factor)| bytes >= *factor).unwrap_or(SIZES[0]);
    let tenths = u128::from(bytes) * 10 / u128::from(factor);
    format!("{}.{} {unit}iB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_a_unit() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(parse_age("2w"), parse_age("14d"));
        assert_eq!(parse_size("20G"), Ok(20 << 30));
        assert_eq!(parse_size("0M"), Ok(0));
        for bad in ["", "d", "30", "30D", "+3d", "-1d", "1.5d", "3 d", "99999999999999999999d", "9999999999999999w"] {
            assert!(parse_age(bad).unwrap_err().contains("is not an age"), "{bad}");
        }
        for bad in ["", "G", "20", "20g", "20GB", "-1G", "99999999999T"] {
            assert!(parse_size(bad).unwrap_err().contains("is not a size"), "{bad}");
        }
    }

    #[test]
    fn sizes_are_rounded_down() {
        let shown = [0, 1 << 20, (1 << 30) - 1, 3 << 29, 20 << 30].map(show_size);
        assert_eq!(shown, ["0.0 MiB", "1.0 MiB", "1023.9 MiB", "1.5 GiB", "20.0 GiB"]);
    }
}
