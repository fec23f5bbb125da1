//! Parses Kconfig files line by line (`Documentation/kbuild/kconfig-language.rst`).

use common::{Class, Error, Result};

use super::expr::{self, Expr};
use super::{Condition, Def, Kind, ReadFile, Scope, Select, Tree};

/// Parses the tree from its root file.
pub(super) fn read(read: ReadFile<'_>, srcarch: &str) -> Result<Tree> {
    let mut reader = Reader { read, srcarch, tree: Tree::default() };
    reader.file("Kconfig", None, 0)?;
    Ok(reader.tree)
}

struct Reader<'a> {
    read: ReadFile<'a>,
    srcarch: &'a str,
    tree: Tree,
}

/// The entry that the following properties belong to.
enum Current {
    Config(String, usize),
    Scope(usize),
    /// A `comment`, or none yet.
    Other,
}

/// A logical line.
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

/// Maximum nesting of `source`: a loop must not overflow the stack.
const MAX_DEPTH: usize = 32;

impl Reader<'_> {
    fn file(&mut self, path: &str, outer: Option<usize>, depth: usize) -> Result<()> {
        let fail = |what: &str, why: String| Error::new(Class::BuildFailed, what).file(path).why(why);
        if depth > MAX_DEPTH {
            return Err(fail("the kernel's Kconfig files source each other in a loop", String::new()));
        }
        let text = (self.read)(path).map_err(|e| fail("cannot read a Kconfig file of the kernel", e.to_string()))?;
        let mut scope = outer;
        let mut current = Current::Other;
        for line in without_help(lines(&text)) {
            let at = format!("{path}:{}", line.number);
            let (word, rest) = split_word(&line.text);
            if word == "source" {
                let target = unquote(rest).replace("$(SRCARCH)", self.srcarch);
                self.file(&target, scope, depth + 1)?;
            } else {
                self.line(word, rest, at, &mut scope, &mut current).map_err(|why| {
                    fail("cannot parse a Kconfig file of the kernel", format!("line {}: {why}", line.number))
                })?;
            }
        }
        Ok(())
    }

    fn line(
        &mut self,
        word: &str,
        rest: &str,
        at: String,
        scope: &mut Option<usize>,
        current: &mut Current,
    ) -> Result<(), String> {
        match word {
            "config" | "menuconfig" => *current = self.config(rest, *scope),
            "if" => {
                let id = self.open(*scope, false);
                self.tree.scopes[id].depends.push(Condition { expr: expr::parse(rest)?, at });
                (*scope, *current) = (Some(id), Current::Other);
            }
            "menu" | "choice" => {
                let id = self.open(*scope, word == "choice");
                (*scope, *current) = (Some(id), Current::Scope(id));
            }
            "endif" | "endmenu" | "endchoice" => {
                *scope = self.tree.scopes[scope.ok_or(format!("`{word}` without its start"))?].parent;
                *current = Current::Other;
            }
            "comment" | "mainmenu" => *current = Current::Other,
            _ => match current {
                Current::Config(symbol, index) => self.property(&symbol.clone(), *index, word, rest, at)?,
                Current::Scope(id) => scope_property(&mut self.tree.scopes[*id], word, rest, at)?,
                // Macro definitions and properties of a comment.
                Current::Other => {}
            },
        }
        Ok(())
    }

    fn open(&mut self, parent: Option<usize>, is_choice: bool) -> usize {
        self.tree.scopes.push(Scope { parent, is_choice, ..Scope::default() });
        self.tree.scopes.len() - 1
    }

    fn config(&mut self, symbol: &str, scope: Option<usize>) -> Current {
        let defs = self.tree.symbols.entry(symbol.to_owned()).or_default();
        defs.push(Def { scope, ..Def::default() });
        let index = defs.len() - 1;
        if let Some(choice) = scope.filter(|&id| self.tree.scopes[id].is_choice) {
            self.tree.choices.entry(choice).or_default().push(symbol.to_owned());
        }
        Current::Config(symbol.to_owned(), index)
    }

    fn property(&mut self, symbol: &str, index: usize, word: &str, rest: &str, at: String) -> Result<(), String> {
        if matches!(word, "select" | "imply") {
            let (target, when) = split_if(rest)?;
            let select = Select { by: symbol.to_owned(), when: Condition { expr: when, at } };
            self.tree.selects.entry(target.to_owned()).or_default().push(select);
            return Ok(());
        }
        let Some(def) = self.tree.symbols.get_mut(symbol).and_then(|defs| defs.get_mut(index)) else {
            return Ok(());
        };
        match word {
            "bool" | "tristate" | "string" | "int" | "hex" | "def_bool" | "def_tristate" | "prompt" => {
                def.kind = match word {
                    "bool" | "def_bool" => Kind::Bool,
                    "tristate" | "def_tristate" => Kind::Tristate,
                    "prompt" => def.kind,
                    _ => Kind::Value,
                };
                if word.starts_with("def_") {
                    def.defaults.push(rest.to_owned());
                } else if !rest.is_empty() {
                    def.prompts.push(Condition { expr: split_if(rest)?.1, at });
                }
            }
            "default" => def.defaults.push(rest.to_owned()),
            "depends" => def.depends.push(depends(rest, at)?),
            "range" => {
                let (bounds, when) = split_if(rest)?;
                let (low, high) = split_word(bounds);
                def.ranges.push((expr::parse(low)?, expr::parse(high)?, Condition { expr: when, at }));
            }
            // `modules`, `transitional` and `option …` do not affect dependencies.
            _ => {}
        }
        Ok(())
    }
}

