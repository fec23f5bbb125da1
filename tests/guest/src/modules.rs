//! Finds and loads kernel modules by name: `modules.dep`, `modules.builtin`, `modules.alias` (kmod's text formats) and finit_module(2).

use crate::{Result, cmdline};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The index that depmod wrote for one kernel release.
#[derive(Debug, Default)]
pub struct Index {
    root: PathBuf,
    files: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
    aliases: Vec<(String, String)>,
}

impl Index {
    /// Reads the index in `/usr/lib/modules/<release>`; it is empty for a kernel without modules.
    #[must_use]
    pub fn read(release: &str) -> Self {
        let root = Path::new("/usr/lib/modules").join(release);
        let text = |name: &str| std::fs::read_to_string(root.join(name)).unwrap_or_default();
        Self {
            files: parse_dep(&text("modules.dep")),
            builtin: text("modules.builtin").lines().map(module_name).collect(),
            aliases: parse_alias(&text("modules.alias")),
            root,
        }
    }

    /// Returns the files to load for `name`, dependencies first; `None` if the module does not exist.
    #[must_use]
    pub fn load_order(&self, name: &str) -> Option<Vec<&str>> {
        let name = name.replace('-', "_");
        if self.builtin.contains(&name) {
            return Some(Vec::new());
        }
        self.files.get(&name).map(|files| files.iter().rev().map(String::as_str).collect())
    }

    /// Returns the modules with an alias that matches a device's modalias.
    #[must_use]
    pub fn for_modalias(&self, modalias: &str) -> BTreeSet<&str> {
        let hit = self.aliases.iter().filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()));
        hit.map(|(_, name)| name.as_str()).collect()
    }
}

/// Parses `path/x.ko: path/y.ko path/z.ko`: the module's own file, then its dependencies, the deepest last.
fn parse_dep(text: &str) -> BTreeMap<String, Vec<String>> {
    text.lines()
        .filter_map(|line| {
            let (own, needs) = line.split_once(':')?;
            let files = std::iter::once(own).chain(needs.split_whitespace()).map(str::to_owned).collect();
            Some((module_name(own), files))
        })
        .collect()
}

/// Parses `alias <pattern> <module>` lines.
fn parse_alias(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["alias", pattern, name] => Some((pattern.to_owned(), name.to_owned())),
            _ => None,
        })
        .collect()
}

fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// Matches a shell pattern with `*` and `?`; aliases of PCI, virtio and CPU devices use no other wildcards.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| matches(rest, &text[skip..])),
        (Some((b'?', rest)), Some((_, tail))) => matches(rest, tail),
        (Some((p, rest)), Some((t, tail))) => p == t && matches(rest, tail),
        _ => false,
    }
}

/// Loads `name` and its dependencies. `parameters` override those of the kernel command line.
pub fn load(index: &Index, name: &str, parameters: &[String], cmdline: &str) -> Result<()> {
    let order = index.load_order(name).ok_or_else(|| format!("module {name} is not in {}", index.root.display()))?;
    let loaded = loaded();
    for (n, file) in order.iter().enumerate() {
        let own = module_name(file);
        if loaded.contains(&own) {
            continue;
        }
        let mut words = cmdline::module_parameters(cmdline, &own);
        if n + 1 == order.len() {
            words.extend_from_slice(parameters);
        }
        match load_file(&index.root.join(file), &words.join(" ")) {
            // EEXIST: loaded meanwhile as a dependency of another module.
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(err) => return Err(format!("{file}: {err}")),
        }
    }
    Ok(())
}

/// Calls finit_module(2).
pub fn load_file(path: &Path, parameters: &str) -> rustix::io::Result<()> {
    use rustix::fs::{Mode, OFlags, open};
    let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let parameters = std::ffi::CString::new(parameters).map_err(|_| rustix::io::Errno::INVAL)?;
    rustix::system::finit_module(&file, &parameters, 0)
}

/// Returns the names in `/proc/modules`.
#[must_use]
pub fn loaded() -> BTreeSet<String> {
    let text = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Loads the drivers of all devices by their modalias, as udev does at boot. Returns the errors.
#[must_use]
pub fn coldplug(index: &Index, cmdline: &str) -> Vec<String> {
    let mut wanted = BTreeSet::new();
    for modalias in modaliases(Path::new("/sys/devices")) {
        wanted.extend(index.for_modalias(modalias.trim()));
    }
    wanted.into_iter().filter_map(|name| load(index, name, &[], cmdline).err()).collect()
}

fn modaliases(dir: &Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_to_string(dir.join("modalias")).into_iter().collect();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(modaliases(&entry.path()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        Index {
            root: PathBuf::from("/m"),
            files: parse_dep("kernel/a-b.ko: kernel/c.ko kernel/d.ko\nextras/solana_optimizer.ko:\n"),
            builtin: ["kernel/fs/ext4/ext4.ko"].into_iter().map(module_name).collect(),
            aliases: parse_alias(
                "# comment\nalias pci:v00008086d000010C9sv*sd*bc*sc*i* igb\nalias char-major-10-235 autofs4\n",
            ),
        }
    }

    #[test]
    fn dependencies_come_first() {
        assert_eq!(index().load_order("a_b").unwrap(), ["kernel/d.ko", "kernel/c.ko", "kernel/a-b.ko"]);
        assert_eq!(index().load_order("solana-optimizer").unwrap(), ["extras/solana_optimizer.ko"]);
        assert!(index().load_order("ext4").unwrap().is_empty());
        assert!(index().load_order("absent").is_none());
    }

    #[test]
    fn modalias_selects_the_driver() {
        let index = index();
        assert!(index.for_modalias("pci:v00008086d000010C9sv00008086sd0000A02Bbc02sc00i00").contains("igb"));
        assert!(index.for_modalias("pci:v00008086d000010CAsv00008086sd0000A02Bbc02sc00i00").is_empty());
    }
}
