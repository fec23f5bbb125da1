//! Ctrl-C. It ends the process at once, except for a command that has to end what it started.

use std::io::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::print;

/// Exit code of an interrupted command.
pub const EXIT_CODE: u8 = 130;

/// State of the interrupt handler.
#[derive(Clone, Default)]
pub struct Interrupts {
    /// Set by the signal handler itself, so before anything that the same signal ended can be waited for.
    seen: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

impl Interrupts {
    /// Ends the process with 130 on SIGINT. There is nothing to clean up: output is written under a temporary name and renamed.
    pub fn handle() -> Result<Self> {
        let mut signals = Signals::new([SIGINT])?;
        let interrupts = Self::default();
        flag::register(SIGINT, Arc::clone(&interrupts.seen))?;
        let held = Arc::clone(&interrupts.held);
        std::thread::spawn(move || {
            if signals.forever().next().is_some() && !held.load(Ordering::SeqCst) {
                print::err("\ninterrupted; run the same command again to continue after the last finished stage");
                std::process::exit(EXIT_CODE.into());
            }
        });
        Ok(interrupts)
    }

    /// From now on SIGINT, SIGTERM and SIGHUP only set the returned flag: the caller ends what it has started.
    pub fn hold(&self) -> Result<&AtomicBool> {
        self.held.store(true, Ordering::SeqCst);
        for signal in [SIGTERM, SIGHUP] {
            flag::register(signal, Arc::clone(&self.seen))?;
        }
        Ok(&self.seen)
    }

    /// Whether the process is about to be ended.
    pub fn is_ending(&self) -> bool {
        self.seen.load(Ordering::SeqCst) && !self.held.load(Ordering::SeqCst)
    }
}
