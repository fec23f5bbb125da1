//! Validates a directory that contains the root of an extension image.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use common::{Class, Error, Result};
use semver::Version;

use crate::manifest::Manifest;
use crate::modules::Module;
use crate::paths::{self, Found, Kind};
use crate::range::Range;
use crate::service::{self, Service};
use crate::violation::Violation;

/// Maximum size of a manifest or service file in bytes; real ones have a few hundred.
const TEXT_LIMIT: u64 = 1 << 20;
/// Names that the error about something else than an extension shows.
const SHOWN: usize = 5;

/// Talos release and kernel that the extension must work with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The Talos release.
    pub talos: Version,
    /// Kernel release, such as `6.12.117-talos`.
    pub kernel: String,
    /// What the Talos release allows.
    pub rules: contract::Extension,
}

impl Target {
    /// Returns the target for the Talos `release` (such as `v1.10.3`) and the kernel release `kernel`.
    ///
    /// # Errors
    /// [`Class::BadInput`] when `release` is not a version, or the rules of its line are not known.
    pub fn new(release: &str, kernel: String) -> Result<Self> {
        let talos = contract::version(release)?;
        let rules = contract::Extension::of(&talos)?;
        Ok(Self { talos, kernel, rules })
    }
}

/// A valid extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Manifest.
    pub manifest: Manifest,
    /// Services.
    pub services: Vec<Service>,
    /// Kernel modules by path in the booted system.
    pub modules: BTreeMap<String, Module>,
}

/// Validates the extension in the directory `root`, which contains `manifest.yaml` and `rootfs/`.
///
/// # Errors
/// [`Class::UntrustedData`] with every violated rule; for a directory of something else only that it is not one.
pub fn validate(root: &Path, target: &Target) -> Result<Extension> {
    let found = paths::walk(root, "")?;
    refuse_others(&found)?;
    let mut violations = Vec::new();
    let mut manifest = None;
    if let Some(entry) = found.iter().find(|entry| entry.path == "manifest.yaml" && entry.kind == Kind::File) {
        match text(&entry.host)?.and_then(|text| Manifest::check(&text)) {
            Ok(read) => manifest = Some(read),
            Err(why) => violations.push(Violation::new("manifest.yaml", why, "correct it")),
        }
    }
    let checked = check(&found, manifest.as_ref(), target, violations)?;
    match manifest {
        Some(manifest) if checked.violations.is_empty() => {
            Ok(Extension { manifest, services: checked.services, modules: checked.modules })
        }
        _ => Err(Violation::error(Class::UntrustedData, &checked.violations)),
    }
}

/// Refuses what has neither part of an extension, such as a kernel image, in which every file would violate a rule.
fn refuse_others(found: &[Found]) -> Result<()> {
    if found.iter().any(|entry| entry.path == "manifest.yaml" || entry.path == "rootfs") {
        return Ok(());
    }
    let top = found.iter().filter(|entry| !entry.path.contains('/')).map(|entry| entry.path.as_str());
    let top: Vec<_> = top.take(SHOWN).collect();
    let there = if top.is_empty() { "it is empty".to_owned() } else { format!("it has {}", top.join(", ")) };
    Err(Error::new(Class::UntrustedData, "not a system extension")
        .why(format!("neither manifest.yaml nor rootfs/ is there; {there}"))
        .hint("give a system extension, such as _out/solana-optimizer.oci"))
}

/// Result of [`check`].
pub(crate) struct Checked {
    pub(crate) violations: Vec<Violation>,
    services: Vec<Service>,
    modules: BTreeMap<String, Module>,
}

/// Applies every rule to `found` and adds to `violations`.
pub(crate) fn check(
    found: &[Found],
    manifest: Option<&Manifest>,
    target: &Target,
    mut violations: Vec<Violation>,
) -> Result<Checked> {
    violations.extend(paths::check(found, &target.rules));
    violations.extend(manifest.and_then(|manifest| incompatible(manifest, &target.talos)));
    let services = services(found, &target.rules, &mut violations)?;
    let modules = modules(found, target, &mut violations)?;
    violations.sort();
    Ok(Checked { violations, services, modules })
}

fn incompatible(manifest: &Manifest, talos: &Version) -> Option<Violation> {
    let text = &manifest.metadata.compatibility.talos.version;
    // Manifest::check has already parsed the range.
    let range = Range::parse(text).ok()?;
    let problem = format!("requires Talos {text}, the target is {talos}");
    (!range.matches(talos)).then(|| {
        Violation::new("manifest.yaml", problem, "change metadata.compatibility.talos.version, or the Talos version")
    })
}

fn services(found: &[Found], rules: &contract::Extension, violations: &mut Vec<Violation>) -> Result<Vec<Service>> {
    let prefix = format!("rootfs/{}/", service::DIRECTORY);
    let mut services = Vec::new();
    for entry in found.iter().filter(|entry| entry.kind != Kind::Dir) {
        // Talos reads *.yaml in this directory only, not in subdirectories.
        let Some(stem) = entry.path.strip_prefix(&prefix).and_then(|name| name.strip_suffix(".yaml")) else { continue };
        if stem.contains('/') {
            continue;
        }
        if entry.kind != Kind::File {
            violations.push(Violation::new(&entry.path, "not a regular file", "replace it with the service file"));
            continue;
        }
        let parsed = text(&entry.host)?.map_err(|why| vec![why]);
        let on_host = match parsed.and_then(|text| Service::parse(&text, stem, rules.host_services)) {
            Ok(service) => {
                let on_host = service.runs_on_host();
                services.push(service);
                on_host
            }
            Err(rules) => {
                violations.extend(rules.into_iter().map(|why| Violation::new(&entry.path, why, "correct it")));
                false
            }
        };
        let root = format!("rootfs/{}/{stem}", service::ROOTS);
        if !on_host && !found.iter().any(|entry| entry.path == root && entry.kind == Kind::Dir) {
            violations.push(Violation::new(
                &entry.path,
                "the service's root filesystem is missing",
                format!("put it at {root}/"),
            ));
        }
    }
    Ok(services)
}

/// Reads the text file at `path`; the inner error is a violation.
fn text(path: &Path) -> Result<Result<String, String>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Ok(Err(format!("longer than {TEXT_LIMIT} bytes")));
    }
    Ok(String::from_utf8(bytes).map_err(|e| format!("invalid UTF-8 at byte {}", e.utf8_error().valid_up_to())))
}

fn modules(found: &[Found], target: &Target, violations: &mut Vec<Violation>) -> Result<BTreeMap<String, Module>> {
    let (release, below) = (&target.kernel, &target.rules.modules);
    let prefix = format!("rootfs/{below}/");
    let mut modules = BTreeMap::new();
    for entry in found.iter().filter(|entry| entry.kind == Kind::File) {
        let Some(path) = entry.path.strip_prefix(&prefix) else { continue };
        let mut add = |problem: String, fix: &str| violations.push(Violation::new(&entry.path, problem, fix));
        if path.split('/').next() != Some(release) {
            add(format!("not below {below}/{release}"), "build it for the kernel of this image");
        } else if [".ko.gz", ".ko.xz", ".ko.zst"].iter().any(|end| path.ends_with(end)) {
            add("compressed modules are not supported".to_owned(), "decompress it; the layer is compressed as a whole");
        } else if path.ends_with(".ko") {
            match Module::parse(&fs_err::read(&entry.host)?, release) {
                Ok(module) => _ = modules.insert(format!("/{below}/{path}"), module),
                Err(why) => add(why, "build it for this kernel and sign it with the kernel's key"),
            }
        }
    }
    Ok(modules)
}