fn scope_property(scope: &mut Scope, word: &str, rest: &str, at: String) -> Result<(), String> {
    match word {
        "depends" => scope.depends.push(depends(rest, at)?),
        "visible" => {
            let expr = expr::parse(rest.strip_prefix("if").ok_or("`visible` without `if`")?)?;
            scope.visible.push(Condition { expr, at });
        }
        "prompt" | "bool" | "tristate" if !rest.is_empty() => {
            scope.visible.push(Condition { expr: split_if(rest)?.1, at });
        }
        _ => {}
    }
    Ok(())
}

fn depends(rest: &str, at: String) -> Result<Condition, String> {
    let expr = expr::parse(rest.strip_prefix("on").ok_or("`depends` without `on`")?)?;
    Ok(Condition { expr, at })
}

/// Splits off a trailing `if <expr>`; without one the condition is `y`.
fn split_if(text: &str) -> Result<(&str, Expr), String> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, ' ' | '\t') if text[at + 1..].starts_with("if ") || text[at + 1..].starts_with("if(") => {
                return Ok((text[..at].trim(), expr::parse(&text[at + 3..])?));
            }
            _ => {}
        }
    }
    Ok((text.trim(), Expr::Symbol("y".to_owned())))
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '"' | '(')).unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

fn unquote(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

/// Returns the logical lines: continued lines joined, tabs expanded to 8 columns. Empty lines stay, to find the end of `help`.
fn lines(text: &str) -> Vec<Line> {
    let mut out: Vec<Line> = Vec::new();
    let mut joined = false;
    for (i, raw) in text.lines().enumerate() {
        let (body, continues) = raw.strip_suffix('\\').map_or((raw, false), |body| (body, true));
        match out.last_mut() {
            Some(last) if joined => {
                last.text.push(' ');
                last.text.push_str(body.trim());
            }
            _ => {
                let blank = body.len() - body.trim_start().len();
                let indent =
                    body[..blank].chars().fold(0, |col, c| if c == '\t' { (col / 8 + 1) * 8 } else { col + 1 });
                out.push(Line { number: i + 1, indent, text: body.trim().to_owned() });
            }
        }
        joined = continues;
    }
    out
}

/// Removes help texts, comments and empty lines. A help text continues while lines are indented at least as deep as its first.
fn without_help(lines: Vec<Line>) -> Vec<Line> {
    // None: outside a help text; Some(None): before its first line; Some(depth): inside.
    let mut help: Option<Option<usize>> = None;
    let mut out = Vec::new();
    for mut line in lines {
        let inside = help.filter(|depth| line.text.is_empty() || line.indent >= depth.unwrap_or(1));
        if let Some(depth) = inside {
            help = Some(depth.or((!line.text.is_empty()).then_some(line.indent)));
            continue;
        }
        line.text = cut_comment(&line.text).trim_end().to_owned();
        help = (line.text == "help").then_some(None);
        if help.is_none() && !line.text.is_empty() {
            out.push(line);
        }
    }
    out
}

fn cut_comment(text: &str) -> &str {
    let mut quote = None;
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '#') if depth == 0 => return &text[..at],
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, '"' | '\'') if depth == 0 => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    text
}
