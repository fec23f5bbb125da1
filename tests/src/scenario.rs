//! One machine, many claims: it boots when the first claim asks for it, and a claim after its end fails at once with the reason.

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

/// One claim about the running machine.
pub type Claim = fn(&Settings, &mut Guest) -> Result<()>;

/// Starts the scenario's machine.
pub type Start = fn(&Settings) -> Result<Vm>;

type Shared = Arc<Mutex<Option<std::result::Result<Guest, String>>>>;

/// Runs `claims` in order on one machine and returns the process's exit code. Without settings nothing runs, which the caller has said.
#[must_use]
pub fn run(settings: Option<Settings>, start: Start, claims: &[(&str, Claim)]) -> ExitCode {
    let shared: Shared = Arc::default();
    let settings = settings.map(Arc::new);
    let trials = claims.iter().map(|&(name, claim)| trial(name, claim, start, settings.clone(), &shared)).collect();
    let conclusion = conclude(trials);
    // The machine must end before this process does, or its files stay.
    drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    conclusion.exit_code()
}

/// Runs trials one after the other: one machine at a time is what the host can bear.
pub fn conclude(trials: Vec<Trial>) -> Conclusion {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials)
}

fn trial(name: &str, claim: Claim, start: Start, settings: Option<Arc<Settings>>, shared: &Shared) -> Trial {
    let shared = Arc::clone(shared);
    let ignored = settings.is_none();
    let body = move || {
        let Some(settings) = settings else { return Ok(()) };
        let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let guest = slot.get_or_insert_with(|| boot(&settings, start).map_err(|err| format!("{err:#}")));
        let guest = guest.as_mut().map_err(|why| Failed::from(format!("the machine did not come up: {why}")))?;
        claim(&settings, guest).map_err(|err| Failed::from(format!("{err:#}\n{}", guest.vm.summary())))
    };
    Trial::test(name, body).with_ignored_flag(ignored)
}

fn boot(settings: &Settings, start: Start) -> Result<Guest> {
    let vm = start(settings)?;
    let agent = vm.agent()?;
    eprintln!("up after {:.1} s, log: {}", vm.age().as_secs_f64(), vm.log_path().display());
    match vm.end() {
        None => Ok(Guest { vm, agent }),
        Some(_) => Err(anyhow!(vm.summary())),
    }
}
