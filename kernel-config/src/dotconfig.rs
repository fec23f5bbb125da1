//! Syntax of kernel configuration files: `CONFIG_X=value` and `# CONFIG_X is not set`
//! (`Documentation/kbuild/kconfig.rst`, `scripts/kconfig/confdata.c`).

use std::collections::BTreeMap;
use std::fmt;

use common::{Class, Error, Result};

/// A symbol's value. `No` is both "is not set" and absent: Kconfig treats them alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// `# CONFIG_X is not set`
    No,
    /// `=m`
    Module,
    /// `=y`
    Yes,
    /// `=42`, `=-1` or `=0x1000`, as written
    Number(String),
    /// `="text"`, without quotes and escapes
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("n"),
            Self::Module => f.write_str("m"),
            Self::Yes => f.write_str("y"),
            Self::Number(number) => f.write_str(number),
            Self::Text(text) => write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        }
    }
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name without `CONFIG_`.
    pub symbol: String,
    /// Its value.
    pub value: Value,
    /// Line in its file, from 1; 0 for a computed option.
    pub line: usize,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::No => write!(f, "# CONFIG_{} is not set", self.symbol),
            value => write!(f, "CONFIG_{}={value}", self.symbol),
        }
    }
}

/// A configuration in file order, without duplicate symbols.
#[derive(Clone, Debug, Default)]
pub struct DotConfig {
    entries: Vec<Entry>,
    index: BTreeMap<String, usize>,
}

impl DotConfig {
    /// Parses a configuration, without comments and empty lines; errors name `file`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a line that is neither option nor comment, and for a duplicate symbol.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut config = Self::default();
        for (number, line) in text.lines().enumerate() {
            if let Some(entry) = parse_line(file, number + 1, line)? {
                config.add(file, entry)?;
            }
        }
        Ok(config)
    }

    fn add(&mut self, file: &str, entry: Entry) -> Result<()> {
        if let Some(&first) = self.index.get(&entry.symbol) {
            let why = format!("CONFIG_{} is already set on line {}", entry.symbol, self.entries[first].line);
            return Err(bad_line(file, entry.line, &why));
        }
        self.index.insert(entry.symbol.clone(), self.entries.len());
        self.entries.push(entry);
        Ok(())
    }

    /// A configuration of `entries`. Of duplicates the last stays, at its place: Kconfig keeps the last member of a choice
    /// that it reads.
    #[must_use]
    pub fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut config = Self::default();
        let mut slots: Vec<Option<Entry>> = Vec::new();
        for entry in entries {
            if let Some(old) = config.index.insert(entry.symbol.clone(), slots.len()) {
                slots[old] = None;
            }
            slots.push(Some(entry));
        }
        config.entries = slots.into_iter().flatten().collect();
        config.index = config.entries.iter().enumerate().map(|(i, e)| (e.symbol.clone(), i)).collect();
        config
    }

    /// The options in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns the value of `symbol`; `No` when it is absent.
    #[must_use]
    pub fn get(&self, symbol: &str) -> &Value {
        self.index.get(symbol).map_or(&Value::No, |&i| &self.entries[i].value)
    }
}

