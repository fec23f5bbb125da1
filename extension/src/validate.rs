//! All rules together, over a directory that holds an extension image's root.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use common::Result;
use contract::Lines;
use semver::Version;

use crate::manifest::Manifest;
use crate::modules::Module;
use crate::paths::{self, Found, Kind};
use crate::range::Range;
use crate::service::{self, Service};
use crate::violation::Violation;

/// Longest manifest and description of a service, in bytes; real ones have a few hundred.
const TEXT_LIMIT: u64 = 1 << 20;

/// What the extension is to be used with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The Talos release.
    pub talos: Version,
    /// The kernel's release string.
    pub kernel: String,
    /// What that release allows.
    pub rules: contract::Extension,
}

impl Target {
    /// The Talos `release`, such as `v1.10.3`, with a kernel of the release string `kernel`.
    ///
    /// The rules are those of the nearest known line: what is allowed has only ever grown.
    ///
    /// # Errors
    /// [`common::Class::BadInput`] when `release` is not a version.
    pub fn new(release: &str, kernel: String) -> Result<Self> {
        let talos = contract::version(release)?;
        let rules = Lines::supported()?.nearest(&talos)?.extension.clone();
        Ok(Self { talos, kernel, rules })
    }
}

/// An extension that breaks no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its services.
    pub services: Vec<Service>,
    /// Its kernel modules, by path in the booted system.
    pub modules: BTreeMap<String, Module>,
}

/// Checks the extension whose root is the directory `root`, holding `manifest.yaml` and `rootfs/`.
///
/// # Errors
/// [`common::Class::BadInput`] with every rule that is broken; otherwise what the file system reports.
pub fn validate(root: &Path, target: &Target) -> Result<Extension> {
    let found = paths::walk(root, "")?;
    let mut broken = Vec::new();
    let mut manifest = None;
    if let Some(entry) = found.iter().find(|entry| entry.path == "manifest.yaml" && entry.kind == Kind::File) {
        match text(&entry.host)?.and_then(|text| Manifest::check(&text)) {
            Ok(read) => manifest = Some(read),
            Err(why) => broken.push(Violation::new("manifest.yaml", why, "correct it")),
        }
    }
    let checked = check(&found, manifest.as_ref(), target, broken)?;
    match manifest {
        Some(manifest) if checked.broken.is_empty() => {
            Ok(Extension { manifest, services: checked.services, modules: checked.modules })
        }
        _ => Err(Violation::error(&checked.broken)),
    }
}

/// What the rules found.
pub(crate) struct Checked {
    pub(crate) broken: Vec<Violation>,
    services: Vec<Service>,
    modules: BTreeMap<String, Module>,
}

/// Applies every rule to `found`; `broken` are those known already.
pub(crate) fn check(
    found: &[Found],
    manifest: Option<&Manifest>,
    target: &Target,
    mut broken: Vec<Violation>,
) -> Result<Checked> {
    broken.extend(paths::check(found, &target.rules));
    broken.extend(manifest.and_then(|manifest| incompatible(manifest, &target.talos)));
    let services = services(found, &mut broken)?;
    let modules = modules(found, &target.kernel, &mut broken)?;
    broken.sort();
    Ok(Checked { broken, services, modules })
}

fn incompatible(manifest: &Manifest, talos: &Version) -> Option<Violation> {
    let text = &manifest.metadata.compatibility.talos.version;
    // A manifest whose range cannot be parsed does not get this far.
    let range = Range::check(text).ok()?;
    let problem = format!("it is for Talos {text}, not {talos}");
    (!range.holds(talos)).then(|| {
        Violation::new("manifest.yaml", problem, "change metadata.compatibility.talos.version, or the Talos version")
    })
}

fn services(found: &[Found], broken: &mut Vec<Violation>) -> Result<Vec<Service>> {
    let prefix = format!("rootfs/{}/", service::DIRECTORY);
    let mut services = Vec::new();
    for entry in found.iter().filter(|entry| entry.kind != Kind::Dir) {
        // Talos looks at the directory itself only, and passes over other names.
        let Some(stem) = entry.path.strip_prefix(&prefix).and_then(|name| name.strip_suffix(".yaml")) else { continue };
        if stem.contains('/') {
            continue;
        }
        if entry.kind != Kind::File {
            broken.push(Violation::new(&entry.path, "it is not a regular file", "put the service's description here"));
            continue;
        }
        match text(&entry.host)?.map_err(|why| vec![why]).and_then(|text| Service::parse(&text, stem)) {
            Ok(service) => services.push(service),
            Err(rules) => broken.extend(rules.into_iter().map(|why| Violation::new(&entry.path, why, "correct it"))),
        }
        let root = format!("rootfs/{}/{stem}", service::ROOTS);
        if !found.iter().any(|entry| entry.path == root && entry.kind == Kind::Dir) {
            broken.push(Violation::new(
                &entry.path,
                "the service has no root filesystem",
                format!("put it at {root}/"),
            ));
        }
    }
    Ok(services)
}

/// The text of the file at `path`, or why it is none.
fn text(path: &Path) -> Result<Result<String, String>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Ok(Err(format!("it is longer than {TEXT_LIMIT} bytes")));
    }
    Ok(String::from_utf8(bytes).map_err(|e| format!("it is not UTF-8 from byte {} on", e.utf8_error().valid_up_to())))
}

fn modules(found: &[Found], release: &str, broken: &mut Vec<Violation>) -> Result<BTreeMap<String, Module>> {
    let mut modules = BTreeMap::new();
    for entry in found.iter().filter(|entry| entry.kind == Kind::File) {
        let Some(path) = entry.path.strip_prefix("rootfs/usr/lib/modules/") else { continue };
        let mut say = |problem: String, fix: &str| broken.push(Violation::new(&entry.path, problem, fix));
        if path.split('/').next() != Some(release) {
            say(format!("it is not below usr/lib/modules/{release}"), "Talos has one kernel; build for it");
        } else if [".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|end| path.ends_with(end)) {
            say(
                "a compressed module cannot be checked".to_owned(),
                "put it in uncompressed; the layer is compressed as a whole",
            );
        } else if path.ends_with(".ko") {
            match Module::parse(&fs_err::read(&entry.host)?, release) {
                Ok(module) => _ = modules.insert(format!("/usr/lib/modules/{path}"), module),
                Err(why) => say(why, "build it for this kernel and sign it with the kernel's key"),
            }
        }
    }
    Ok(modules)
}
