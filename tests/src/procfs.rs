//! Parsers of the guest's `/proc` files.

use std::collections::BTreeMap;

/// `/proc/meminfo`: name to number, in the kernel's unit (kB, or pages for `HugePages_*`).
#[must_use]
pub fn meminfo(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            Some((name.to_owned(), rest.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// `/proc/modules`: names of the loaded modules.
#[must_use]
pub fn module_names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

/// `/proc/slabinfo`: cache name to active objects.
#[must_use]
pub fn slabs(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_lines() {
        let info = meminfo("MemTotal:       131072 kB\nHugePages_Total:   50000\nbroken\n");
        assert_eq!((info["MemTotal"], info["HugePages_Total"], info.len()), (131_072, 50_000, 2));
    }

    #[test]
    fn loaded_modules_by_whole_name() {
        let text = "solana_optimizer 40960 0 - Live 0x0000000000000000 (O)\nigb 300000 0 - Live 0x0\n";
        assert_eq!(module_names(text), ["solana_optimizer", "igb"]);
        assert!(module_names("").is_empty());
    }

    #[test]
    fn slab_counts() {
        let text =
            "slabinfo - version: 2.1\n# name <active_objs> <num_objs>\nkmalloc-64 120 128 64 64 1 : tunables 0 0 0\n";
        assert_eq!(slabs(text)["kmalloc-64"], 120);
    }
}
