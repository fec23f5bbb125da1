//! Packs a tree into Talos's root filesystem image.

use std::path::Path;

use common::Result;
use common::sandbox::{Run, Sandbox};

/// Finishes the tree `/build/out/tree` and packs it into `/build/out/rootfs.sqsh`; `$1` is the time of every file.
///
/// SELinux labels are given to mksquashfs by name: setting them on files would need a privilege, and on some hosts a policy that knows them.
/// A label ends with a NUL, as setfiles(8) writes it.
const PACK: &str = r#"
cd /build/out/tree
systemd-hwdb --usr --root=/build/out/tree update
rm -r usr/lib/udev/hwdb.d
chmod -R u=rwX,go=rX .
label() {
    find . -type "$1" -printf '/%P\0' | LC_ALL=C sort -z | xargs -0 matchpathcon -N -m "$2" -f /build/file_contexts
}
{ label d dir; label f file; label l lnk_file; } |
    awk -F '\t' '$2 != "<<none>>" { printf "\"%s\" x security.selinux=0t%s\\000\n", $1, $2 }' >/build/out/labels
mksquashfs . /build/out/rootfs.sqsh -pf /build/out/labels -xattrs-exclude '^' -all-root -root-mode 0755 -noappend \
    -comp zstd -Xcompression-level 9 -mkfs-time "$1" -all-time "$1" -reproducible -exit-on-error -no-recovery -no-progress -quiet
"#;

/// Packs the directory `tree` in `dir` into `rootfs.sqsh` in `dir`, with the SELinux labels that the policy's `contexts` give its paths. Every
/// file is owned by root and has the time `epoch`, in seconds since 1970. `tree` is changed: the hardware database is compiled, modes are set.
///
/// # Errors
/// [`common::Class::BuildFailed`] if a program fails.
pub fn pack(sandbox: &Sandbox, dir: &Path, contexts: &Path, epoch: u64, on_line: &mut dyn FnMut(&str)) -> Result<()> {
    let run = Run::script(PACK, &[&epoch.to_string()]).read(contexts, "/build/file_contexts").write(dir, "/build/out");
    sandbox.run(&run, on_line)
}
