//! Kconfig's three-valued expressions (`Documentation/kbuild/kconfig-language.rst`, "Menu dependencies").

use std::fmt;

use crate::dotconfig::{DotConfig, Value};

/// `n < m < y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tri {
    /// Off.
    N,
    /// As a module.
    M,
    /// Built in.
    Y,
}

/// An expression, as after `depends on` and `if`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A symbol, or the constants `y`, `m`, `n`.
    Symbol(String),
    /// A quoted constant.
    Quoted(String),
    /// `$(…)`: a test of the compiler or shell; counts as `y` here.
    Macro(String),
    /// `A = B`, with the operator as written.
    Compare(Box<Expr>, &'static str, Box<Expr>),
    /// `!A`
    Not(Box<Expr>),
    /// `A && B`
    And(Box<Expr>, Box<Expr>),
    /// `A || B`
    Or(Box<Expr>, Box<Expr>),
}

impl Expr {
    /// Returns its value under `config`: the minimum for "and", the maximum for "or" (kconfig-language.rst).
    #[must_use]
    pub fn eval(&self, config: &DotConfig) -> Tri {
        match self {
            Self::Symbol(name) => tri(name, config),
            Self::Quoted(text) => constant(text),
            Self::Macro(_) => Tri::Y,
            Self::Compare(left, operator, right) => compare(&left.text(config), operator, &right.text(config)),
            Self::Not(inner) => match inner.eval(config) {
                Tri::N => Tri::Y,
                Tri::M => Tri::M,
                Tri::Y => Tri::N,
            },
            Self::And(left, right) => left.eval(config).min(right.eval(config)),
            Self::Or(left, right) => left.eval(config).max(right.eval(config)),
        }
    }

    /// Returns the parts that must all hold: A, B, C for `A && (B && C)`.
    #[must_use]
    pub fn conjuncts(&self) -> Vec<&Self> {
        match self {
            Self::And(left, right) => [left.conjuncts(), right.conjuncts()].concat(),
            _ => vec![self],
        }
    }

    /// Returns its symbols in order, without constants.
    #[must_use]
    pub fn symbols(&self) -> Vec<&str> {
        match self {
            Self::Symbol(name) if is_constant(name) => Vec::new(),
            Self::Symbol(name) => vec![name],
            Self::Quoted(_) | Self::Macro(_) => Vec::new(),
            Self::Not(inner) => inner.symbols(),
            Self::Compare(left, _, right) | Self::And(left, right) | Self::Or(left, right) => {
                [left.symbols(), right.symbols()].concat()
            }
        }
    }

