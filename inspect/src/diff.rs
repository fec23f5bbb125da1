//! How two images differ, in the terms of those who run them: configuration, modules, packages, command line, files.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::contents::{Contents, File, Kind, Module};
use crate::report::{ImageReport, Report};

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// What it is in the first; `None` where that lacks it.
    pub first: Option<String>,
    /// What it is in the second.
    pub second: Option<String>,
}

/// All that differs, in groups that are left out where nothing does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Words of the kernel command line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command_line: Vec<Change>,
    /// Kernel release, extensions, signers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identity: Vec<Change>,
    /// Options of the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Change>,
    /// Kernel modules, compared without their signatures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Change>,
    /// Packages of the bills of materials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Change>,
    /// Other files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Change>,
}

impl Changes {
    /// The groups with what they are called.
    #[must_use]
    pub fn groups(&self) -> [(&'static str, &[Change]); 6] {
        [
            ("command line", &self.command_line),
            ("identity", &self.identity),
            ("kernel configuration", &self.config),
            ("modules", &self.modules),
            ("packages", &self.packages),
            ("files", &self.files),
        ]
    }
}

/// Two images of one kind.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// What both are for.
    pub kind: Kind,
    /// Name and digest of the first.
    pub first: String,
    /// Name and digest of the second.
    pub second: String,
    /// Whether the manifests are the same, byte for byte.
    pub equal: bool,
    /// What differs.
    pub changes: Changes,
}

/// Two layouts.
#[derive(Debug, Serialize)]
pub struct Diff {
    /// Images that both have.
    pub pairs: Vec<Pair>,
    /// Images that only the first has.
    pub only_first: Vec<String>,
    /// Images that only the second has.
    pub only_second: Vec<String>,
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.only_first.is_empty() && self.only_second.is_empty() && self.pairs.iter().all(|pair| pair.equal)
    }
}

/// Compares what two layouts hold, image by image: those of one kind, or the only ones.
#[must_use]
pub fn diff(first: &(Report, Vec<Contents>), second: &(Report, Vec<Contents>)) -> Diff {
    let list = |side: &'_ (Report, Vec<Contents>)| -> Vec<usize> { (0..side.0.images.len()).collect() };
    let (mut left, mut right) = (list(first), list(second));
    let alone = left.len() == 1 && right.len() == 1;
    let mut pairs = Vec::new();
    left.retain(|&a| {
        let matches = |b: &usize| alone || first.0.images[a].kind == second.0.images[*b].kind;
        let Some(at) = right.iter().position(matches) else { return true };
        let b = right.remove(at);
        pairs.push(pair((&first.0.images[a], &first.1[a]), (&second.0.images[b], &second.1[b])));
        false
    });
    let names = |side: &Report, list: &[usize]| list.iter().map(|&at| label(&side.images[at])).collect();
    Diff { pairs, only_first: names(&first.0, &left), only_second: names(&second.0, &right) }
}

fn label(image: &ImageReport) -> String {
    format!("{}@{}", image.names.first().map_or("", String::as_str), image.digest.oci())
}

fn pair((a, x): (&ImageReport, &Contents), (b, y): (&ImageReport, &Contents)) -> Pair {
    Pair {
        kind: a.kind,
        first: label(a),
        second: label(b),
        equal: a.digest == b.digest,
        changes: Changes {
            command_line: changes(&words(x), &words(y)),
            identity: changes(&identity(a), &identity(b)),
            config: changes(&config(x), &config(y)),
            modules: changes(&modules(x), &modules(y)),
            packages: changes(&packages(a), &packages(b)),
            files: files(x, y),
        },
    }
}

fn changes(first: &BTreeMap<String, String>, second: &BTreeMap<String, String>) -> Vec<Change> {
    let names: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    let change = |name: &&String| first.get(*name) != second.get(*name);
    let new = |name: &String| Change {
        name: name.clone(),
        first: first.get(name).cloned(),
        second: second.get(name).cloned(),
    };
    names.into_iter().filter(change).map(new).collect()
}

/// Words of the command lines; one that is there twice, such as `console=`, is a word of its own with each value.
fn words(contents: &Contents) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for (at, uki) in contents.ukis.iter().enumerate() {
        let prefix = if at == 0 { String::new() } else { format!("{}: ", uki.path) };
        for word in uki.command_line.split_whitespace() {
            let times: &mut usize = seen.entry(format!("{prefix}{word}")).or_default();
            *times += 1;
        }
    }
    let times = |n: usize| if n == 1 { "there".to_owned() } else { format!("there {n} times") };
    seen.into_iter().map(|(word, n)| (word, times(n))).collect()
}

fn identity(image: &ImageReport) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::from([("kind".to_owned(), image.kind.name().to_owned())]);
    facts.extend(image.release.clone().map(|release| ("kernel release".to_owned(), release)));
    for signed in &image.modules.signers {
        let name = format!("module signer {} serial {}", signed.signer.issuer, signed.signer.serial);
        facts.insert(name, format!("{} with {}", signed.signer.signature, signed.signer.digest));
    }
    for certificate in &image.certificates {
        facts.insert(
            format!("certificate {} serial {}", certificate.subject, certificate.serial),
            certificate.key.oci(),
        );
    }
    for extension in image.extensions.iter().chain(&image.manifest) {
        facts.insert(format!("extension {}", extension.name), extension.version.clone());
    }
    facts
}

fn config(contents: &Contents) -> BTreeMap<String, String> {
    contents.kernel().and_then(|kernel| kernel.config.clone()).unwrap_or_default()
}

fn modules(contents: &Contents) -> BTreeMap<String, String> {
    let what = |module: &Module| {
        let digest = &module.sha256.to_string()[..16];
        let signed = if module.signer.is_some() { "signed" } else { "not signed" };
        format!("{digest}, {signed}")
    };
    contents.modules.iter().map(|(path, module)| (path.clone(), what(module))).collect()
}

fn packages(image: &ImageReport) -> BTreeMap<String, String> {
    image.sbom.as_ref().map(|sbom| sbom.packages.clone()).unwrap_or_default()
}

/// Files that no other group tells of. An archive whose members differ is told by them.
fn files(first: &Contents, second: &Contents) -> Vec<Change> {
    let list = |contents: &Contents| -> BTreeMap<String, String> {
        let show = |file: &File| format!("{}, {} bytes", &file.sha256.to_string()[..16], file.size);
        let other = |(path, _): &(&String, &File)| !contents.modules.contains_key(*path);
        contents.files.iter().filter(other).map(|(path, file)| (path.clone(), show(file))).collect()
    };
    let all = changes(&list(first), &list(second));
    let modules = changes(&modules(first), &modules(second));
    let inner: BTreeSet<_> = all.iter().chain(&modules).map(|change| change.name.clone()).collect();
    let is_told =
        |name: &str| inner.range(format!("{name}:")..).next().is_some_and(|next| next.starts_with(&format!("{name}:")));
    all.into_iter().filter(|change| !is_told(&change.name)).collect()
}
