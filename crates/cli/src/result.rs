//! Results as data, for `--format json`: the last line of a verb that did what it was asked to. `docs/schemas/` has a JSON Schema for each verb.

use serde::Serialize;

use crate::print as output;

/// The line.
#[derive(Serialize)]
struct Line<'a, T> {
    event: &'static str,
    verb: &'static str,
    version: u32,
    #[serde(flatten)]
    result: &'a T,
}

/// The result of a verb.
pub trait Data: Serialize {
    /// The verb, as on the command line.
    const VERB: &'static str;
    /// Version of the schema: raised when a key is removed or gets another meaning, not when one is added.
    const VERSION: u32 = 1;
}

/// Prints `result` as one line of JSON.
pub fn print<T: Data>(result: &T) -> anyhow::Result<()> {
    let line = Line { event: "result", verb: T::VERB, version: T::VERSION, result };
    output::out(&serde_json::to_string(&line)?)
}
