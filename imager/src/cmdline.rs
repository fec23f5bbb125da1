//! Composes the kernel command line in Talos's order: platform, Talos's defaults, the preset, the user's arguments.

use std::fmt;

use common::memparse::memparse;
use common::{Class, Error, Result};
use contract::Arguments;

/// One boot argument: `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Text before the first `=`.
    pub key: String,
    /// Text after it; `None` without `=`, because the kernel distinguishes `key` from `key=`.
    pub value: Option<String>,
}

impl Argument {
    /// Parses one argument.
    ///
    /// # Errors
    /// [`Class::BadInput`] for an empty key, whitespace, quotes or characters that are not printable ASCII.
    pub fn parse(word: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(Class::BadInput, format!("invalid kernel argument {word:?}")).why(why);
        if !word.chars().all(|c| matches!(c, '!'..='~') && c != '"') {
            return Err(bad("expected one word of printable ASCII without quotes"));
        }
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        if key.is_empty() {
            return Err(bad("the name before '=' is empty"));
        }
        Ok(Self { key: key.to_owned(), value: value.map(str::to_owned) })
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.key),
            None => f.write_str(&self.key),
        }
    }
}

/// Checks that a finished command line has the arguments machined requires.
///
/// # Errors
/// [`Class::Verification`] with the missing argument.
pub fn verify(talos: &Arguments, line: &str) -> Result<()> {
    let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let line = Cmdline(words.into_iter().map(Argument::parse).collect::<Result<_>>()?);
    match talos.required.iter().find(|word| !line.has(word)) {
        None => Ok(()),
        Some(word) => Err(Error::new(Class::Verification, format!("the kernel argument {word} is missing"))
            .why(format!("the command line is: {line}"))),
    }
}

/// A whole command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmdline(Vec<Argument>);

impl Cmdline {
    /// Composes the command line. In `extra`, `-key` and `-key=value` remove earlier arguments, `console` and `talos.platform` replace
    /// earlier ones, all others are appended.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed arguments, for removing a required or an absent argument, and for a huge page count that the
    /// kernel would ignore.
    pub fn compose(talos: &Arguments, preset: &[Argument], extra: &[String]) -> Result<Self> {
        let fixed = talos.platform.iter().chain(&talos.defaults).map(|word| Argument::parse(word));
        let mut line = Self(fixed.collect::<Result<Vec<_>>>()?);
        line.0.extend_from_slice(preset);
        let extra = extra.iter().map(|word| Argument::parse(word)).collect::<Result<Vec<_>>>()?;
        for (at, argument) in extra.iter().enumerate() {
            let first = extra[..at].iter().all(|earlier| earlier.key != argument.key);
            if let Some(key) = argument.key.strip_prefix('-') {
                line.remove(key, argument.value.as_deref())?;
            } else if first && talos.overwrite.contains(&argument.key) {
                line.replace(argument);
            } else {
                line.0.push(argument.clone());
            }
        }
        line.check(&talos.required)?;
        Ok(line)
    }

    fn remove(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        let before = self.0.len();
        self.0.retain(|argument| {
            argument.key != key || value.is_some_and(|value| argument.value.as_deref() != Some(value))
        });
        if self.0.len() < before {
            return Ok(());
        }
        let word = value.map_or(key.to_owned(), |value| format!("{key}={value}"));
        Err(Error::new(Class::BadInput, format!("cannot remove kernel argument {word}: not on the command line"))
            .why(format!("the command line is: {self}")))
    }

    /// Replaces the first argument with the same key and removes the others.
    fn replace(&mut self, argument: &Argument) {
        let place = self.0.iter().position(|there| there.key == argument.key).unwrap_or(self.0.len());
        self.0.retain(|there| there.key != argument.key);
        self.0.insert(place, argument.clone());
    }

    fn check(&self, required: &[String]) -> Result<()> {
        if let Some(word) = required.iter().find(|word| !self.has(word)) {
            return Err(Error::new(Class::BadInput, format!("the kernel argument {word} is missing"))
                .why("Talos's machined refuses to start without it")
                .hint("do not remove it"));
        }
        self.check_huge_pages()
    }

    /// Whether the line contains `word`: `key=value`, or `key` with any value.
    fn has(&self, word: &str) -> bool {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        self.0.iter().any(|there| there.key == key && (value.is_none() || there.value.as_deref() == value))
    }

