//! Did the kernel take what the fragments asked for? Kconfig drops what it cannot satisfy and says nothing; we say it.

use std::fmt;

use common::{Class, Error, Result};

use crate::dotconfig::{DotConfig, Value};
use crate::fragment::Asked;

/// An option that did not become what a fragment asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Name without `CONFIG_`.
    pub symbol: String,
    /// The value asked for.
    pub asked: Value,
    /// The value it has after `olddefconfig`.
    pub got: Value,
    /// Fragment and line that asked.
    pub at: String,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: CONFIG_{} was asked to be {} and is {}", self.at, self.symbol, self.asked, self.got)
    }
}

/// Every option of `asked` that is something else in `resolved`, in the order asked.
#[must_use]
pub fn dropped(asked: &[Asked], resolved: &DotConfig) -> Vec<Dropped> {
    let differs = |asked: &Asked| {
        let got = resolved.get(&asked.symbol);
        (*got != asked.value).then(|| Dropped {
            symbol: asked.symbol.clone(),
            asked: asked.value.clone(),
            got: got.clone(),
            at: asked.at.clone(),
        })
    };
    asked.iter().filter_map(differs).collect()
}

/// Fails when an option was dropped; `explain` says why, one reason a line (see [`crate::kconfig_tree::Tree::explain`]).
///
/// # Errors
/// [`Class::BuildFailed`] naming each option, where it was asked for, and what it depends on.
pub fn gate(asked: &[Asked], resolved: &DotConfig, explain: impl Fn(&Dropped) -> Vec<String>) -> Result<()> {
    let dropped = dropped(asked, resolved);
    let (Some(first), count) = (dropped.first(), dropped.len()) else {
        return Ok(());
    };
    let describe = |d: &Dropped| {
        let reasons = explain(d);
        std::iter::once(d.to_string()).chain(reasons.iter().map(|reason| format!("  {reason}"))).collect::<Vec<_>>()
    };
    let lines: Vec<String> = dropped.iter().flat_map(describe).collect();
    let options = if count == 1 { "1 option".to_owned() } else { format!("{count} options") };
    Err(Error::new(
        Class::BuildFailed,
        format!("the kernel's configuration dropped {options} that a fragment asks for"),
    )
    .file(&first.at)
    .why(lines.join("\n"))
    .hint("ask for what it depends on as well, or take the option out of the fragment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(symbol: &str, value: Value) -> Asked {
        Asked { symbol: symbol.into(), value, at: format!("f.config:{}", symbol.len()) }
    }

    #[test]
    fn only_a_difference_is_dropped() -> Result<()> {
        let resolved = DotConfig::parse(
            ".config",
            "CONFIG_Y=y\nCONFIG_M=m\n# CONFIG_OFF is not set\nCONFIG_N=5\nCONFIG_S=\"s\"\nCONFIG_MY=y\n",
        )?;
        let kept = [
            asked("Y", Value::Yes),
            asked("M", Value::Module),
            asked("OFF", Value::No),
            asked("GONE", Value::No),
            asked("N", Value::Number("5".into())),
            asked("S", Value::Text("s".into())),
        ];
        assert_eq!(dropped(&kept, &resolved), []);
        gate(&kept, &resolved, |_| Vec::new())?;
        for (symbol, value, got) in [
            ("OFF", Value::Yes, "n"),
            ("GONE", Value::Yes, "n"),
            ("MY", Value::Module, "y"),
            ("Y", Value::No, "y"),
            ("N", Value::Number("6".into()), "5"),
            ("S", Value::Text(String::new()), "\"s\""),
        ] {
            let found = dropped(&[asked(symbol, value)], &resolved);
            assert_eq!(found.iter().map(|d| d.got.to_string()).collect::<Vec<_>>(), [got], "{symbol}");
        }
        Ok(())
    }

    #[test]
    fn the_error_names_option_place_and_reason() {
        let error =
            gate(&[asked("RUST", Value::Yes)], &DotConfig::default(), |_| vec!["depends on !X, and X=y".into()])
                .expect_err("dropped");
        assert_eq!(error.class(), Class::BuildFailed);
        assert_eq!(
            error.to_string(),
            "the kernel's configuration dropped 1 option that a fragment asks for\n  file: f.config:4\n  \
             why: f.config:4: CONFIG_RUST was asked to be y and is n\n         depends on !X, and X=y\n  \
             hint: ask for what it depends on as well, or take the option out of the fragment"
        );
    }
}
