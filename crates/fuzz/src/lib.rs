//! One function per parser of untrusted data. It may reject its input; it must not panic, run long, use much memory or write elsewhere.
//!
//! `libfuzzer/` feeds them inputs derived from `corpus/` by coverage (`./x fuzz`); `cargo test` replays the corpus.

mod documents;
mod evidence;
pub mod foreign;
mod images;
mod programs;

/// A target: its name, also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 21] = [
    ("address", documents::address),
    ("attestation", documents::attestation),
    ("compare", programs::compare),
    ("cpio", images::cpio),
    ("dotconfig", documents::dotconfig),
    ("evidence", evidence::evidence),
    ("initramfs", images::initramfs),
    ("kernel", programs::kernel),
    ("keys", documents::keys),
    ("layer", images::layer),
    ("layout", images::layout),
    ("manifest", documents::manifest),
    ("module", programs::module),
    ("pe", programs::pe),
    ("record", documents::record),
    ("reference", documents::reference),
    ("registry", documents::registry),
    ("service", documents::service),
    ("squashfs", images::squashfs),
    ("tar", images::tar),
    ("yaml_layers", documents::yaml_layers),
];

/// Runs the target `name`; ignores unknown names.
pub fn run(name: &str, data: &[u8]) {
    if let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) {
        target(data);
    }
}
