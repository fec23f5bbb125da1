// SPDX-License-Identifier: GPL-2.0

//! Automatic NUMA balancing.
//!
//! C header: [`include/linux/sched/numa_balancing.h`](srctree/include/linux/sched/numa_balancing.h)

use crate::error::Result;

/// Returns what `kernel.numa_balancing` shows, or [`None`] if the kernel is built without it.
///
/// 0 is off, 1 is balancing between nodes of one speed, 2 is promotion between memory tiers, 3 is
/// both.
///
/// # Examples
///
/// ```
/// use kernel::numa_balancing;
///
/// if let Some(mode) = numa_balancing::mode() {
///     numa_balancing::set(true)?;
///     assert_eq!(numa_balancing::mode(), Some(1));
///     numa_balancing::set(false)?;
///     assert_eq!(numa_balancing::mode(), Some(0));
///     numa_balancing::set(mode != 0)?;
/// } else {
///     assert!(numa_balancing::set(true).is_err());
/// }
/// # Ok::<(), Error>(())
/// ```
pub fn mode() -> Option<u32> {
    #[cfg(CONFIG_NUMA_BALANCING)]
    {
        // SAFETY: The function only reads a variable.
        let mode = unsafe { bindings::get_numabalancing_mode() };
        mode.try_into().ok()
    }
    #[cfg(not(CONFIG_NUMA_BALANCING))]
    None
}

/// Switches balancing on (mode 1) or off, for the whole system. May sleep.
///
/// The kernel does not order writers among each other; callers that may race should hold a lock of
/// their own.
///
/// Returns `EOPNOTSUPP` if the kernel is built without it.
pub fn set(enabled: bool) -> Result {
    #[cfg(CONFIG_NUMA_BALANCING)]
    {
        // SAFETY: The function may be called from any context that can sleep.
        unsafe { bindings::set_numabalancing_state(enabled) };
        Ok(())
    }
    #[cfg(not(CONFIG_NUMA_BALANCING))]
    {
        let _ = enabled;
        Err(crate::error::Error::from_errno(
            -(bindings::EOPNOTSUPP as i32),
        ))
    }
}
