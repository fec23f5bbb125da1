// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Regenerates the traces in `traces/` and the drawings in `docs/policy/`.

use std::path::Path;
use std::{fs, io};

#[path = "../simulator/mod.rs"]
mod simulator;

use simulator::trace::Trace;

fn main() -> io::Result<()> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (traces, docs) = (module.join("traces"), module.join("../../docs/policy"));
    fs::create_dir_all(&traces)?;
    fs::create_dir_all(&docs)?;
    let mut runs = Vec::new();
    for made in simulator::trace::all() {
        let csv = made.to_csv();
        fs::write(traces.join(&made.name).with_extension("csv"), &csv)?;
        let trace =
            Trace::parse(&made.name, &csv).map_err(|line| io::Error::other(format!("line {line} of a trace")))?;
        let run = simulator::run(&trace);
        fs::write(docs.join(&trace.name).with_extension("svg"), simulator::plot::svg(&trace, &run))?;
        runs.push((trace, run));
    }
    fs::write(docs.join("README.md"), simulator::report::markdown(&runs))
}
