// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! The operator's settings.

use super::{Invalid, Percent};

/// Settings that the operator can change at run time, except target and floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether the controller may change the pool by itself. Off by default.
    pub dynamic: bool,
    high: Percent,
    low: Percent,
}

impl Config {
    /// Off, shrink at 15 per cent of pressure and above, restore at 10 and below.
    pub const fn new() -> Self {
        Self { dynamic: false, high: Percent::whole(15), low: Percent::whole(10) }
    }

    /// Returns the pressure at and above which the pool may shrink.
    pub const fn high(&self) -> Percent {
        self.high
    }

    /// Returns the pressure at and below which the pool may be restored.
    pub const fn low(&self) -> Percent {
        self.low
    }

    /// Sets the upper threshold.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it is not above the lower one: without a band between them the pool would oscillate.
    pub fn set_high(&mut self, high: Percent) -> Result<(), Invalid> {
        if high <= self.low {
            return Err(Invalid);
        }
        self.high = high;
        Ok(())
    }

    /// Sets the lower threshold.
    ///
    /// # Errors
    ///
    /// [`Invalid`] if it is not below the upper one.
    pub fn set_low(&mut self, low: Percent) -> Result<(), Invalid> {
        if low >= self.high {
            return Err(Invalid);
        }
        self.low = low;
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_keep_a_band_between_them() {
        let mut config = Config::new();
        assert_eq!((config.dynamic, config.high(), config.low()), (false, Percent::whole(15), Percent::whole(10)));
        assert_eq!(config.set_high(Percent::whole(10)), Err(Invalid));
        assert_eq!(config.set_low(Percent::whole(15)), Err(Invalid));
        assert_eq!(config, Config::new(), "a refused setting changes nothing");
        assert_eq!(config.set_high(Percent::whole(40)), Ok(()));
        assert_eq!(config.set_low(Percent::whole(39)), Ok(()));
        assert_eq!((config.high(), config.low()), (Percent::whole(40), Percent::whole(39)));
    }
}
