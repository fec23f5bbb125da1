//! Config fragments: options in documented blocks, and merging them into a base configuration.
//!
//! Empty lines separate blocks. A block is `# Title`, `# Why: …`, optionally `# Cost: …` and `# Source: …` (continued in
//! lines indented by three spaces after the `#`), then its options. The comments are data: `docs/kernel-options.md` is
//! generated from them.

use common::{Class, Error, Result};

use crate::dotconfig::{DotConfig, Entry, Value, parse_line};

/// One fragment file.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Path for messages, such as `fragments/solana.config`.
    pub file: String,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
}

/// Options that belong together, with the reason for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// A short heading.
    pub title: String,
    /// The reason. Never empty.
    pub why: String,
    /// What it costs; may be empty.
    pub cost: String,
    /// Where the reason comes from; may be empty.
    pub source: String,
    /// The options, at least one.
    pub options: Vec<Entry>,
}

impl Fragment {
    /// Parses a fragment; errors name `file`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a malformed option, a duplicate symbol, and a block without title, reason or options.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        DotConfig::parse(file, text)?;
        let lines: Vec<(usize, &str)> = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim_end())).collect();
        let blocks = lines.split(|(_, line)| line.is_empty()).filter(|block| !block.is_empty());
        let blocks = blocks.map(|lines| parse_block(file, lines)).collect::<Result<_>>()?;
        Ok(Self { file: file.to_owned(), blocks })
    }

    /// Every option with its line, in order.
    pub fn options(&self) -> impl Iterator<Item = &Entry> {
        self.blocks.iter().flat_map(|block| &block.options)
    }
}

fn parse_block(file: &str, lines: &[(usize, &str)]) -> Result<Block> {
    let bad = |line: usize, why: &str| {
        Err(Error::new(Class::BadInput, "a block in a config fragment is malformed")
            .file(format!("{file}:{line}"))
            .why(why)
            .hint("write `# Title`, `# Why: …`, optionally `# Cost: …` and `# Source: …`, then the options"))
    };
    let first = lines.first().map_or(0, |(line, _)| *line);
    let mut block = Block::default();
    let mut last = None;
    for &(number, line) in lines {
        if let Some(option) = parse_line(file, number, line)? {
            block.options.push(option);
        } else if block.options.is_empty() {
            if let Err(why) = comment(&mut block, &mut last, line) {
                return bad(number, why);
            }
        } else {
            return bad(number, "a comment follows the options; start a new block with an empty line");
        }
    }
    match () {
        () if block.title.is_empty() => bad(first, "the title is missing"),
        () if block.why.is_empty() => bad(first, "the reason (`# Why: …`) is missing"),
        () if block.options.is_empty() => bad(first, "the block has no option"),
        () => Ok(block),
    }
}

#[derive(Clone, Copy)]
enum Field {
    Why,
    Cost,
    Source,
}

/// Adds one comment line to `block`; `last` is the field that an indented line continues.
fn comment(block: &mut Block, last: &mut Option<Field>, line: &str) -> Result<(), &'static str> {
    let text = line.trim_start_matches('#');
    if text.starts_with("   ") {
        let field = field(block, last.ok_or("an indented line does not follow a field")?);
        field.push(' ');
        field.push_str(text.trim());
        return Ok(());
    }
    let keys = [("Why:", Field::Why), ("Cost:", Field::Cost), ("Source:", Field::Source)];
    let found = keys.iter().find_map(|(key, field)| Some((text.trim().strip_prefix(key)?, *field)));
    let (target, value) = match found {
        Some((value, key)) => {
            *last = Some(key);
            (field(block, key), value)
        }
        None => (&mut block.title, text),
    };
    if !target.is_empty() {
        return Err("duplicate title or field; indent continuation lines by three spaces");
    }
    target.push_str(value.trim());
    Ok(())
}

fn field(block: &mut Block, field: Field) -> &mut String {
    match field {
        Field::Why => &mut block.why,
        Field::Cost => &mut block.cost,
        Field::Source => &mut block.source,
    }
}

