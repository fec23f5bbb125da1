//! Reference tools read what we write. They are in the toolchain's root filesystem, the path in `SOLANA_TALOS_ROOTFS`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::path::Path;

use formats::{
    cpio,
    initramfs::{self as unpack},
    pe::Pe,
};
use fs_err as fs;
use imager::{initramfs, layers::Metadata, modules_dep, squashfs, uki};

mod support;
use support::{MTIME, kernel, put, sandbox, shell};

#[test]
fn cpio_archives_are_compatible_with_gnu_cpio() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut writer = cpio::Writer::default();
    writer.file("usr/lib/a", 0o640, b"hello".to_vec()).unwrap();
    writer.symlink("lib", "usr/lib").unwrap();
    fs::write(dir.path().join("ours"), writer.finish(MTIME)).unwrap();
    let list = shell(&sandbox, dir.path(), "cpio -itv --quiet <ours 2>&1; cpio -i --quiet --to-stdout usr/lib/a <ours");
    let last: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(last, ["usr/lib", "usr", "usr/lib", "usr/lib/a", "hello"], "{list}");
    assert!(list.contains("lib -> usr/lib"), "{list}");
    assert!(list.contains("-rw-r-----   1 root     root            5 Nov 14  2023 usr/lib/a"), "{list}");

    put(dir.path(), "tree/sub/file", "content");
    let theirs = "cd tree && find . | sort | cpio -o --quiet -H newc >../theirs && find . | sort | cpio -o --quiet -H crc >../crc";
    shell(&sandbox, dir.path(), theirs);
    for name in ["theirs", "crc"] {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let (members, _) = cpio::read(&bytes).unwrap();
        let file = members.iter().find(|m| m.path == "sub/file").unwrap();
        assert_eq!(file.content, b"content");
        assert!(members.iter().any(|m| m.path == "sub" && m.is_dir()), "{name}");
    }
}

#[test]
fn output_of_reference_compressors_is_read() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "tree/init", "x");
    let script = "cd tree; echo init | cpio -o --quiet -H newc >../plain; cd ..; \
                  xz --check=crc32 -c plain >all; zstd -q -19 -c plain >>all; gzip -nc plain >>all; printf '\\0\\0' >>all";
    shell(&sandbox, dir.path(), script);
    let listed = unpack::list(&fs::read(dir.path().join("all")).unwrap()).unwrap();
    use formats::Compression::{Gzip, Xz, Zstd};
    assert_eq!(listed.iter().map(|l| l.compression).collect::<Vec<_>>(), [Some(Xz), Some(Zstd), Some(Gzip)]);
    assert!(listed.iter().all(|l| l.path == "init" && l.size == 1));
}

#[test]
fn zstd_and_cpio_read_the_appended_archive() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut base = cpio::Writer::default();
    base.file("init", 0o755, b"i".to_vec()).unwrap();
    base.file("rootfs.sqsh", 0o644, b"hsqs".to_vec()).unwrap();
    let base = base.finish(0);
    let metadata = Metadata { name: "kernel-modules".into(), version: "1".into(), ..Metadata::default() };
    let layer = initramfs::Layer { metadata, image: b"hsqs layer".to_vec() };
    let additions = initramfs::Additions { layers: vec![layer], ..Default::default() };
    let image = initramfs::assemble(&base, additions, MTIME).unwrap();
    fs::write(dir.path().join("tail"), &image[base.len()..]).unwrap();
    let list = shell(
        &sandbox,
        dir.path(),
        "zstd -q -dc tail | cpio -it --quiet; zstd -q -dc tail | cpio -i --quiet --to-stdout extensions.yaml",
    );
    assert!(list.starts_with("0.sqsh\nextensions.yaml\nlayers:\n- image: 0.sqsh\n"), "{list}");
}

#[test]
fn layers_are_reproducible() {
    let Some(sandbox) = sandbox() else { return };
    let work = tempfile::tempdir().unwrap();
    let make = |name: &str, order: &[&str]| {
        let tree = work.path().join(name);
        order.iter().for_each(|path| put(&tree, path, path.repeat(3000)));
        put(&tree, "usr/lib/firmware/fw.bin", "firmware");
        squashfs::layer(&sandbox, &tree, Metadata::default(), work.path(), MTIME).unwrap()
    };
    let (one, firmware) = make("one", &["usr/lib/a", "usr/lib/b", "usr/local/c"]);
    let (two, _) = make("two", &["usr/local/c", "usr/lib/b", "usr/lib/a"]);
    assert_eq!(one.image, two.image);
    assert_eq!(firmware.keys().collect::<Vec<_>>(), ["usr/lib/firmware/fw.bin"]);
    put(work.path(), "layer.sqsh", &one.image);
    let list = shell(&sandbox, work.path(), "unsquashfs -lln layer.sqsh; unsquashfs -s layer.sqsh");
    assert!(list.contains("-rw-r--r-- 0/0") && list.contains("2023-11-14 22:13 squashfs-root/usr/lib/a"), "{list}");
    assert!(
        list.contains("Compression zstd") && list.contains("compression-level 18") && !list.contains("fw.bin"),
        "{list}"
    );
}

