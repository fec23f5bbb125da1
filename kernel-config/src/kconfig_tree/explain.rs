//! Explains why Kconfig dropped an option.

use super::expr::{Expr, Tri, number};
use super::{Condition, Def, Kind, Select, Tree};
use crate::check::Dropped;
use crate::dotconfig::{DotConfig, Value};

/// How deep unmet dependencies are followed.
const MAX_DEPTH: usize = 3;
/// How many symbols a list names.
const MAX_NAMES: usize = 6;

impl Tree {
    /// Returns why `dropped` does not have the requested value in the `resolved` configuration, in at least one line.
    #[must_use]
    pub fn explain(&self, dropped: &Dropped, resolved: &DotConfig) -> Vec<String> {
        let symbol = dropped.symbol.as_str();
        let Some(defs) = self.symbols.get(symbol) else {
            return vec![self.unknown(symbol)];
        };
        let need = match dropped.requested {
            Value::No => return self.why_on(symbol, defs, resolved),
            Value::Module if defs.iter().any(|def| def.kind == Kind::Bool) => {
                return vec!["it is a bool: y or n, not m".to_owned()];
            }
            Value::Module => Tri::M,
            _ => Tri::Y,
        };
        let unmet = self.unmet(defs, need, resolved, 0);
        if !unmet.is_empty() {
            return unmet;
        }
        let mut reasons = self.not_taken(symbol, defs, resolved);
        reasons.extend(out_of_range(defs, &dropped.requested, resolved));
        if reasons.is_empty() {
            reasons.push("its dependencies are met; the reason is unknown".to_owned());
        }
        reasons
    }

    fn unknown(&self, symbol: &str) -> String {
        let close = |name: &&String| {
            name.contains(symbol) || symbol.contains(name.as_str()) && name.len() > 5 || distance(name, symbol) <= 2
        };
        let close: Vec<&str> = self.symbols.keys().filter(close).take(MAX_NAMES).map(String::as_str).collect();
        match close.as_slice() {
            [] => "no such symbol in this kernel; it was renamed, removed or misspelt".to_owned(),
            close => format!("no such symbol in this kernel; close to it: {}", close.join(", ")),
        }
    }

    /// Returns the conditions that keep every definition below `need`; empty when one definition allows it.
    fn unmet(&self, defs: &[Def], need: Tri, config: &DotConfig, depth: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for def in defs {
            let conditions = self.scopes_of(def).flat_map(|(_, scope)| &scope.depends).chain(&def.depends);
            let before = lines.len();
            for condition in conditions {
                for part in condition.expr.conjuncts() {
                    if part.eval(config) < need {
                        self.push_unmet(&mut lines, part, &condition.at, need, config, depth);
                    }
                }
            }
            if lines.len() == before {
                return Vec::new();
            }
        }
        lines
    }

    fn push_unmet(&self, lines: &mut Vec<String>, part: &Expr, at: &str, need: Tri, config: &DotConfig, depth: usize) {
        let line = format!("{}depends on {part} ({at}), and {}", "  ".repeat(depth), values(part, config));
        if lines.iter().any(|known| known.trim_start() == line.trim_start()) {
            return;
        }
        lines.push(line);
        let Expr::Symbol(name) = part else { return };
        match self.symbols.get(name) {
            Some(defs) if depth < MAX_DEPTH => {
                let deeper = self.unmet(defs, need, config, depth + 1);
                if deeper.is_empty() {
                    let reasons = self.not_taken(name, defs, config);
                    lines.extend(reasons.into_iter().map(|reason| format!("{}{reason}", "  ".repeat(depth + 1))));
                }
                lines.extend(deeper);
            }
            Some(_) => {}
            None => lines.push(format!("{}{}", "  ".repeat(depth + 1), self.unknown(name))),
        }
    }

    /// Returns why a symbol with met dependencies is not set: no prompt, a hidden prompt, another member of its choice.
    fn not_taken(&self, symbol: &str, defs: &[Def], config: &DotConfig) -> Vec<String> {
        let mut lines = Vec::new();
        if defs.iter().all(|def| def.prompts.is_empty()) {
            lines.push(self.no_prompt(symbol, defs, config));
        } else {
            lines.extend(self.hidden(defs, config));
        }
        lines.extend(self.other_choice(symbol, defs, config));
        lines
    }