impl fmt::Display for DotConfig {
    /// In the syntax of Kconfig, one option per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

/// Parses one line. Returns `None` for an empty line or a comment. A comment that looks like an option (`# CONFIG_X is off`)
/// is an error: Kconfig would silently ignore it.
///
/// # Errors
/// [`Class::BadInput`] with file and line.
pub fn parse_line(file: &str, line: usize, text: &str) -> Result<Option<Entry>> {
    let text = text.trim_end();
    if let Some(rest) = text.strip_prefix("# CONFIG_") {
        let Some(symbol) = rest.strip_suffix(" is not set").filter(|s| is_symbol(s)) else {
            return Err(bad_line(file, line, "a comment looks like an option; write `# CONFIG_X is not set`"));
        };
        return Ok(Some(Entry { symbol: symbol.to_owned(), value: Value::No, line }));
    }
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let option = text.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='));
    let Some((symbol, value)) = option.filter(|(symbol, _)| is_symbol(symbol)) else {
        return Err(bad_line(file, line, &format!("`{text}` is neither `CONFIG_X=value` nor a comment")));
    };
    let value = parse_value(value).map_err(|why| bad_line(file, line, &why))?;
    Ok(Some(Entry { symbol: symbol.to_owned(), value, line }))
}

fn is_symbol(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn parse_value(text: &str) -> Result<Value, String> {
    match text {
        "y" => Ok(Value::Yes),
        "m" => Ok(Value::Module),
        "n" => Err("write `# CONFIG_X is not set` instead of `=n`".to_owned()),
        _ if text.starts_with('"') => unquote(text).map(Value::Text),
        _ if is_number(text) => Ok(Value::Number(text.to_owned())),
        _ => Err(format!("invalid value `{text}`: expected y, m, a number or \"text\"")),
    }
}

fn is_number(text: &str) -> bool {
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn unquote(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).ok_or("missing closing quote")?;
    let mut out = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Err("a quote inside a string needs a backslash".to_owned()),
            '\\' => out.push(chars.next().ok_or("missing closing quote")?),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn bad_line(file: &str, line: usize, why: &str) -> Error {
    Error::new(Class::BadInput, "a kernel configuration file is malformed").file(format!("{file}:{line}")).why(why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<DotConfig> {
        DotConfig::parse("a.config", text)
    }

    #[test]
    fn parses_every_kind_of_value() -> Result<()> {
        let config = read(concat!(
            "#\n# Automatically generated\n#\n\nCONFIG_A=y\nCONFIG_B_2=m\n# CONFIG_C is not set\nCONFIG_N=-1\nCONFIG_H=0x1f\n",
            "CONFIG_S=\"a \\\"b\\\" \\\\\"\nCONFIG_E=\"\"\n"
        ))?;
        assert_eq!(config.get("A"), &Value::Yes);
        assert_eq!(config.get("B_2"), &Value::Module);
        assert_eq!(config.get("C"), &Value::No);
        assert_eq!(config.get("N"), &Value::Number("-1".into()));
        assert_eq!(config.get("H"), &Value::Number("0x1f".into()));
        assert_eq!(config.get("S"), &Value::Text("a \"b\" \\".into()));
        assert_eq!(config.get("E"), &Value::Text(String::new()));
        assert_eq!(config.get("ABSENT"), &Value::No);
        assert_eq!(config.entries()[1].line, 6);
        Ok(())
    }

    #[test]
    fn refuses_what_kconfig_would_ignore() {
        for (text, why) in [
            ("CONFIG_A=y\nCONFIG_A=m\n", "CONFIG_A is already set on line 1"),
            ("CONFIG_A=y\n# CONFIG_A is not set\n", "already set on line 1"),
            ("# CONFIG_A is off\n", "looks like an option"),
            ("# CONFIG_A=y\n", "looks like an option"),
            ("CONFIG_A=n\n", "is not set"),
            ("CONFIG_A\n", "neither"),
            ("A=y\n", "neither"),
            (" CONFIG_A=y\n", "neither"),
            ("CONFIG_=y\n", "neither"),
            ("CONFIG_A=yes\n", "invalid value"),
            ("CONFIG_A=\n", "invalid value"),
            ("CONFIG_A=0x\n", "invalid value"),
            ("CONFIG_A=\"a\n", "closing quote"),
            ("CONFIG_A=\"\n", "closing quote"),
            ("CONFIG_A=\"a\\\"\n", "closing quote"),
            ("CONFIG_A=\"a\"b\"\n", "backslash"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(error.class(), Class::BadInput, "{text}");
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert!(error.to_string().contains("a.config:"), "{error}");
        }
    }

    #[test]
    fn the_last_duplicate_wins_and_keeps_its_place() {
        let entry = |symbol: &str, value| Entry { symbol: symbol.into(), value, line: 0 };
        let merged = DotConfig::of([entry("A", Value::No), entry("B", Value::Yes), entry("A", Value::Yes)]);
        assert_eq!(merged.to_string(), "CONFIG_B=y\nCONFIG_A=y\n");
        assert_eq!(merged.get("A"), &Value::Yes);
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::No),
            Just(Value::Module),
            Just(Value::Yes),
            any::<i64>().prop_map(|n| Value::Number(n.to_string())),
            any::<u64>().prop_map(|n| Value::Number(format!("{n:#x}"))),
            "[ -~]*".prop_map(Value::Text),
        ]
    }

    proptest! {
        #[test]
        fn printing_and_parsing_round_trips(options in proptest::collection::btree_map("[A-Za-z0-9_]{1,12}", value(), 0..20)) {
            let entries = options.into_iter().enumerate().map(|(i, (symbol, value))| Entry { symbol, value, line: i + 1 });
            let config = DotConfig::of(entries);
            let again = read(&config.to_string()).expect("what was printed is well-formed");
            prop_assert_eq!(again.entries(), config.entries());
        }

        #[test]
        fn no_input_makes_it_panic(text in "\\PC*") {
            let _ = read(&text);
        }
    }
}
