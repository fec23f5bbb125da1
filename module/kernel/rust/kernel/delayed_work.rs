// SPDX-License-Identifier: GPL-2.0

//! Delayed work that repeats itself and ends with its owner.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use crate::{
    container_of,
    prelude::*,
    str::CStr,
    sync::{Arc, LockClassKey},
    time::Jiffies,
    types::Opaque,
};

/// Creates a [`DelayedWork`] initialiser for a task, with newly-created lock classes.
#[macro_export]
macro_rules! new_delayed_work {
    ($name:literal, $task:expr $(,)?) => {
        $crate::delayed_work::DelayedWork::new(
            $crate::c_str!($name),
            $task,
            $crate::static_lock_class!(),
            $crate::static_lock_class!(),
        )
    };
}
pub use new_delayed_work;

/// What a [`DelayedWork`] does.
pub trait Task: Send + Sync + 'static {
    /// Runs in a kernel thread, never twice at once, and may sleep.
    ///
    /// Returns after how many jiffies to run again, or [`None`] to wait for the next
    /// [`DelayedWork::schedule`]. A time scheduled meanwhile comes first.
    fn run(&self) -> Option<Jiffies>;
}

/// A work item with a timer.
///
/// Wraps the kernel's C `struct delayed_work`, on the unbound system workqueue. When it is dropped,
/// the timer is stopped, a run that is under way is waited for, and none follows. It must therefore
/// not be dropped by its own task.
///
/// # Invariants
///
/// `work` is initialised with [`Self::run`] as its function, and is queued only while `self` lives.
///
/// # Examples
///
/// ```
/// use kernel::delayed_work::{new_delayed_work, Task};
/// use kernel::sync::{new_condvar, new_mutex, Arc, CondVar, Mutex};
/// use kernel::time::Jiffies;
///
/// #[pin_data]
/// struct Counter {
///     #[pin]
///     count: Mutex<u32>,
///     #[pin]
///     changed: CondVar,
/// }
///
/// impl Task for Counter {
///     fn run(&self) -> Option<Jiffies> {
///         *self.count.lock() += 1;
///         self.changed.notify_all();
///         // Again as soon as possible.
///         Some(0)
///     }
/// }
///
/// let counter = Arc::pin_init(
///     pin_init!(Counter {
///         count <- new_mutex!(0),
///         changed <- new_condvar!(),
///     }),
///     GFP_KERNEL,
/// )?;
/// let work = KBox::pin_init(new_delayed_work!("counter", counter.clone()), GFP_KERNEL)?;
/// assert_eq!(*counter.count.lock(), 0);
///
/// work.schedule(0);
/// let mut count = counter.count.lock();
/// while *count < 3 {
///     counter.changed.wait(&mut count);
/// }
/// drop(count);
///
/// // Nothing runs after the drop.
/// drop(work);
/// let last = *counter.count.lock();
/// assert!(last >= 3);
/// assert_eq!(*counter.count.lock(), last);
/// # Ok::<(), Error>(())
/// ```
#[pin_data(PinnedDrop)]
pub struct DelayedWork<T: Task> {
    #[pin]
    work: Opaque<bindings::delayed_work>,
    task: Arc<T>,
}

// SAFETY: The C side orders all access to `work`, and `task` may be sent and shared, as `T` may.
unsafe impl<T: Task> Send for DelayedWork<T> {}
// SAFETY: As above.
unsafe impl<T: Task> Sync for DelayedWork<T> {}

impl<T: Task> DelayedWork<T> {
    /// Creates a work item for `task`, not yet scheduled. See [`new_delayed_work!`].
    pub fn new(
        name: &'static CStr,
        task: Arc<T>,
        work_key: &'static LockClassKey,
        timer_key: &'static LockClassKey,
    ) -> impl PinInit<Self> {
        // INVARIANT: The work is initialised with `Self::run`, and not queued.
        pin_init!(Self {
            work <- Opaque::ffi_init(|slot: *mut bindings::delayed_work| {
                // SAFETY: `slot` is valid for writes and pinned; name and keys are static. The
                // flag is what a delayed work's timer needs.
                unsafe {
                    bindings::init_work_with_key(
                        core::ptr::addr_of_mut!((*slot).work),
                        Some(Self::run),
                        false,
                        name.as_char_ptr(),
                        work_key.as_ptr(),
                    );
                    bindings::init_timer_key(
                        core::ptr::addr_of_mut!((*slot).timer),
                        Some(bindings::delayed_work_timer_fn),
                        bindings::TIMER_IRQSAFE,
                        name.as_char_ptr(),
                        timer_key.as_ptr(),
                    );
                }
            }),
            task,
        })
    }

    /// Runs the task after `delay` jiffies, whatever was scheduled before. May be called from any
    /// context.
    pub fn schedule(&self, delay: Jiffies) {
        // SAFETY: By the type invariant the work is initialised, and dropping `self` ends it. The
        // system workqueue lives forever.
        unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as _,
                bindings::system_unbound_wq,
                self.work.get(),
                delay,
            )
        };
    }

    /// The function of the work.
    ///
    /// # Safety
    ///
    /// `work` must be the one in the `work` field of a living `Self`.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: By the safety requirements `work` is inside of a `delayed_work` ...
        let dwork = unsafe { container_of!(work, bindings::delayed_work, work) };
        // SAFETY: ... that is inside of a `Self`; `Opaque` is transparent.
        let this =
            unsafe { container_of!(dwork.cast::<Opaque<bindings::delayed_work>>(), Self, work) };
        // SAFETY: `this` lives until the end of this function, as its drop waits for it, and is
        // only shared.
        let this = unsafe { &*this };

        if let Some(delay) = this.task.run() {
            // SAFETY: As in `schedule`. Does nothing if it is scheduled already or being dropped.
            unsafe {
                bindings::queue_delayed_work_on(
                    bindings::wq_misc_consts_WORK_CPU_UNBOUND as _,
                    bindings::system_unbound_wq,
                    this.work.get(),
                    delay,
                )
            };
        }
    }
}

#[pinned_drop]
impl<T: Task> PinnedDrop for DelayedWork<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant the work is initialised. A disabled work is not queued
        // again, not by a running task either, so nothing uses `self` afterwards.
        unsafe { bindings::disable_delayed_work_sync(self.work.get()) };
    }
}