    fn no_prompt(&self, symbol: &str, defs: &[Def], config: &DotConfig) -> String {
        let by: Vec<String> = self.selectors(symbol).map(|s| format!("{}={}", s.by, config.get(&s.by))).collect();
        let defaults: Vec<&str> = defs.iter().flat_map(|def| &def.defaults).map(String::as_str).collect();
        let more = if by.len() > MAX_NAMES { ", …" } else { "" };
        match (by.as_slice(), defaults.as_slice()) {
            ([], []) => "it has no prompt and nothing selects it".to_owned(),
            ([], defaults) => format!("it has no prompt; its default is {}", defaults.join(", then ")),
            (by, _) => {
                format!("it has no prompt; it is selected by {}{more}", by[..by.len().min(MAX_NAMES)].join(", "))
            }
        }
    }

    fn selectors(&self, symbol: &str) -> impl Iterator<Item = &Select> {
        self.selects.get(symbol).into_iter().flatten()
    }

    fn hidden(&self, defs: &[Def], config: &DotConfig) -> Vec<String> {
        let unmet = |condition: &&Condition| condition.expr.eval(config) == Tri::N;
        let say = |Condition { expr, at }: &Condition| {
            format!("its prompt is hidden unless {expr} ({at}), and {}", values(expr, config))
        };
        let hiding = |def: &Def| {
            let prompts = def.prompts.iter().chain(self.scopes_of(def).flat_map(|(_, scope)| &scope.visible));
            prompts.filter(unmet).map(say).collect::<Vec<_>>()
        };
        let all: Vec<Vec<String>> = defs.iter().filter(|def| !def.prompts.is_empty()).map(hiding).collect();
        if all.iter().any(Vec::is_empty) { Vec::new() } else { all.concat() }
    }

    fn other_choice(&self, symbol: &str, defs: &[Def], config: &DotConfig) -> Option<String> {
        let choices = defs.iter().flat_map(|def| self.scopes_of(def)).filter(|(_, scope)| scope.is_choice);
        let members = choices.filter_map(|(id, _)| self.choices.get(&id)).flatten();
        let taken = members.filter(|name| *name != symbol).find(|name| *config.get(name) == Value::Yes)?;
        Some(format!("it is in a choice where {taken}=y; request `# CONFIG_{taken} is not set` as well"))
    }

    /// Returns why a symbol is on although a fragment turns it off.
    fn why_on(&self, symbol: &str, defs: &[Def], config: &DotConfig) -> Vec<String> {
        let selecting =
            |s: &&Select| s.when.expr.eval(config) > Tri::N && matches!(config.get(&s.by), Value::Yes | Value::Module);
        let by: Vec<String> = self
            .selectors(symbol)
            .filter(selecting)
            .map(|s| format!("it is selected by {} ({})", s.by, s.when.at))
            .collect();
        if !by.is_empty() {
            return by;
        }
        let mut lines = self.not_taken(symbol, defs, config);
        lines.retain(|line| !line.starts_with("it is in a choice"));
        if defs.iter().flat_map(|def| self.scopes_of(def)).any(|(_, scope)| scope.is_choice) {
            lines.push("it is the default of a choice where no other member is requested".to_owned());
        }
        if lines.is_empty() {
            lines.push("it can be off; the reason is unknown".to_owned());
        }
        lines
    }
}

/// Returns the values of the symbols in `expr`, `A=y, B=n`.
fn values(expr: &Expr, config: &DotConfig) -> String {
    let mut values: Vec<String> = expr.symbols().iter().map(|name| format!("{name}={}", config.get(name))).collect();
    values.dedup();
    values.join(", ")
}

fn out_of_range(defs: &[Def], requested: &Value, config: &DotConfig) -> Option<String> {
    let Value::Number(text) = requested else { return None };
    let value = number(text)?;
    let bound = |expr: &Expr| match expr.symbols().first() {
        Some(name) => number(&config.get(name).to_string()),
        None => number(&expr.to_string()),
    };
    let mut ranges = defs.iter().flat_map(|def| &def.ranges).filter(|(.., when)| when.expr.eval(config) > Tri::N);
    let (low, high, when) = ranges.next()?;
    let (low, high) = (bound(low)?, bound(high)?);
    (!(low..=high).contains(&value)).then(|| format!("{text} is outside the range {low} to {high} ({})", when.at))
}

/// Levenshtein distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
