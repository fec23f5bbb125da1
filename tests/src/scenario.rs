//! Runs several tests on one machine. It boots for the first test; once it has ended, the remaining tests fail at once with the reason.

use crate::Result;
use crate::agent::Agent;
use crate::settings::Settings;
use crate::vm::Vm;
use anyhow::anyhow;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

/// A running machine and the connection to its agent.
#[derive(Debug)]
pub struct Guest {
    /// The machine.
    pub vm: Vm,
    /// Its agent.
    pub agent: Agent,
}

/// A test on the running machine.
pub type Case = fn(&Settings, &mut Guest) -> Result<()>;

/// Starts the scenario's machine.
pub type Start = fn(&Settings) -> Result<Vm>;

type Shared = Arc<Mutex<Option<std::result::Result<Guest, String>>>>;

/// Runs `cases` in order on one machine and returns the exit code of the process. Without settings all are ignored; [`Settings::from_env`]
/// has reported the skip.
#[must_use]
pub fn run(settings: Option<Settings>, start: Start, cases: &[(&str, Case)]) -> ExitCode {
    let shared: Shared = Arc::default();
    let settings = settings.map(Arc::new);
    let trials = cases.iter().map(|&(name, case)| trial(name, case, start, settings.clone(), &shared)).collect();
    let conclusion = conclude(trials);
    // Dropping the machine removes its disks; the process exit would not drop it.
    drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

/// Runs trials one at a time: the host has memory and CPU for one machine.
pub fn conclude(trials: Vec<Trial>) -> Conclusion {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials)
}

fn trial(name: &str, case: Case, start: Start, settings: Option<Arc<Settings>>, shared: &Shared) -> Trial {
    let shared = Arc::clone(shared);
    let ignored = settings.is_none();
    let body = move || {
        let Some(settings) = settings else { return Ok(()) };
        let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let guest = slot.get_or_insert_with(|| boot(&settings, start).map_err(|err| format!("{err:#}")));
        let guest = guest.as_mut().map_err(|why| Failed::from(format!("the machine did not boot: {why}")))?;
        case(&settings, guest).map_err(|err| Failed::from(format!("{err:#}\n{}", guest.vm.summary())))
    };
    Trial::test(name, body).with_ignored_flag(ignored)
}

fn boot(settings: &Settings, start: Start) -> Result<Guest> {
    let vm = start(settings)?;
    let agent = vm.agent()?;
    eprintln!("booted in {:.1} s, log: {}", vm.age().as_secs_f64(), vm.log_path().display());
    match vm.end() {
        None => Ok(Guest { vm, agent }),
        Some(_) => Err(anyhow!(vm.summary())),
    }
}
