//! Sizes as users write them, and the huge pages that a kernel command line reserves.

use common::memparse::memparse;

/// Parses a size such as `8G`, `512M` or `1T`; returns MiB.
///
/// # Errors
/// The reason, for anything else, for 0, and for more than 64 TiB.
pub fn mebibytes(text: &str) -> Result<u32, String> {
    let bad = || format!("`{text}` is not a size such as 512M, 8G or 1T");
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let factor = match unit {
        "M" => 1,
        "G" => 1 << 10,
        "T" => 1 << 20,
        _ => return Err(bad()),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let mib = if plain { digits.parse().ok().and_then(|n: u32| n.checked_mul(factor)) } else { None };
    mib.filter(|mib| (1..=64 << 20).contains(mib)).ok_or_else(bad)
}

/// Returns the MiB of huge pages that `cmdline` reserves at boot: each `hugepages=` counts pages of the `hugepagesz=` before it, of 2 MiB
/// without one (Documentation/admin-guide/kernel-parameters.txt). Numbers that the kernel would not accept count as none.
#[must_use]
pub fn huge_pages_mib(cmdline: &str) -> u32 {
    let (mut page, mut sum) = (2, 0_u32);
    for word in cmdline.split_whitespace() {
        if let Some(size) = word.strip_prefix("hugepagesz=") {
            page = u32::try_from(memparse(size) >> 20).ok().filter(|mib| *mib > 0).unwrap_or(2);
        } else if let Some(count) = word.strip_prefix("hugepages=") {
            sum = sum.saturating_add(count.parse::<u32>().unwrap_or(0).saturating_mul(page));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(mebibytes("512M"), Ok(512));
        assert_eq!(mebibytes("8G"), Ok(8192));
        assert_eq!(mebibytes("1T"), Ok(1 << 20));
        for text in ["", "G", "8", "8g", "0G", "-1G", "+1G", "1.5G", "8GB", "65T", "99999999999999999999G", "8\u{e9}"] {
            assert!(mebibytes(text).unwrap_err().contains("is not a size such as"), "{text}");
        }
    }

    #[test]
    fn huge_pages_of_every_size_count() {
        assert_eq!(huge_pages_mib("a hugepagesz=2M hugepages=50000 b=1"), 100_000);
        assert_eq!(huge_pages_mib("hugepages=3 hugepagesz=1G hugepages=2"), 6 + 2048);
        assert_eq!(huge_pages_mib("hugepagesz=0x40000000 hugepages=1 hugepagesz=2048k hugepages=2"), 1024 + 4);
        assert_eq!(huge_pages_mib("nohugepages=9 hugepages=x hugepagesz=1G"), 0);
    }
}
