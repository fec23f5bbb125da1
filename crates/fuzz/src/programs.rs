//! Targets for kernels, modules and programs, and for the comparison of files.

use formats::pe::Pe;
use formats::pe_append::{Appender, Kind};
use formats::{Budget, bzimage, elf, module_signature};
use inspect::compare;
use inspect::contents::signer;

/// PE images, unified kernel images and stubs: an appended section can be read back.
pub fn pe(data: &[u8]) {
    if let Ok(pe) = Pe::parse(data) {
        for section in pe.sections() {
            assert!(pe.content(section).len() <= data.len());
        }
        let _ = (pe.is_signed(), pe.is_nx());
    }
    let _ = imager::uki::inspect(data);
    if let Ok(image) = append(data) {
        let last = Pe::parse(&image).ok().and_then(|pe| pe.sections().last().map(|last| pe.content(last) == b"x"));
        assert_eq!(last, Some(true), "the appended section is missing");
    }
}

fn append(stub: &[u8]) -> common::Result<Vec<u8>> {
    let mut appender = Appender::new(stub)?;
    appender.add(".fuzz", Kind::Data, b"x")?;
    appender.clear_nx()?;
    appender.finish()
}

/// bzImages, and the configuration in a kernel.
pub fn kernel(data: &[u8]) {
    let _ = bzimage::release(data);
    let _ = bzimage::vmlinux(data, &mut Budget::default());
    let _ = bzimage::config(data, &mut Budget::default());
}

/// Modules: sections and signature.
pub fn module(data: &[u8]) {
    let _ = elf::dynamic(data);
    if let Some(sections) = elf::sections(data) {
        assert!(sections.iter().all(|section| section.range.end <= data.len()));
    }
    if let Some((_, message)) = module_signature::split(data) {
        let _ = signer(&data[message]);
    }
    let _ = signer(data);
    let _ = extension::modules::Module::parse(data, "6.12.117-talos");
}

/// Compares the halves of the input: a difference is reported exactly if they differ.
pub fn compare(data: &[u8]) {
    let (first, second) = data.split_at(data.len() / 2);
    let second = second.get(..first.len()).unwrap_or(second);
    assert_eq!(compare::bytes(first, second).is_none(), first == second);
}
