//! Parses the kernel's Kconfig files to explain *why* an option was dropped.
//!
//! This does not replace Kconfig, which resolves the configuration: it looks up what a symbol depends on (`depends on`,
//! selects, and the enclosing `if`s, menus and choices) and evaluates that against the result.
//! `nom-kconfig` (0.13) does not fit: its entries have no file and line, which every reason names, and it does not evaluate.

mod explain;
pub mod expr;
mod parse;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use common::Result;
pub use expr::{Expr, Tri};

/// Reads the file at a path relative to the root of the kernel tree.
type ReadFile<'a> = &'a dyn Fn(&str) -> io::Result<String>;

/// A condition and its place (`init/Kconfig:1978`).
#[derive(Clone, Debug)]
struct Condition {
    expr: Expr,
    at: String,
}

/// An `if`, menu or choice, whose conditions apply to all that it encloses.
#[derive(Clone, Debug, Default)]
struct Scope {
    parent: Option<usize>,
    is_choice: bool,
    /// `if`, `depends on`
    depends: Vec<Condition>,
    /// `visible if`, and a choice's prompt condition; both hide prompts
    visible: Vec<Condition>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Unknown,
    Bool,
    Tristate,
    Value,
}

/// One `config` entry; a symbol may have several.
#[derive(Clone, Debug, Default)]
struct Def {
    kind: Kind,
    scope: Option<usize>,
    depends: Vec<Condition>,
    /// Conditions of its prompts; empty without a prompt.
    prompts: Vec<Condition>,
    /// Default values, as written.
    defaults: Vec<String>,
    /// Lower and upper bound, and the condition for both.
    ranges: Vec<(Expr, Expr, Condition)>,
}

/// `select` or `imply` of another symbol.
#[derive(Clone, Debug)]
struct Select {
    by: String,
    when: Condition,
}

/// All symbols of a kernel for one architecture.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    symbols: BTreeMap<String, Vec<Def>>,
    selects: BTreeMap<String, Vec<Select>>,
    scopes: Vec<Scope>,
    choices: BTreeMap<usize, Vec<String>>,
}

impl Tree {
    /// Parses `Kconfig` and all files that it sources in the kernel tree `dir`, for `srcarch` (`x86`).
    ///
    /// # Errors
    /// [`common::Class::BuildFailed`] for a file that is missing or cannot be parsed.
    pub fn read(dir: &Path, srcarch: &str) -> Result<Self> {
        parse::read(&|path| fs_err::read_to_string(dir.join(path)), srcarch)
    }

    /// Returns the scopes that enclose `def`, innermost first.
    fn scopes_of<'a>(&'a self, def: &Def) -> impl Iterator<Item = (usize, &'a Scope)> {
        std::iter::successors(def.scope, |&id| self.scopes[id].parent).map(|id| (id, &self.scopes[id]))
    }
}