/// An option that a fragment requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Name without `CONFIG_`.
    pub symbol: String,
    /// The requested value.
    pub value: Value,
    /// Fragment and line, `fragments/solana.config:12`.
    pub at: String,
}

/// A base configuration with fragments merged into it.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The input of Kconfig.
    pub config: DotConfig,
    /// What must hold after Kconfig resolved it.
    pub requests: Vec<Request>,
}

/// Merges `fragments` into `base` in order; the last value of an option wins.
#[must_use]
pub fn merge(base: &DotConfig, fragments: &[Fragment]) -> Merged {
    let mut requests: Vec<Request> = Vec::new();
    for fragment in fragments {
        for option in fragment.options() {
            let (symbol, value) = (option.symbol.clone(), option.value.clone());
            let new = Request { symbol, value, at: format!("{}:{}", fragment.file, option.line) };
            match requests.iter_mut().find(|old| old.symbol == new.symbol) {
                Some(old) => *old = new,
                None => requests.push(new),
            }
        }
    }
    let options = fragments.iter().flat_map(Fragment::options);
    Merged { config: DotConfig::of(base.entries().iter().chain(options).cloned()), requests }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# Huge pages
# Why: the pool
#   and pods.
# Cost: none.
# Source: spec.
CONFIG_HUGETLBFS=y
# CONFIG_CMA is not set

# Other
# Why: b.
CONFIG_HZ=250
";

    #[test]
    fn parses_blocks_with_reason_cost_and_source() -> Result<()> {
        let fragment = Fragment::parse("f.config", GOOD)?;
        let block = &fragment.blocks[0];
        assert_eq!((block.title.as_str(), block.why.as_str()), ("Huge pages", "the pool and pods."));
        assert_eq!((block.cost.as_str(), block.source.as_str()), ("none.", "spec."));
        assert_eq!(
            fragment.options().map(ToString::to_string).collect::<Vec<_>>(),
            ["CONFIG_HUGETLBFS=y", "# CONFIG_CMA is not set", "CONFIG_HZ=250"]
        );
        assert_eq!(fragment.blocks[1].options[0].line, 11);
        Ok(())
    }

    #[test]
    fn malformed_blocks_are_refused() {
        for (text, why) in [
            ("CONFIG_A=y\n", "the title is missing"),
            ("# T\nCONFIG_A=y\n", "is missing"),
            ("# Why: w\nCONFIG_A=y\n", "the title is missing"),
            ("# T\n# Why: w\n", "no option"),
            ("# T\n# U\n# Why: w\nCONFIG_A=y\n", "duplicate"),
            ("# T\n# Why: w\n# Why: v\nCONFIG_A=y\n", "duplicate"),
            ("# T\n#   more\n# Why: w\nCONFIG_A=y\n", "indented line"),
            ("# T\n# Why: w\nCONFIG_A=y\n# late\n", "follows the options"),
            ("# T\n# Why: w\nCONFIG_A=y\n\n# U\n# Why: v\nCONFIG_A=m\n", "already set on line 3"),
        ] {
            let error = Fragment::parse("f.config", text).expect_err(text);
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(error.class(), Class::BadInput);
        }
    }

    #[test]
    fn the_last_fragment_wins() -> Result<()> {
        let base = DotConfig::parse("base", "CONFIG_HZ=100\nCONFIG_KEEP=y\n")?;
        let first = Fragment::parse("a.config", GOOD)?;
        let second = Fragment::parse("b.config", "# T\n# Why: w\nCONFIG_CMA=y\nCONFIG_HZ=250\n")?;
        let merged = merge(&base, &[first, second]);
        assert_eq!(merged.config.to_string(), "CONFIG_KEEP=y\nCONFIG_HUGETLBFS=y\nCONFIG_CMA=y\nCONFIG_HZ=250\n");
        assert_eq!(merged.requests[1], Request { symbol: "CMA".into(), value: Value::Yes, at: "b.config:3".into() });
        assert_eq!(merged.requests.len(), 3);
        Ok(())
    }
}
