//! Runs tests that build on each other: in order, on a state that each changes. Once one has failed, the others fail at once with its name.

use crate::Result;
use crate::scenario::conclude;
use libtest_mimic::{Failed, Trial};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A step.
pub type Step<T> = fn(&mut T) -> Result<()>;

struct Shared<T> {
    state: Result<T>,
    failed: Option<&'static str>,
}

/// Runs `steps` on `state` and returns the exit code of the process. Without a state all are ignored; the skip has been reported. If the state
/// could not be made, that is the result of the first step.
#[must_use]
pub fn run<T: Send + 'static>(state: Option<Result<T>>, steps: &[(&'static str, Step<T>)]) -> ExitCode {
    let ignored = state.is_none();
    let shared = Arc::new(Mutex::new(state.map(|state| Shared { state, failed: None })));
    let trial = |&(name, step): &(&'static str, Step<T>)| {
        let shared = Arc::clone(&shared);
        Trial::test(name, move || take(&shared, name, step)).with_ignored_flag(ignored)
    };
    let conclusion = conclude(steps.iter().map(trial).collect());
    // Dropping the state stops its machines; the process exit would not drop it.
    drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

fn take<T>(shared: &Mutex<Option<Shared<T>>>, name: &'static str, step: Step<T>) -> std::result::Result<(), Failed> {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(shared) = shared.as_mut() else { return Ok(()) };
    if let Some(failed) = shared.failed {
        return Err(Failed::from(format!("not run: {failed} failed")));
    }
    let start = Instant::now();
    let result = match &mut shared.state {
        Ok(state) => step(state),
        Err(err) => Err(anyhow::anyhow!("cannot prepare the test: {err:#}")),
    };
    eprintln!("{name}: {:.0} s", start.elapsed().as_secs_f64());
    result.map_err(|err| {
        shared.failed = Some(name);
        Failed::from(format!("{err:#}"))
    })
}
