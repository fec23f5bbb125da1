//! Compares two images by configuration, modules, packages, command line and files.

use std::collections::{BTreeMap, BTreeSet};

use common::Sha256;
use serde::Serialize;

use crate::contents::{Contents, File, Kind, Module, Uki};
use crate::report::{ImageReport, Report};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Name.
    pub name: String,
    /// Value in the first; `None` if missing there.
    pub first: Option<String>,
    /// Value in the second.
    pub second: Option<String>,
}

/// All differences, in groups; empty groups are omitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Words of the kernel command line, or the whole line if only their order differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command_line: Vec<Change>,
    /// Kernel release, unified kernel images, extensions, signers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub identity: Vec<Change>,
    /// How a container is started: entrypoint, environment, user, labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Change>,
    /// Options of the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Change>,
    /// Kernel modules, compared without their signatures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Change>,
    /// Packages of the SBOMs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Change>,
    /// Other files, and sections of unified kernel images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Change>,
    /// Modes, owners if known, links, devices, and directories that only one side has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Change>,
}

impl Changes {
    /// Returns the groups with their names.
    #[must_use]
    pub fn groups(&self) -> [(&'static str, &[Change]); 8] {
        [
            ("command line", &self.command_line),
            ("identity", &self.identity),
            ("settings", &self.settings),
            ("kernel configuration", &self.config),
            ("modules", &self.modules),
            ("packages", &self.packages),
            ("files", &self.files),
            ("modes and links", &self.attributes),
        ]
    }
}

/// Two images of one kind.
#[derive(Debug, Serialize)]
pub struct Pair {
    /// Purpose of both.
    pub kind: Kind,
    /// Name and digest of the first.
    pub first: String,
    /// Name and digest of the second.
    pub second: String,
    /// Whether the manifests are identical.
    pub equal: bool,
    /// Differences.
    pub changes: Changes,
}

/// Two layouts.
#[derive(Debug, Serialize)]
pub struct Diff {
    /// Images in both.
    pub pairs: Vec<Pair>,
    /// Images only in the first.
    pub only_first: Vec<String>,
    /// Images only in the second.
    pub only_second: Vec<String>,
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.only_first.is_empty() && self.only_second.is_empty() && self.pairs.iter().all(|pair| pair.equal)
    }
}

/// Compares two layouts image by image: images of the same kind, or the only ones.
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
            command_line: command_lines(x, y),
            identity: changes(&identity(a), &identity(b)),
            settings: changes(&x.settings, &y.settings),
            config: changes(&config(x), &config(y)),
            modules: modules(x, y),
            packages: changes(&packages(a), &packages(b)),
            files: files(x, y),
            attributes: attributes(x, y),
        },
    }
}

fn changes(first: &BTreeMap<String, String>, second: &BTreeMap<String, String>) -> Vec<Change> {
    compared(first, second, |value, _| value.clone())
}

/// Returns the differences, formatted by `shown`: shortened, or in full if the short forms are equal.
fn compared<V: PartialEq>(
    first: &BTreeMap<String, V>,
    second: &BTreeMap<String, V>,
    shown: impl Fn(&V, bool) -> String,
) -> Vec<Change> {
    let names: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    let new = |name: &String| {
        let (a, b) = (first.get(name), second.get(name));
        let show = |full| (a.map(|value| shown(value, full)), b.map(|value| shown(value, full)));
        let (short, full) = (show(false), || show(true));
        let (first, second) = if short.0 == short.1 { full() } else { short };
        Change { name: name.clone(), first, second }
    };
    names.into_iter().filter(|name| first.get(*name) != second.get(*name)).map(new).collect()
}

/// Formats a digest; 16 digits are enough unless someone made two collide.
fn digest(sha256: &Sha256, full: bool) -> String {
    let digits = sha256.to_string();
    if full { digits } else { digits[..16].to_owned() }
}

fn command_lines(first: &Contents, second: &Contents) -> Vec<Change> {
    let mut found = changes(&words(first), &words(second));
    let sorted = |line: &Option<String>| {
        let mut words: Vec<_> = line.iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect();
        words.sort();
        words
    };
    // Different words are reported already.
    let whole = changes(&lines(first), &lines(second)).into_iter();
    let whole = whole.filter(|change| sorted(&change.first) == sorted(&change.second));
    found.extend(whole.map(|change| Change { name: format!("{}the whole line", change.name), ..change }));
    found
}

/// Returns the prefix and the text of each command line.
fn lines(contents: &Contents) -> BTreeMap<String, String> {
    let line = |(at, uki): (usize, &Uki)| (prefix(at, uki), uki.command_line.clone());
    contents.ukis.iter().enumerate().map(line).collect()
}

fn prefix(at: usize, uki: &Uki) -> String {
    if at == 0 { String::new() } else { format!("{}: ", uki.path) }
}

/// Returns the words of the command lines; a repeated option, such as `console=`, is one word per value.
fn words(contents: &Contents) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for (at, uki) in contents.ukis.iter().enumerate() {
        let prefix = prefix(at, uki);
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
    for uki in &image.ukis {
        let signed = if uki.signed { "signed" } else { "not signed" };
        facts
            .insert(format!("uki {}", uki.path), format!("{}, {signed}", uki.os.as_deref().unwrap_or("no os-release")));
    }
    for extension in image.extensions.iter().chain(&image.manifest) {
        facts.insert(format!("extension {}", extension.name), extension.version.clone());
    }
    facts
}

