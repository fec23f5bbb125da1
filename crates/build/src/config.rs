//! `solana-talos.toml`: what a build makes, in one file. Each key is an option of `build` that changes the images.

use std::path::Path;

use common::{Class, Error, Result, Sha256};
use contract::DEFAULT_RELEASE;
use serde::Deserialize;
use toml::de::DeTable;

use crate::signing::{By, Chosen};
use crate::stages::base::{TALOS, TESTBED};
use crate::stages::kernel::SourceChoice;

/// Name of the file.
pub const FILE: &str = "solana-talos.toml";

/// Every key of the file.
pub const KEYS: [&str; 11] = [
    "profile",
    "preset",
    "base",
    "keys",
    "talos",
    "registry",
    "tag",
    "extra-kernel-args",
    "keep-installer",
    "source",
    "kernel-sha256",
];

/// Similarity from which a known key is suggested for an unknown one.
const SIMILAR: f64 = 0.8;

/// What a build makes. The default is the test build: what is made without a file and without options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Kernel profile.
    pub profile: String,
    /// Preset of boot arguments and settings.
    pub preset: String,
    /// Base of the installer; `None` for the default one.
    pub base: Option<String>,
    /// The keys that sign.
    pub keys: Chosen,
    /// Registry and organisation in the image names; `None` for the default one.
    pub registry: Option<String>,
    /// Tag in the image names; `None` for that of the Talos release.
    pub tag: Option<String>,
    /// Additional kernel arguments; `-NAME` removes one.
    pub extra: Vec<String>,
    /// Keep the base's installer program.
    pub keep_installer: bool,
    /// Origin of the kernel source.
    pub source: SourceChoice,
    /// SHA-256 of the kernel.org tarball, if the pin has none.
    pub kernel_sha256: Option<Sha256>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: "vm".to_owned(),
            preset: "spec".to_owned(),
            base: None,
            keys: Chosen::Fallback,
            registry: None,
            tag: None,
            extra: Vec::new(),
            keep_installer: false,
            source: SourceChoice::default(),
            kernel_sha256: None,
        }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    profile: Option<String>,
    preset: Option<String>,
    base: Option<String>,
    keys: Option<String>,
    talos: Option<String>,
    registry: Option<String>,
    tag: Option<String>,
    #[serde(default)]
    extra_kernel_args: Vec<String>,
    #[serde(default)]
    keep_installer: bool,
    #[serde(default)]
    source: SourceChoice,
    kernel_sha256: Option<Sha256>,
}

impl Config {
    /// Parses the text of the file `path`. Relative paths in it start at its directory.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed TOML, an unknown key, a missing one of those that tell a test build from another, or another release of Talos.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        check_keys(path, text)?;
        let written: Written = toml::from_str(text).map_err(|e| malformed(path).why(e.to_string().trim_end()))?;
        check_release(path, written.talos.as_deref())?;
        let dir = path.parent().unwrap_or(Path::new(""));
        let required =
            |key, value: Option<String>| value.filter(|text| !text.is_empty()).ok_or_else(|| missing(path, key));
        Ok(Self {
            profile: required("profile", written.profile)?,
            preset: required("preset", written.preset)?,
            base: Some(base(dir, required("base", written.base)?)),
            keys: keys(dir, required("keys", written.keys)?),
            registry: written.registry,
            tag: written.tag,
            extra: written.extra_kernel_args,
            keep_installer: written.keep_installer,
            source: written.source,
            kernel_sha256: written.kernel_sha256,
        })
    }
}

/// A path is relative to the file; image references have a tag or a digest.
fn base(dir: &Path, value: String) -> String {
    let named = [TALOS, TESTBED].contains(&value.as_str()) || value.contains([':', '@']);
    if named { value } else { dir.join(value).display().to_string() }
}

fn keys(dir: &Path, value: String) -> Chosen {
    match value.as_str() {
        "default" => Chosen::Default,
        "development" => Chosen::Development(By::File),
        _ => Chosen::Set(dir.join(value), By::File),
    }
}

fn malformed(path: &Path) -> Error {
    Error::new(Class::BadInput, "the build file is malformed").file(path)
}

/// Only a file that says all of this cannot turn into a test build by a forgotten line.
fn missing(path: &Path, key: &str) -> Error {
    let what = match key {
        "keys" => {
            "`keys = \"DIR\"`, `\"default\"` for the key set of `keys init`, or `\"development\"` for a test build"
        }
        "base" => "`base = \"talos\"`, or the base images",
        "preset" => "`preset = \"agave\"`, or another preset",
        _ => "`profile = \"metal\"` for servers, or `\"vm\"`",
    };
    malformed(path).why(format!("it has no `{key}`, and a build file decides this itself")).hint(format!("add {what}"))
}

fn check_release(path: &Path, wanted: Option<&str>) -> Result<()> {
    match wanted.filter(|wanted| *wanted != DEFAULT_RELEASE) {
        None => Ok(()),
        Some(wanted) => Err(Error::new(Class::BadInput, format!("cannot build for Talos {wanted:?}"))
            .file(path)
            .why(format!("this version of solana-talos builds for {DEFAULT_RELEASE}"))
            .hint(format!("use the version for that release, or write `talos = \"{DEFAULT_RELEASE}\"`"))),
    }
}

/// Refuses unknown keys with their place and the key that was probably meant.
fn check_keys(path: &Path, text: &str) -> Result<()> {
    let table = DeTable::parse(text).map_err(|e| malformed(path).why(e.to_string().trim_end()))?;
    let unknown = table.get_ref().keys().filter(|key| !KEYS.contains(&key.get_ref().as_ref()));
    let Some(first) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
    let (line, column) = position(text, first.span().start);
    let key = first.get_ref();
    Err(malformed(path).why(format!("line {line}, column {column}: unknown key `{key}`")).hint(suggestion(key)))
}