#[test]
fn depmod_covers_kernel_and_extension() {
    let Some(sandbox) = sandbox() else { return };
    let work = tempfile::tempdir().unwrap();
    let release = "6.12.117-talos";
    let compile = "printf 'int base; void f(void){}\\n' >b.c; printf 'extern int base; int *p(void){return &base;}\\n' >e.c; \
         printf '.section __ksymtab,\"a\"\\n.long 0\\n.section __ksymtab_strings,\"a\"\\n.globl __ksymtab_base\\n__ksymtab_base:\\n.asciz \"base\"\\n' >k.s; \
         clang -c b.c k.s e.c; ld.lld -r b.o k.o -o base.ko; cp e.o ext.ko";
    shell(&sandbox, work.path(), compile);
    let read = |name: &str| fs::read(work.path().join(name)).unwrap();
    let lists = |order: &[&str], name: &str| {
        let (kernel, extension) = (work.path().join(name).join("k"), work.path().join(name).join("e"));
        let at = |path: &str| format!("usr/lib/modules/{release}/{path}");
        for &path in order {
            put(&kernel, &at(path), read("base.ko"));
        }
        put(&kernel, &at("modules.order"), "kernel/base.ko\n");
        put(&kernel, &at("modules.builtin"), "kernel/fs/ext4/ext4.ko\n");
        put(&extension, &at("extras/ext.ko"), read("ext.ko"));
        put(&extension, &at("modules.dep"), "wrong");
        let out = work.path().join(name).join("out");
        fs::create_dir(&out).unwrap();
        modules_dep::tree(&sandbox, release, &[&kernel, &extension], &out)
            .unwrap()
            .join("usr/lib/modules")
            .join(release)
    };
    let one = lists(&["kernel/base.ko", "kernel/x/c.ko", "kernel/x/d.ko"], "one");
    let two = lists(&["kernel/x/d.ko", "kernel/x/c.ko", "kernel/base.ko"], "two");
    let dep = fs::read_to_string(one.join("modules.dep")).unwrap();
    assert!(dep.contains("extras/ext.ko:") && dep.contains("kernel/base.ko:"), "{dep}");
    let mut names: Vec<_> = fs::read_dir(&one).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert!(
        ["modules.dep.bin", "modules.builtin", "modules.builtin.bin", "modules.order"]
            .iter()
            .all(|n| names.contains(&(*n).into()))
    );
    for name in names {
        assert_eq!(fs::read(one.join(&name)).unwrap(), fs::read(two.join(&name)).unwrap(), "{name:?}");
    }
}

#[test]
fn ukify_writes_the_same_image() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let linux = kernel(&sandbox);
    let initrd = vec![b'i'; 70_001];
    let stub = fs::read(sandbox.rootfs().join("usr/lib/systemd/boot/efi/linuxx64.efi.stub")).unwrap();
    let parts = uki::UkiParts {
        os_release: "ID=talos\n",
        cmdline: "console=tty0",
        linux: &linux,
        initrd: &initrd,
        profile: "ID=main",
    };
    let ours = uki::build(&stub, &parts).unwrap();
    let found = uki::inspect(&ours).unwrap();
    assert_eq!(
        (found.uname, found.cmdline, found.linux, found.initrd),
        ("6.12.117-talos", "console=tty0", &linux[..], &initrd[..])
    );
    put(dir.path(), "linux", &linux);
    put(dir.path(), "initrd", &initrd);
    put(dir.path(), "osrel", "ID=talos\n");
    put(dir.path(), "ours", &ours);
    let ukify = "ukify build --linux linux --initrd initrd --os-release @osrel --cmdline console=tty0 --uname 6.12.117-talos \
         --section .profile:ID=main --sbat sbat,1 --stub /usr/lib/systemd/boot/efi/linuxx64.efi.stub --output theirs >&2; \
         objdump -h ours; llvm-readobj --file-headers ours >/dev/null";
    let dump = shell(&sandbox, dir.path(), ukify);
    // ukify rewrites the stub's .sbat with one more zero at its end.
    let mut theirs = fs::read(dir.path().join("theirs")).unwrap();
    let sbat = theirs.windows(5).position(|w| w == b".sbat").unwrap();
    assert_eq!(usize::from(theirs[sbat + 8]), found.sbat.len() + 1);
    theirs[sbat + 8] -= 1;
    let rows = |bytes: &[u8]| Pe::parse(bytes).unwrap().sections().to_vec();
    assert_eq!(rows(&ours), rows(&theirs));
    assert!(ours == theirs, "the images differ first at {:?}", ours.iter().zip(&theirs).position(|(a, b)| a != b));
    for name in [".sbat", ".osrel", ".cmdline", ".uname", ".linux", ".initrd", ".profile"] {
        assert!(dump.contains(name), "{dump}");
    }
}

#[test]
fn ukify_inspects_our_image() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let linux = kernel(&sandbox);
    let stub = fs::read(sandbox.rootfs().join("usr/lib/systemd/boot/efi/linuxx64.efi.stub")).unwrap();
    let parts = uki::UkiParts {
        os_release: "ID=talos\n",
        cmdline: "console=tty0",
        linux: &linux,
        initrd: b"initrd",
        profile: "ID=main",
    };
    let mut image = uki::build(&stub, &parts).unwrap();
    put(dir.path(), "image", &image);
    let inspect = |dir: &Path| shell(&sandbox, dir, "ukify inspect image --json=short");
    let before = inspect(dir.path());
    let digest = common::Sha256::of("initrd").to_string();
    assert!(before.contains(&digest) && before.contains("console=tty0"), "{before}");
    let at = image.windows(6).rposition(|w| w == b"initrd").unwrap();
    image[at] ^= 1;
    put(dir.path(), "image", &image);
    assert!(!inspect(dir.path()).contains(&digest));
}