fn config(contents: &Contents) -> BTreeMap<String, String> {
    contents.kernel().and_then(|kernel| kernel.config.clone()).unwrap_or_default()
}

fn modules(first: &Contents, second: &Contents) -> Vec<Change> {
    let list = |contents: &Contents| -> BTreeMap<String, (Sha256, bool)> {
        let what = |module: &Module| (module.sha256, module.signer.is_some());
        contents.modules.iter().map(|(path, module)| (path.clone(), what(module))).collect()
    };
    compared(&list(first), &list(second), |(sha256, signed), full| {
        format!("{}, {}", digest(sha256, full), if *signed { "signed" } else { "not signed" })
    })
}

fn packages(image: &ImageReport) -> BTreeMap<String, String> {
    image.sbom.as_ref().map(|sbom| sbom.packages.clone()).unwrap_or_default()
}

/// Returns the files that no other group covers. An archive is omitted if its differing members are reported and it could be read completely.
fn files(first: &Contents, second: &Contents) -> Vec<Change> {
    let list = |contents: &Contents| -> BTreeMap<String, File> {
        let other = |(path, _): &(&String, &File)| !contents.modules.contains_key(*path);
        let files = contents.files.iter().filter(other).chain(&contents.sections);
        files.map(|(path, file)| (path.clone(), file.clone())).collect()
    };
    let show = |file: &File, full| format!("{}, {} bytes", digest(&file.sha256, full), file.size);
    let all = compared(&list(first), &list(second), show);
    let modules = modules(first, second);
    let inner: BTreeSet<_> = all.iter().chain(&modules).map(|change| change.name.clone()).collect();
    let is_whole = |contents: &Contents, name: &str| contents.opened.contains(name) && !contents.partial.contains(name);
    let is_covered = |name: &str| {
        let inside = format!("{name}:");
        let is_inner = |next: &String| next.starts_with(&inside);
        is_whole(first, name) && is_whole(second, name) && inner.range(inside.clone()..).next().is_some_and(is_inner)
    };
    all.into_iter().filter(|change| !is_covered(&change.name)).collect()
}

/// Returns entries with different attributes, and entries other than files that only one side has.
fn attributes(first: &Contents, second: &Contents) -> Vec<Change> {
    let is_covered = |contents: &Contents, path: &str| {
        let inside = format!("{path}/");
        let mut below = contents.attributes.range(inside.clone()..).map(|(path, _)| path);
        contents.files.contains_key(path) || below.next().is_some_and(|next| next.starts_with(&inside))
    };
    let is_new = |change: &Change| match (&change.first, &change.second) {
        (Some(_), None) => !is_covered(first, &change.name),
        (None, _) => !is_covered(second, &change.name),
        _ => true,
    };
    changes(&first.attributes, &second.attributes).into_iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(digest: &str) -> Contents {
        let sha256 = digest.parse().unwrap();
        let file = |sha256| ("a".to_owned(), File { size: 1, sha256 });
        let module = ("a.ko".to_owned(), Module { release: None, sha256, signer: None, problem: None });
        Contents { files: [file(sha256)].into(), modules: [module].into(), ..Contents::default() }
    }

    /// The author of both images can create two files whose digests have the same prefix.
    #[test]
    fn digests_are_compared_in_full() {
        let (first, second) = (format!("{:0<64}", "ab"), format!("{:1<64}", "ab00000000000000"));
        let (a, b) = (contents(&first), contents(&second));
        assert_eq!(files(&a, &b)[0].second.as_deref(), Some(format!("{second}, 1 bytes").as_str()));
        assert_eq!(modules(&a, &b)[0].first.as_deref(), Some(format!("{first}, not signed").as_str()));
        assert!(files(&a, &contents(&first)).is_empty() && modules(&a, &contents(&first)).is_empty());
        let other = contents(&format!("{:0<64}", "cd"));
        assert_eq!(files(&a, &other)[0].first.as_deref(), Some("ab00000000000000, 1 bytes"));
    }

    /// A path may contain a colon without being inside another file.
    #[test]
    fn a_file_is_not_covered_by_its_neighbour() {
        let with = |digest: &str| {
            let mut contents = contents(&format!("{digest:0<64}"));
            contents.files.insert("a:b".to_owned(), contents.files["a"].clone());
            contents
        };
        let names = |a: &Contents, b: &Contents| files(a, b).into_iter().map(|change| change.name).collect::<Vec<_>>();
        let (mut a, mut b) = (with("ab"), with("cd"));
        assert_eq!(names(&a, &b), ["a", "a:b"]);
        a.opened.insert("a".to_owned());
        b.opened.insert("a".to_owned());
        assert_eq!(names(&a, &b), ["a:b"]);
        b.partial.insert("a".to_owned());
        assert_eq!(names(&a, &b), ["a", "a:b"], "not all of it could be read");
    }
}
