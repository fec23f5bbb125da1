// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Per cent with two decimals, without floating point.

use core::fmt;

/// A share between 0 and 100 per cent, counted in hundredths of a per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    /// A whole number of per cent; more than 100 becomes 100.
    pub const fn whole(percent: u32) -> Self {
        Self::from_hundredths(if percent > 100 { 10_000 } else { percent.saturating_mul(100) })
    }

    /// Hundredths of a per cent; more than 100 per cent becomes 100.
    pub const fn from_hundredths(hundredths: u32) -> Self {
        Self(if hundredths > 10_000 { 10_000 } else { hundredths })
    }

    /// The value in hundredths of a per cent, 0 to 10000.
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// The pressure that the policy uses: `0.7 * avg10 + 0.3 * avg60` of PSI memory "some", rounded to the nearest hundredth.
    pub const fn weighted_pressure(avg10: Self, avg60: Self) -> Self {
        Self(avg10.0.saturating_mul(7).saturating_add(avg60.0.saturating_mul(3)).saturating_add(5) / 10)
    }
}

/// Always two decimals: `15.00`. With `{:#}` no more than needed: `15`, `12.5`, as settings are shown.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        match (f.alternate(), rest) {
            (true, 0) => write!(f, "{whole}"),
            (true, _) if rest % 10 == 0 => write!(f, "{whole}.{}", rest / 10),
            _ => write!(f, "{whole}.{rest:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Percent;

    #[test]
    fn pressure_is_weighted_seven_to_three() {
        let weighted = |a, b| Percent::weighted_pressure(Percent::from_hundredths(a), Percent::from_hundredths(b));
        assert_eq!(weighted(2_000, 1_000).hundredths(), 1_700);
        assert_eq!(weighted(1, 1).hundredths(), 1);
        assert_eq!(weighted(10_000, 10_000).hundredths(), 10_000);
        assert_eq!(weighted(0, 1).hundredths(), 0);
    }

    #[test]
    fn measured_values_show_two_decimals_and_settings_no_trailing_zeros() {
        let shown: Vec<_> = [0, 5, 50, 1_500, 1_250, 10_000].map(|h| Percent::from_hundredths(h).to_string()).into();
        assert_eq!(shown, ["0.00", "0.05", "0.50", "15.00", "12.50", "100.00"]);
        let short: Vec<_> = [0, 5, 1_500, 1_250].map(|h| format!("{:#}", Percent::from_hundredths(h))).into();
        assert_eq!(short, ["0", "0.05", "15", "12.5"]);
    }
}
