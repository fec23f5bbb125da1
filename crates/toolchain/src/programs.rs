//! `programs.toml`: Go programs (`imager/base/go/`: those of a base), and the flags that they are built with.

use std::collections::{BTreeMap, BTreeSet};

use common::{Class, Error, Result, path};
use serde::Deserialize;

/// Programs and the toolchain that compiles them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programs {
    /// Version of the Go toolchain, such as `1.24.3`.
    pub toolchain: String,
    /// The directories beside the file.
    #[serde(rename = "module")]
    pub modules: Vec<MainModule>,
}

/// A directory with `go.mod`, `go.sum` and `modules.sums`, and the programs that are built in it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MainModule {
    /// Name of the directory.
    pub name: String,
    /// Build tags of the programs that name none.
    #[serde(default)]
    tags: String,
    /// Embedded files that are replaced in all its programs.
    #[serde(default)]
    embed: BTreeMap<String, String>,
    /// Variables that are set in all its programs.
    #[serde(default)]
    stamps: BTreeMap<String, String>,
    /// The programs.
    #[serde(rename = "program")]
    pub programs: Vec<Program>,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// File name.
    pub name: String,
    /// Go package.
    pub package: String,
    /// Build tags, separated by commas; always set after [`Programs::parse`].
    pub tags: Option<String>,
    /// Microarchitecture level: `GOAMD64`.
    #[serde(default = "level")]
    pub amd64: String,
    /// Embedded files to replace: `<module>@<version>/<path>`, and the new content.
    #[serde(default)]
    pub embed: BTreeMap<String, String>,
    /// Variables of type string that the linker sets: `<package>.<name>`, and the value. All are those of the module.
    #[serde(skip)]
    pub stamps: BTreeMap<String, String>,
}

fn level() -> String {
    "v2".to_owned()
}

