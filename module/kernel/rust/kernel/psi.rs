// SPDX-License-Identifier: GPL-2.0

//! Pressure stall information.
//!
//! C header: [`include/linux/psi.h`](srctree/include/linux/psi.h)
//!
//! Reference: <https://docs.kernel.org/accounting/psi.html>

use crate::error::Result;

/// The pressure averages of the whole system, in hundredths of a per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Averages {
    /// Over the last 10 seconds.
    pub avg10: u32,
    /// Over the last 60 seconds.
    pub avg60: u32,
}

/// Reads memory pressure: the share of time in which some task waited for memory.
///
/// The figures are those of `/proc/pressure/memory` after `some`. May sleep.
///
/// Returns `EOPNOTSUPP` if the kernel is built without PSI or it is switched off.
///
/// # Examples
///
/// ```
/// use kernel::psi;
///
/// if let Ok(averages) = psi::memory_some() {
///     assert!(averages.avg10 <= 10_000);
///     assert!(averages.avg60 <= 10_000);
/// }
/// ```
#[cfg(CONFIG_PSI)]
pub fn memory_some() -> Result<Averages> {
    let (mut avg10, mut avg60) = (0, 0);
    // SAFETY: Both pointers are valid for writes.
    crate::error::to_result(unsafe { bindings::psi_memory_some(&mut avg10, &mut avg60) })?;
    Ok(Averages { avg10, avg60 })
}

/// Returns `EOPNOTSUPP`, as the kernel is built without PSI.
#[cfg(not(CONFIG_PSI))]
pub fn memory_some() -> Result<Averages> {
    Err(crate::error::Error::from_errno(
        -(bindings::EOPNOTSUPP as i32),
    ))
}
