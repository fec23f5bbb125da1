//! Config fragments: options in documented blocks, and their merging over a base.
//!
//! A block is a run of lines without an empty one: `# Title`, `# Why: …`, optionally `# Price: …` and `# Source: …`
//! (each may go on in lines indented by three blanks after the `#`), then its options. The comments are data: the reference
//! in `docs/kernel-options.md` is made from them.

use common::{Class, Error, Result};

use crate::dotconfig::{DotConfig, Entry, Value, parse_line};

/// One fragment file.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Path to name in messages, e.g. `fragments/solana.config`.
    pub file: String,
    /// Its blocks, in order.
    pub blocks: Vec<Block>,
}

/// Options that belong together, and why they are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// A heading of some words.
    pub title: String,
    /// The reason. Never empty.
    pub why: String,
    /// What it costs; empty when nothing was noted.
    pub price: String,
    /// Where the reason comes from; empty when nothing was noted.
    pub source: String,
    /// The options, at least one.
    pub options: Vec<Entry>,
}

impl Fragment {
    /// Reads a fragment. `file` is named in errors.
    ///
    /// # Errors
    /// [`Class::BadInput`] for a malformed option, a symbol that stands twice, and a block without title, reason or options.
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
        Err(Error::new(Class::BadInput, "a block of a config fragment is malformed")
            .file(format!("{file}:{line}"))
            .why(why)
            .hint("a block is `# Title`, `# Why: …`, optionally `# Price: …` and `# Source: …`, then options"))
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
            return bad(number, "a comment stands after the options; leave an empty line before a new block");
        }
    }
    match () {
        () if block.title.is_empty() => bad(first, "it has no title"),
        () if block.why.is_empty() => bad(first, "it gives no reason (`# Why: …`)"),
        () if block.options.is_empty() => bad(first, "it has no option"),
        () => Ok(block),
    }
}

#[derive(Clone, Copy)]
enum Field {
    Why,
    Price,
    Source,
}

/// Takes one comment line into `block`; `last` is the field that an indented line goes on with.
fn comment(block: &mut Block, last: &mut Option<Field>, line: &str) -> Result<(), &'static str> {
    let text = line.trim_start_matches('#');
    if text.starts_with("   ") {
        let field = field(block, last.ok_or("an indented line without a field before it")?);
        field.push(' ');
        field.push_str(text.trim());
        return Ok(());
    }
    let keys = [("Why:", Field::Why), ("Price:", Field::Price), ("Source:", Field::Source)];
    let found = keys.iter().find_map(|(key, field)| Some((text.trim().strip_prefix(key)?, *field)));
    let (target, value) = match found {
        Some((value, key)) => {
            *last = Some(key);
            (field(block, key), value)
        }
        None => (&mut block.title, text),
    };
    if !target.is_empty() {
        return Err("a title or field stands twice; indent the lines that go on by three blanks");
    }
    target.push_str(value.trim());
    Ok(())
}

fn field(block: &mut Block, field: Field) -> &mut String {
    match field {
        Field::Why => &mut block.why,
        Field::Price => &mut block.price,
        Field::Source => &mut block.source,
    }
}

/// An option some fragment asked for, as the last of them left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Name without `CONFIG_`.
    pub symbol: String,
    /// The value that was asked for.
    pub value: Value,
    /// Fragment and line, `fragments/solana.config:12`.
    pub at: String,
}

/// A value that a later fragment replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// Name without `CONFIG_`.
    pub symbol: String,
    /// What the earlier fragment asked for, and where.
    pub was: (Value, String),
    /// What holds now, and where it stands.
    pub now: (Value, String),
}

/// A base with fragments laid over it.
#[derive(Clone, Debug)]
pub struct Merged {
    /// What Kconfig gets.
    pub config: DotConfig,
    /// What must hold after Kconfig resolved it.
    pub asked: Vec<Asked>,
    /// Where fragments disagreed.
    pub overrides: Vec<Override>,
}

