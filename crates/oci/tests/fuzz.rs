//! Random layers and damaged tars: an error or a consistent view, never a panic.
#![allow(clippy::unwrap_used, reason = "a test may stop at once")]

mod support;

use std::io::Read;

use oci::tarstream::{self, Item, ItemKind, Limits};
use oci::view::{Kind, View};
use proptest::prelude::*;
use support::RawTar;

const SMALL: Limits = Limits { entries: 50, file: 1 << 16, layer: 1 << 20, image: 2 << 20 };

fn item() -> impl Strategy<Value = Item> {
    let name = prop::sample::select(vec!["a", "b", "c", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.."]);
    let path = prop::collection::vec(name, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop::sample::select(vec!["a", "b", "../a", "/b/c", "../..", "c/../a", "."]);
    let kind = prop_oneof![
        (0_u64..9).prop_map(ItemKind::File),
        Just(ItemKind::Dir),
        target.prop_map(|target| ItemKind::Symlink(target.to_owned())),
        prop::sample::select(vec!["a", "b/c", "c"]).prop_map(|target| ItemKind::Hardlink(target.to_owned())),
        Just(ItemKind::Special),
    ];
    (path, kind).prop_map(|(path, kind)| Item { path, kind, mode: 0o755, absolute: false })
}

fn tar() -> Vec<u8> {
    RawTar::default()
        .dir("a/")
        .file("a/file", "hello")
        .entry(b'x', "pax", "", b"12 path=b/c\n")
        .file("short", "x")
        .entry(b'L', "long", "", &b"d/".repeat(80))
        .symlink("x", "../a")
        .hardlink("h", "a/file")
        .done()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Every parent in the view is a real directory: nothing can be written through a link or a file.
    #[test]
    fn a_view_keeps_its_invariant(layers in prop::collection::vec(prop::collection::vec(item(), 0..12), 1..4)) {
        let mut view = View::default();
        for (number, layer) in layers.iter().enumerate() {
            for (entry, item) in layer.iter().enumerate() {
                // Rejected entries are skipped here.
                let _ = view.add(number, entry as u64, item);
            }
        }
        let all: std::collections::BTreeMap<_, _> = view.iter().collect();
        for path in all.keys() {
            prop_assert!(!path.split('/').any(|part| matches!(part, "" | "." | "..") || part.starts_with(".wh.")), "{}", path);
            if let Some((parent, _)) = path.rsplit_once('/') {
                prop_assert_eq!(all.get(parent).map(|node| &node.kind), Some(&Kind::Dir), "{}", path);
            }
        }
    }

    #[test]
    fn a_damaged_tar_is_an_error_or_is_read(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8), fix in any::<bool>()) {
        let mut bytes = tar();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            // With a valid checksum the damaged fields are parsed.
            let block = at / 512 * 512;
            if fix && &bytes[block + 257..block + 262] == b"ustar" {
                let mut header = tar::Header::from_byte_slice(&bytes[block..block + 512]).clone();
                header.set_cksum();
                bytes[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let mut view = View::default();
        let _ = tarstream::read(bytes.as_slice(), SMALL, &mut |entry, item: &Item, data: &mut dyn Read| {
            let read = std::io::copy(data, &mut std::io::sink()).unwrap_or(0);
            assert!(read <= SMALL.file);
            view.add(0, entry, item)
        });
    }
}
