//! Sizes as the kernel reads them on its command line (kernel `lib/cmdline.c`, `memparse`, and `lib/vsprintf.c`, `simple_strtoull`).

/// Returns the bytes of `text`: a decimal, octal (`0…`) or hexadecimal (`0x…`) number and at most one of the suffixes K, M, G, T, P and E in
/// either case. What follows is ignored; without a number it is 0.
///
/// ```
/// use common::memparse::memparse;
/// assert_eq!([memparse("2M"), memparse("2048k"), memparse("0x200000"), memparse("2097152")], [2 << 20; 4]);
/// ```
#[must_use]
pub fn memparse(text: &str) -> u64 {
    let (radix, digits) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, hex),
        _ if text.starts_with('0') => (8, text),
        _ => (10, text),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let shift = match digits[end..].chars().next().map(|c| c.to_ascii_uppercase()) {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some('P') => 50,
        Some('E') => 60,
        _ => 0,
    };
    // As the kernel's, the number wraps.
    let digit = |sum: u64, c: char| sum.wrapping_mul(radix.into()).wrapping_add(c.to_digit(radix).unwrap_or(0).into());
    digits[..end].chars().fold(0, digit) << shift
}

#[cfg(test)]
mod tests {
    use super::memparse;

    #[test]
    fn one_size_has_many_spellings() {
        for text in ["2M", "2m", "2048K", "2048k", "2097152", "0x200000", "0X2m", "02M", "010000000", "2Mx", "2M,2G"] {
            assert_eq!(memparse(text), 2 << 20, "{text}");
        }
        assert_eq!(
            [memparse("1G"), memparse("1024M"), memparse("1g"), memparse("1E")],
            [1 << 30, 1 << 30, 1 << 30, 1 << 60]
        );
        for none in ["", "M", "x", "-1", "+2M", " 2M", "0x", "é"] {
            assert_eq!(memparse(none), 0, "{none}");
        }
        // An octal number ends at the 8.
        assert_eq!(memparse("08M"), 0);
        assert_eq!(memparse("18446744073709551617"), 1);
    }
}