    fn text(&self, config: &DotConfig) -> String {
        match self {
            Self::Symbol(name) if is_constant(name) => name.clone(),
            Self::Symbol(name) => match config.get(name) {
                Value::Text(text) | Value::Number(text) => text.clone(),
                value => value.to_string(),
            },
            Self::Quoted(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

fn is_constant(name: &str) -> bool {
    matches!(name, "y" | "m" | "n") || number(name).is_some()
}

fn constant(text: &str) -> Tri {
    match text {
        "y" => Tri::Y,
        "m" => Tri::M,
        _ => Tri::N,
    }
}

fn tri(name: &str, config: &DotConfig) -> Tri {
    match config.get(name) {
        _ if is_constant(name) => constant(name),
        Value::Yes => Tri::Y,
        Value::Module => Tri::M,
        _ => Tri::N,
    }
}

/// Parses a Kconfig number, decimal or `0x…`.
#[must_use]
pub fn number(text: &str) -> Option<i128> {
    match text.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn compare(left: &str, operator: &str, right: &str) -> Tri {
    let order = match (number(left), number(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.cmp(right),
    };
    let holds = match operator {
        "=" => order.is_eq(),
        "!=" => order.is_ne(),
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    };
    if holds { Tri::Y } else { Tri::N }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) | Self::Macro(name) => f.write_str(name),
            Self::Quoted(text) => write!(f, "\"{text}\""),
            Self::Compare(left, operator, right) => write!(f, "{left} {operator} {right}"),
            Self::Not(inner) => match **inner {
                Self::And(..) | Self::Or(..) | Self::Compare(..) => write!(f, "!({inner})"),
                _ => write!(f, "!{inner}"),
            },
            Self::And(left, right) => {
                let part = |e: &Self| if matches!(e, Self::Or(..)) { format!("({e})") } else { e.to_string() };
                write!(f, "{} && {}", part(left), part(right))
            }
            Self::Or(left, right) => write!(f, "{left} || {right}"),
        }
    }
}

/// Limits, far above any real Kconfig file, that bound the recursion.
const MAX_NESTED: usize = 200;
const MAX_LEN: usize = 4000;

/// Parses a complete expression.
///
/// # Errors
/// The reason, without a place.
pub fn parse(text: &str) -> Result<Expr, String> {
    let nested = text.bytes().filter(|b| matches!(b, b'(' | b'!')).count();
    if nested > MAX_NESTED || text.len() > MAX_LEN {
        return Err("the expression is too long or nested too deeply".to_owned());
    }
    let mut parser = Parser { rest: text.trim_start() };
    let expr = parser.or()?;
    match parser.rest {
        "" => Ok(expr),
        rest => Err(format!("unexpected `{rest}` in expression `{text}`")),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

const COMPARISONS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else {
            return false;
        };
        self.rest = rest.trim_start();
        true
    }

    fn take_len(&mut self, len: usize) -> &'a str {
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest.trim_start();
        token
    }

    fn or(&mut self) -> Result<Expr, String> {
        let mut left = self.and()?;
        while self.take("||") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut left = self.unary()?;
        while self.take("&&") {
            left = Expr::And(Box::new(left), Box::new(self.unary()?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.take("!") {
            return Ok(Expr::Not(Box::new(self.unary()?)));
        }
        if self.take("(") {
            let inner = self.or()?;
            return if self.take(")") { Ok(inner) } else { Err("missing closing parenthesis".to_owned()) };
        }
        let left = self.operand()?;
        match COMPARISONS.into_iter().find(|operator| self.take(operator)) {
            Some(operator) => Ok(Expr::Compare(Box::new(left), operator, Box::new(self.operand()?))),
            None => Ok(left),
        }
    }

    fn operand(&mut self) -> Result<Expr, String> {
        if self.rest.starts_with("$(") {
            let len = macro_len(self.rest).ok_or("missing closing parenthesis of a macro")?;
            return Ok(Expr::Macro(self.take_len(len).to_owned()));
        }
        if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) {
            let len = self.rest[1..].find(quote).ok_or("missing closing quote")?;
            let token = self.take_len(len + 2);
            return Ok(Expr::Quoted(token[1..=len].to_owned()));
        }
        let len = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')))
            .unwrap_or(self.rest.len());
        match self.take_len(len) {
            "" => Err(format!("missing operand before `{}`", self.rest)),
            name => Ok(Expr::Symbol(name.to_owned())),
        }
    }
}

/// Returns the length of the `$(…)` at the start of `text`, which may contain parentheses.
fn macro_len(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eval(text: &str) -> Tri {
        let config =
            DotConfig::parse("c", "CONFIG_Y=y\nCONFIG_M=m\nCONFIG_VER=108501\nCONFIG_S=\"abc\"\nCONFIG_H=0x10\n");
        parse(text).expect(text).eval(&config.expect("well-formed"))
    }

    #[test]
    fn evaluates_as_kconfig_does() {
        for (text, value) in [
            ("Y", Tri::Y),
            ("M", Tri::M),
            ("GONE", Tri::N),
            ("!GONE", Tri::Y),
            ("!M", Tri::M),
            ("Y && M", Tri::M),
            ("M || Y && GONE", Tri::M),
            ("(M || Y) && !Y", Tri::N),
            ("m", Tri::M),
            ("VER >= 108100", Tri::Y),
            ("VER<108100", Tri::N),
            ("S = \"abc\"", Tri::Y),
            ("S != 'abc'", Tri::N),
            ("H = 16", Tri::Y),
            ("Y = y && M!=n", Tri::Y),
            ("$(cc-option,-f(x)) && Y", Tri::Y),
            ("!(Y && M) || VER >= 108300", Tri::Y),
        ] {
            assert_eq!(eval(text), value, "{text}");
        }
    }

    #[test]
    fn prints_as_written_and_lists_symbols() -> Result<(), String> {
        for text in ["!A", "A && (B || C)", "!(A && B) || V >= 108300", "$(success,a (b)) && A = \"x y\""] {
            assert_eq!(parse(text)?.to_string(), text);
        }
        let expr = parse("A && (B || C = 5) && !D && y")?;
        assert_eq!(expr.symbols(), ["A", "B", "C", "D"]);
        assert_eq!(expr.conjuncts().len(), 4);
        Ok(())
    }

    #[test]
    fn malformed_expressions_are_refused() {
        for text in ["", "A &&", "(A", "A)", "A B", "$(x", "\"a", "A =", "&"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"(".repeat(100_000)).is_err() && parse(&"!".repeat(100_000)).is_err());
        assert!(parse(&"A && ".repeat(100_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