impl Programs {
    /// Parses the file; programs inherit tags, embedded files and variables of their module.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed TOML, an unknown key, and an invalid or duplicate name.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let bad = |why: String| Error::new(Class::BadInput, "the list of Go programs is malformed").file(file).why(why);
        let mut programs: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        programs.validate().map_err(bad)?;
        for module in &mut programs.modules {
            for program in &mut module.programs {
                program.tags.get_or_insert_with(|| module.tags.clone());
                let inherited = module.embed.iter().map(|(path, text)| (path.clone(), text.clone()));
                program.embed = inherited.chain(std::mem::take(&mut program.embed)).collect();
                program.stamps.clone_from(&module.stamps);
            }
        }
        Ok(programs)
    }

    fn validate(&self) -> Result<(), String> {
        word(&self.toolchain, b".")?;
        let mut names = BTreeSet::new();
        for module in &self.modules {
            word(&module.name, b"-")?;
            module.stamps.iter().try_for_each(stamp)?;
            for Program { name, package, tags, amd64, embed, stamps: _ } in &module.programs {
                word(name, b"-")?;
                if !names.insert(name) {
                    return Err(format!("duplicate program {name}"));
                }
                if !path::is_plain(package) || package.starts_with('-') {
                    return Err(format!("{package:?} is not a Go package"));
                }
                if !matches!(amd64.as_str(), "v1" | "v2" | "v3" | "v4") {
                    return Err(format!("unknown microarchitecture level {amd64:?} of {name}"));
                }
                tags.iter().chain([&module.tags]).flat_map(|tags| tags.split(',')).try_for_each(tag)?;
                for path in embed.keys().chain(module.embed.keys()) {
                    embedded(path)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the name of the toolchain's module with its version.
    #[must_use]
    pub fn toolchain_module(&self) -> String {
        format!("golang.org/toolchain@v0.0.1-go{}.linux-amd64", self.toolchain)
    }
}

fn word(text: &str, more: &[u8]) -> Result<(), String> {
    let fine = text.bytes().all(|c| c.is_ascii_alphanumeric() || more.contains(&c));
    let fine = fine && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if fine { Ok(()) } else { Err(format!("{text:?} is not a name or version")) }
}

fn tag(text: &str) -> Result<(), String> {
    let fine = text.bytes().all(|c| c.is_ascii_alphanumeric() || b"_.".contains(&c));
    if fine { Ok(()) } else { Err(format!("{text:?} is not a build tag")) }
}

/// A variable is `<package>.<name>`; it and its value are one word of the linker's flags each.
fn stamp((variable, value): (&String, &String)) -> Result<(), String> {
    let name = variable.rsplit_once('/').and_then(|(_, rest)| rest.split_once('.'));
    let fine = path::is_plain(variable) && name.is_some_and(|(_, name)| !name.is_empty());
    let plain = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-.:/_+".contains(&c));
    if fine && plain(variable) && plain(value) {
        return Ok(());
    }
    Err(format!("{variable:?} is not <package>.<variable>, or its value is not one word"))
}

/// The path of an embedded file starts with a module and its version.
fn embedded(path: &str) -> Result<(), String> {
    let file = path.split_once('@').and_then(|(_, rest)| rest.split_once('/'));
    let fine = path::is_plain(path) && file.is_some_and(|(version, _)| version.starts_with('v'));
    if fine { Ok(()) } else { Err(format!("{path:?} is not <module>@<version>/<path>")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
toolchain = "1.24.3"
[[module]]
name = "talos"
tags = "a,b"
[module.stamps]
"x.org/m/version.tag" = "v1.0.0"
[module.embed]
"x.org/m@v1.0.0/sha" = "ours"
[[module.program]]
name = "init"
package = "x.org/m/init"
amd64 = "v1"
[[module.program]]
name = "installer"
package = "x.org/m/installer"
tags = ""
[module.program.embed]
"x.org/m@v1.0.0/tag" = "v1-ours"
"#;

    #[test]
    fn programs_inherit_from_their_module() {
        let programs = Programs::parse("programs.toml", TEXT).unwrap();
        assert_eq!(programs.toolchain_module(), "golang.org/toolchain@v0.0.1-go1.24.3.linux-amd64");
        let [init, installer] = &programs.modules[0].programs[..] else { panic!() };
        assert_eq!((init.tags.as_deref(), init.amd64.as_str(), init.embed.len()), (Some("a,b"), "v1", 1));
        assert_eq!((installer.tags.as_deref(), installer.amd64.as_str(), installer.embed.len()), (Some(""), "v2", 2));
        assert_eq!(installer.embed["x.org/m@v1.0.0/sha"], "ours");
        assert_eq!(installer.stamps["x.org/m/version.tag"], "v1.0.0");
    }

    #[test]
    fn malformed_files_are_refused() {
        for (from, to, why) in [
            ("toolchain = \"1.24.3\"\n", "", "missing field `toolchain`"),
            ("toolchain = \"1.24.3\"", "toolchain = \"../1\"", "is not a name or version"),
            ("name = \"talos\"", "name = \"../talos\"", "is not a name or version"),
            ("name = \"init\"", "name = \"installer\"", "duplicate program installer"),
            ("name = \"init\"", "name = \"/init\"", "is not a name or version"),
            ("\"x.org/m/init\"", "\"-x\"", "is not a Go package"),
            ("\"x.org/m/init\"", "\"../m\"", "is not a Go package"),
            ("amd64 = \"v1\"", "amd64 = \"v9\"", "unknown microarchitecture level \"v9\""),
            ("amd64 = \"v1\"", "arm64 = \"v1\"", "unknown field `arm64`"),
            ("tags = \"a,b\"", "tags = \"a b\"", "\"a b\" is not a build tag"),
            ("x.org/m/version.tag", "x.org/m/version", "is not <package>.<variable>"),
            ("= \"v1.0.0\"", "= \"v1 -X a=b\"", "its value is not one word"),
            ("x.org/m@v1.0.0/tag", "x.org/m/tag", "is not <module>@<version>/<path>"),
            ("x.org/m@v1.0.0/sha", "x.org/m@v1.0.0/../sha", "is not <module>@<version>/<path>"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let error = Programs::parse("programs.toml", &TEXT.replacen(from, to, 1)).expect_err(to);
            assert!(error.to_string().contains(why), "{to}: {error}");
            assert_eq!(error.class(), Class::BadInput);
        }
    }

    /// The list of the toolchain's files has one version.
    #[test]
    fn the_programs_of_kubernetes_are_compiled_by_the_toolchain_of_the_base() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let [base, kubernetes] = ["imager/base/go", "tests/kubernetes"].map(|dir| {
            let file = format!("{dir}/programs.toml");
            Programs::parse(&file, &std::fs::read_to_string(root.join(&file)).unwrap()).unwrap()
        });
        assert_eq!(kubernetes.toolchain, base.toolchain);
        let kubelet = kubernetes.modules.iter().flat_map(|module| &module.programs).find(|one| one.name == "kubelet");
        assert_eq!(kubelet.unwrap().stamps["k8s.io/component-base/version.gitVersion"], "v1.33.1");
    }

    /// Go ignores the replacement of a file that does not exist: a new version in go.mod must be one here too.
    #[test]
    fn the_committed_programs_replace_files_of_the_listed_versions() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../imager/base/go");
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        let programs = Programs::parse("programs.toml", &read("programs.toml")).unwrap();
        let sums = |name: &str| lock::parse_go_sums(name, &read(&format!("{name}/modules.sums"))).unwrap();
        assert_eq!(sums("toolchain")[0].module(), (programs.toolchain_module(), true));
        for module in &programs.modules {
            let listed: BTreeSet<_> = sums(&module.name).iter().map(lock::ModuleFile::module).collect();
            let paths = module.programs.iter().flat_map(|program| program.embed.keys());
            for path in paths {
                let (name, rest) = path.split_once('@').unwrap();
                let version = format!("{name}@{}", rest.split('/').next().unwrap());
                assert!(listed.contains(&(version, true)), "{path}");
            }
        }
    }
}
