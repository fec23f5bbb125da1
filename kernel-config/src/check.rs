//! Checks that the resolved configuration has what the fragments request: Kconfig silently drops options with unmet dependencies.

use std::fmt;

use common::{Class, Error, Result};

use crate::dotconfig::{DotConfig, Value};
use crate::fragment::Request;

/// An option whose resolved value differs from the one a fragment requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Name without `CONFIG_`.
    pub symbol: String,
    /// The requested value.
    pub requested: Value,
    /// The value after `olddefconfig`.
    pub got: Value,
    /// Fragment and line of the request.
    pub at: String,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: CONFIG_{}: requested {}, got {}", self.at, self.symbol, self.requested, self.got)
    }
}

/// Returns each of `requests` that has another value in `resolved`, in order.
#[must_use]
pub fn dropped(requests: &[Request], resolved: &DotConfig) -> Vec<Dropped> {
    let differs = |request: &Request| {
        let Request { symbol, value, at } = request.clone();
        let got = resolved.get(&symbol).clone();
        (got != value).then_some(Dropped { symbol, requested: value, got, at })
    };
    requests.iter().filter_map(differs).collect()
}

/// Fails when an option was dropped; `explain` returns the reasons, one per line (see [`crate::kconfig_tree::Tree::explain`]).
///
/// # Errors
/// [`Class::BuildFailed`] naming each option, where it is requested, and what it depends on.
pub fn gate(requests: &[Request], resolved: &DotConfig, explain: impl Fn(&Dropped) -> Vec<String>) -> Result<()> {
    let dropped = dropped(requests, resolved);
    let (Some(first), count) = (dropped.first(), dropped.len()) else {
        return Ok(());
    };
    let describe = |d: &Dropped| {
        let reasons = explain(d);
        std::iter::once(d.to_string()).chain(reasons.iter().map(|reason| format!("  {reason}"))).collect::<Vec<_>>()
    };
    let lines: Vec<String> = dropped.iter().flat_map(describe).collect();
    let options = if count == 1 { "1 option".to_owned() } else { format!("{count} options") };
    Err(Error::new(Class::BuildFailed, format!("the kernel configuration dropped {options} that a fragment requests"))
        .file(&first.at)
        .why(lines.join("\n"))
        .hint("request its dependencies as well, or remove the option from the fragment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(symbol: &str, value: Value) -> Request {
        Request { symbol: symbol.into(), value, at: format!("f.config:{}", symbol.len()) }
    }

    #[test]
    fn only_options_with_another_value_count_as_dropped() -> Result<()> {
        let resolved = DotConfig::parse(
            ".config",
            "CONFIG_Y=y\nCONFIG_M=m\n# CONFIG_OFF is not set\nCONFIG_N=5\nCONFIG_S=\"s\"\nCONFIG_MY=y\n",
        )?;
        let kept = [
            request("Y", Value::Yes),
            request("M", Value::Module),
            request("OFF", Value::No),
            request("GONE", Value::No),
            request("N", Value::Number("5".into())),
            request("S", Value::Text("s".into())),
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
            let found = dropped(&[request(symbol, value)], &resolved);
            assert_eq!(found.iter().map(|d| d.got.to_string()).collect::<Vec<_>>(), [got], "{symbol}");
        }
        Ok(())
    }

    #[test]
    fn the_error_names_option_fragment_line_and_reason() {
        let error =
            gate(&[request("RUST", Value::Yes)], &DotConfig::default(), |_| vec!["depends on !X, and X=y".into()])
                .expect_err("dropped");
        assert_eq!(error.class(), Class::BuildFailed);
        assert_eq!(
            error.to_string(),
            "the kernel configuration dropped 1 option that a fragment requests\n  file: f.config:4\n  \
             why: f.config:4: CONFIG_RUST: requested y, got n\n         depends on !X, and X=y\n  \
             hint: request its dependencies as well, or remove the option from the fragment"
        );
    }
}
