//! One function per parser of untrusted data. It may reject its input; it must not panic, run long, use much memory or write elsewhere.
//!
//! `libfuzzer/` feeds them inputs derived from `corpus/` by coverage (`./x fuzz`); `cargo test` replays the corpus.

mod documents;
mod evidence;
mod images_of;
mod programs;

/// A target: its name, which is that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 21] = [
    ("address", documents::address),
    ("attestation", documents::attestation),
    ("compare", programs::compare),
    ("cpio", images_of::cpio),
    ("dotconfig", documents::dotconfig),
    ("evidence", evidence::evidence),
    ("initramfs", images_of::initramfs),
    ("kernel", programs::kernel),
    ("keys", documents::keys),
    ("layer", images_of::layer),
    ("layout", images_of::layout),
    ("manifest", documents::manifest),
    ("module", programs::module),
    ("pe", programs::pe),
    ("record", documents::record),
    ("reference", documents::reference),
    ("registry", documents::registry),
    ("service", documents::service),
    ("squashfs", images_of::squashfs),
    ("tar", images_of::tar),
    ("yaml_layers", documents::yaml_layers),
];

/// Runs the target `name`; an unknown one does nothing.
pub fn run(name: &str, data: &[u8]) {
    if let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) {
        target(data);
    }
}
