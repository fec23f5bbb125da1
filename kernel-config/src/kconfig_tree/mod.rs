//! The kernel's Kconfig files, read to say *why* an option was dropped.
//!
//! This is not a second Kconfig: Kconfig itself resolves, we only look up what a symbol depends on
//! (`depends on`, the `if`s, menus and choices around it, selects) and evaluate that against the result.
//! Not `nom-kconfig` (0.13): its entries have no file and line, which every reason here names, and evaluating would stay ours.

mod explain;
pub mod expr;
mod parse;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::Result;
pub use expr::{Expr, Tri};

/// Where Kconfig files come from: a kernel tree, or a map in a test.
pub trait Files {
    /// Text of the file at `path`, relative to the root of the tree.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, path: &str) -> std::io::Result<String>;
}

/// A kernel tree on disk.
#[derive(Clone, Debug)]
pub struct Dir(pub PathBuf);

impl Files for Dir {
    fn read(&self, path: &str) -> std::io::Result<String> {
        fs_err::read_to_string(self.0.join(path))
    }
}

impl Files for BTreeMap<&str, &str> {
    fn read(&self, path: &str) -> std::io::Result<String> {
        self.get(path).map(|text| (*text).to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

/// A condition and where it stands (`init/Kconfig:1978`).
#[derive(Clone, Debug)]
struct Condition {
    expr: Expr,
    at: String,
}

/// Something that puts conditions on all it encloses: an `if`, a menu, a choice.
#[derive(Clone, Debug, Default)]
struct Scope {
    parent: Option<usize>,
    is_choice: bool,
    /// `if`, `depends on`
    depends: Vec<Condition>,
    /// `visible if`, and a choice's prompt condition: hide the prompts inside
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
    /// Conditions of its prompts; empty when it has none.
    prompts: Vec<Condition>,
    /// Values it takes without a prompt, as written.
    defaults: Vec<String>,
    /// Lower and upper bound, and when they hold.
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
    /// Reads `Kconfig` and all it sources, for `srcarch` (`x86`).
    ///
    /// # Errors
    /// [`common::Class::BuildFailed`] for a file that is missing or that this reader does not understand.
    pub fn read(files: &dyn Files, srcarch: &str) -> Result<Self> {
        parse::read(files, srcarch)
    }

    /// Whether any Kconfig file defines `symbol` (without `CONFIG_`).
    #[must_use]
    pub fn knows(&self, symbol: &str) -> bool {
        self.symbols.contains_key(symbol)
    }

    /// Number of symbols.
    #[must_use]
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether no symbol was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// Scopes around `def`, innermost first.
    fn scopes_of<'a>(&'a self, def: &Def) -> impl Iterator<Item = (usize, &'a Scope)> {
        std::iter::successors(def.scope, |&id| self.scopes[id].parent).map(|id| (id, &self.scopes[id]))
    }
}