    /// `hugepages=` counts pages of the `hugepagesz=` before it. The kernel ignores a second count for the same size, and a repeated
    /// size however it is written, with only a line in its log (`mm/hugetlb.c`).
    fn check_huge_pages(&self) -> Result<()> {
        let mut sizes: Vec<Option<u64>> = vec![None];
        let mut counted = false;
        for argument in &self.0 {
            let value = argument.value.as_deref();
            let ignored = match argument.key.as_str() {
                "hugepagesz" => {
                    counted = false;
                    let size = value.map(memparse);
                    let twice = sizes.contains(&size);
                    sizes.push(size);
                    twice
                }
                "hugepages" => std::mem::replace(&mut counted, true),
                _ => false,
            };
            if ignored {
                return Err(Error::new(Class::BadInput, format!("the kernel would ignore {argument}"))
                    .why(format!("the command line is: {self}"))
                    .hint("remove the preset's arguments first: -hugepagesz -hugepages, then add your own pairs"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Cmdline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Line;

    const PLAIN: &str = "talos.platform=metal console=tty0 init_on_alloc=1 slab_nomerge= pti=on consoleblank=0 \
        nvme_core.io_timeout=4294967295 printk.devkmsg=on ima_template=ima-ng ima_appraise=fix ima_hash=sha512 selinux=1";

    fn talos() -> Arguments {
        Line::default_release().unwrap().arguments
    }

    fn compose(preset: &[&str], extra: &[&str]) -> Result<String> {
        let preset: Vec<_> = preset.iter().map(|word| Argument::parse(word).unwrap()).collect();
        let extra: Vec<_> = extra.iter().map(|&word| word.to_owned()).collect();
        Cmdline::compose(&talos(), &preset, &extra).map(|line| line.to_string())
    }

    #[test]
    fn arguments_are_in_talos_order() {
        assert_eq!(compose(&[], &[]).unwrap(), PLAIN);
        assert_eq!(compose(&["a=1"], &["b", "c="]).unwrap(), format!("{PLAIN} a=1 b c="));
    }

    #[test]
    fn extra_arguments_remove_and_replace() {
        let line = compose(&["a=1", "a=2"], &["-a=1", "-selinux", "console=ttyS0,115200", "console=tty1"]).unwrap();
        assert!(line.starts_with("talos.platform=metal console=ttyS0,115200 init_on_alloc=1"), "{line}");
        assert!(line.ends_with("ima_hash=sha512 a=2 console=tty1"), "{line}");
        assert!(compose(&[], &["-nothere"]).unwrap_err().to_string().contains("nothere"));
        assert!(compose(&["a=1"], &["-a=2"]).is_err());
    }

    #[test]
    fn required_arguments_cannot_be_removed() {
        for word in ["-pti", "-pti=on", "-slab_nomerge"] {
            assert!(compose(&[], &[word]).unwrap_err().to_string().contains("machined"), "{word}");
        }
        assert!(compose(&[], &["-pti", "pti=off"]).is_err());
        assert!(compose(&[], &["-pti", "pti=on"]).is_ok());
    }

    #[test]
    fn verify_finds_a_missing_required_argument() {
        assert!(verify(&talos(), PLAIN).is_ok());
        let broken = PLAIN.replace("pti=on", "pti=off");
        assert_eq!(verify(&talos(), &broken).unwrap_err().class(), Class::Verification);
    }

    #[test]
    fn ignored_huge_page_counts_are_rejected() {
        let preset = ["hugepagesz=2M", "hugepages=50000"];
        assert!(compose(&preset, &["hugepages=512"]).unwrap_err().to_string().contains("ignore hugepages=512"));
        assert!(compose(&preset, &["hugepagesz=2M", "hugepages=512"]).is_err());
        for other in ["2m", "2048K", "2097152", "0x200000", "010000000"] {
            let error = compose(&preset, &[&format!("hugepagesz={other}"), "hugepages=4"]).unwrap_err();
            assert!(error.to_string().contains(&format!("ignore hugepagesz={other}")), "{error}");
        }
        for different in ["1G", "2G", "0x2", "1024M"] {
            assert!(compose(&preset, &[&format!("hugepagesz={different}"), "hugepages=4"]).is_ok(), "{different}");
        }
        assert!(compose(&preset, &["-hugepagesz", "-hugepages", "hugepagesz=2M", "hugepages=512"]).is_ok());
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for bad in ["", "=1", "a b", "a\n", "a=\"b\"", "ä=1"] {
            assert!(Argument::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Argument::parse("a=b=c").unwrap().value.unwrap(), "b=c");
    }
}