fn suggestion(unknown: &str) -> String {
    if unknown.starts_with("extension") {
        return "the installer takes no extension besides this project's: remove the key".to_owned();
    }
    let scored = KEYS.iter().map(|key| (strsim::jaro_winkler(unknown, key), key));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score >= SIMILAR) {
        Some((_, key)) => format!("did you mean `{key}`?"),
        None => format!("the keys are {}", KEYS.join(", ")),
    }
}

/// Returns the line and the column of a byte, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    (before.matches('\n').count() + 1, column + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
profile = "metal"
preset = "agave"
base = "talos"
keys = "keys"
talos = "v1.10.3"
registry = "ghcr.io/acme"
tag = "v1.10.3-agave.1"
extra-kernel-args = ["-quiet", "hugepages=1024"]
keep-installer = true
source = "upstream"
kernel-sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"#;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(Path::new("acme/solana-talos.toml"), text)
    }

    /// The text without the line of `key`, or with another value.
    fn with(key: &str, value: Option<&str>) -> String {
        let line = |line: &str| match (line.starts_with(&format!("{key} =")), value) {
            (false, _) => format!("{line}\n"),
            (true, Some(value)) => format!("{key} = {value}\n"),
            (true, None) => String::new(),
        };
        WHOLE.lines().map(line).collect()
    }

    fn refused(text: &str) -> String {
        let error = parse(text).expect_err(text);
        assert_eq!(error.class(), Class::BadInput);
        let shown = error.to_string();
        assert!(shown.contains("file: acme/solana-talos.toml"), "{shown}");
        shown
    }

    #[test]
    fn every_key_is_read() {
        assert!(KEYS.iter().all(|key| WHOLE.contains(&format!("\n{key} = "))));
        let expected = Config {
            profile: "metal".to_owned(),
            preset: "agave".to_owned(),
            base: Some("talos".to_owned()),
            keys: Chosen::Set("acme/keys".into(), By::File),
            registry: Some("ghcr.io/acme".to_owned()),
            tag: Some("v1.10.3-agave.1".to_owned()),
            extra: vec!["-quiet".to_owned(), "hugepages=1024".to_owned()],
            keep_installer: true,
            source: SourceChoice::Upstream,
            kernel_sha256: Some(Sha256::of("")),
        };
        assert_eq!(parse(WHOLE).unwrap(), expected);
    }

    #[test]
    fn what_tells_a_test_build_from_another_has_no_default() {
        for key in ["profile", "preset", "base", "keys"] {
            for text in [with(key, None), with(key, Some("\"\""))] {
                let shown = refused(&text);
                assert!(shown.contains(&format!("it has no `{key}`")) && shown.contains("hint: add `"), "{shown}");
            }
        }
        for key in KEYS.iter().filter(|key| !["profile", "preset", "base", "keys"].contains(*key)) {
            assert!(parse(&with(key, None)).is_ok(), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
        for (key, hint) in [
            ("presets", "did you mean `preset`?"),
            ("extra_kernel_arg", "did you mean `extra-kernel-args`?"),
            ("Profile", "did you mean `profile`?"),
            ("extensions", "the installer takes no extension besides this project's"),
            ("zzz", "the keys are profile, preset, base, keys, talos"),
        ] {
            let shown = refused(&format!("# a comment: ü\n{WHOLE}  {key} = 1\nlater = 2\n"));
            assert!(shown.contains(&format!("line 14, column 3: unknown key `{key}`")), "{shown}");
            assert!(shown.contains(hint), "{shown}");
        }
        assert!(refused(&format!("{WHOLE}[table]\nx = 1\n")).contains("unknown key `table`"));
    }

    #[test]
    fn a_value_of_another_type_is_refused_with_its_place() {
        for (key, value) in [
            ("profile", "1"),
            ("extra-kernel-args", "\"quiet\""),
            ("keep-installer", "\"yes\""),
            ("source", "\"gentoo\""),
            ("kernel-sha256", "\"12\""),
            ("tag", "\"unterminated"),
        ] {
            let shown = refused(&with(key, Some(value)));
            assert!(shown.contains("line ") && shown.contains("column ") && shown.contains(value), "{shown}");
        }
        assert!(refused(&format!("{WHOLE}tag = \"twice\"\n")).contains("duplicate key"));
    }

    #[test]
    fn paths_start_at_the_file() {
        let keys = |value| parse(&with("keys", Some(value))).unwrap().keys;
        assert_eq!(keys("\"/secure/keys\""), Chosen::Set("/secure/keys".into(), By::File));
        assert_eq!(keys("\"./default\""), Chosen::Set("acme/./default".into(), By::File));
        assert_eq!((keys("\"default\""), keys("\"development\"")), (Chosen::Default, Chosen::Development(By::File)));
        let base = |value| parse(&with("base", Some(value))).unwrap().base.unwrap();
        assert_eq!(base("\"base.oci\""), "acme/base.oci");
        assert_eq!(base("\"/b/base.tar\""), "/b/base.tar");
        assert_eq!(base("\"ghcr.io/a/b:v1,ghcr.io/a/c:v1\""), "ghcr.io/a/b:v1,ghcr.io/a/c:v1");
        assert_eq!(base("\"testbed\""), "testbed");
    }

    #[test]
    fn another_release_of_talos_is_refused() {
        for other in ["v1.13.0", "1.10.3", "v1.10"] {
            let shown = refused(&with("talos", Some(&format!("{other:?}"))));
            assert!(shown.contains("builds for v1.10.3"), "{shown}");
        }
    }
}