/// Lays `fragments` over `base` in order; the later wins.
#[must_use]
pub fn merge(base: &DotConfig, fragments: &[Fragment]) -> Merged {
    let mut asked: Vec<Asked> = Vec::new();
    let mut overrides = Vec::new();
    for fragment in fragments {
        for option in fragment.options() {
            let (symbol, value) = (option.symbol.clone(), option.value.clone());
            let new = Asked { symbol, value, at: format!("{}:{}", fragment.file, option.line) };
            let Some(old) = asked.iter_mut().find(|old| old.symbol == new.symbol) else {
                asked.push(new);
                continue;
            };
            if old.value != new.value {
                overrides.push(Override {
                    symbol: new.symbol.clone(),
                    was: (old.value.clone(), old.at.clone()),
                    now: (new.value.clone(), new.at.clone()),
                });
            }
            *old = new;
        }
    }
    let options = fragments.iter().flat_map(Fragment::options);
    Merged { config: DotConfig::of(base.entries().iter().chain(options).cloned()), asked, overrides }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# Huge pages
# Why: the pool
#   and pods.
# Price: none.
# Source: spec.
CONFIG_HUGETLBFS=y
# CONFIG_CMA is not set

# Other
# Why: b.
CONFIG_HZ=250
";

    #[test]
    fn reads_blocks_with_reason_price_and_source() -> Result<()> {
        let fragment = Fragment::parse("f.config", GOOD)?;
        let block = &fragment.blocks[0];
        assert_eq!((block.title.as_str(), block.why.as_str()), ("Huge pages", "the pool and pods."));
        assert_eq!((block.price.as_str(), block.source.as_str()), ("none.", "spec."));
        assert_eq!(
            fragment.options().map(ToString::to_string).collect::<Vec<_>>(),
            ["CONFIG_HUGETLBFS=y", "# CONFIG_CMA is not set", "CONFIG_HZ=250"]
        );
        assert_eq!(fragment.blocks[1].options[0].line, 11);
        Ok(())
    }

    #[test]
    fn a_block_must_give_its_reason() {
        for (text, why) in [
            ("CONFIG_A=y\n", "no title"),
            ("# T\nCONFIG_A=y\n", "no reason"),
            ("# Why: w\nCONFIG_A=y\n", "no title"),
            ("# T\n# Why: w\n", "no option"),
            ("# T\n# U\n# Why: w\nCONFIG_A=y\n", "stands twice"),
            ("# T\n# Why: w\n# Why: v\nCONFIG_A=y\n", "stands twice"),
            ("# T\n#   more\n# Why: w\nCONFIG_A=y\n", "indented line"),
            ("# T\n# Why: w\nCONFIG_A=y\n# late\n", "after the options"),
            ("# T\n# Why: w\nCONFIG_A=y\n\n# U\n# Why: v\nCONFIG_A=m\n", "line 3 already"),
        ] {
            let error = Fragment::parse("f.config", text).expect_err(text);
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(error.class(), Class::BadInput);
        }
    }

    #[test]
    fn the_later_fragment_wins_and_it_is_recorded() -> Result<()> {
        let base = DotConfig::parse("base", "CONFIG_HZ=100\nCONFIG_KEEP=y\n")?;
        let first = Fragment::parse("a.config", GOOD)?;
        let second = Fragment::parse("b.config", "# T\n# Why: w\nCONFIG_CMA=y\nCONFIG_HZ=250\n")?;
        let merged = merge(&base, &[first, second]);
        assert_eq!(merged.config.to_string(), "CONFIG_KEEP=y\nCONFIG_HUGETLBFS=y\nCONFIG_CMA=y\nCONFIG_HZ=250\n");
        assert_eq!(
            merged.overrides,
            [Override {
                symbol: "CMA".into(),
                was: (Value::No, "a.config:7".into()),
                now: (Value::Yes, "b.config:3".into()),
            }]
        );
        assert_eq!(merged.asked[1], Asked { symbol: "CMA".into(), value: Value::Yes, at: "b.config:3".into() });
        assert_eq!(merged.asked.len(), 3);
        Ok(())
    }
}
