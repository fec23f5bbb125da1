use std::io::ErrorKind;
use std::path::Path;

use common::Result;
use proptest::prelude::*;

use crate::check::Dropped;
use crate::dotconfig::{DotConfig, Value, parse_line};
use crate::kconfig_tree::{Tree, parse};
use crate::profile::Profile;

const ROOT: &str = r#"
mainmenu "Linux"
cc-option = $(success,$(CC) -Werror $(1))
source "arch/$(SRCARCH)/Kconfig"

config MODVERSIONS
	bool "Versions" # trailing comment
	depends on MODULES
	help
	  A help text.

	  config NOT_A_SYMBOL
	  depends on NOTHING

config RUST
	bool "Rust support"
	depends on HAVE_RUST
	depends on !MODVERSIONS
	depends on !BTF || (PAHOLE && \
		!LTO)

config HIDDEN
	bool "Only for experts" if EXPERT
	default y

if NET
menu "Drivers"
	depends on PCI
	visible if !MINIMAL

config CARD
	tristate "A card"
	select HELPER if CARD2
	select LIBRARY

config BOARD
	bool "A board"

endmenu
endif # NET
"#;

const ARCH: &str = r#"
config HELPER
	bool

config LIBRARY
	tristate

config ORPHAN
	bool

config HUGETLB_PAGE
	def_bool HUGETLBFS

config NR_CPUS
	int "CPUs" if SMP
	range 2 NR_END if SMP
	range 1 1 if !SMP

choice
	prompt "Governor"
	default GOV_A

config GOV_A
	bool "a"

config GOV_B
	bool "b"
	depends on CPU_FREQ

endchoice

config DEEP
	bool "Deep"
	depends on MIDDLE

config MIDDLE
	bool "Middle"
	depends on BOTTOM && $(cc-option,-f(x))

config BOTTOM
	bool "Bottom"
	depends on 64BIT
"#;

/// Parses a tree of `files`, by path and text.
fn tree(files: &[(&str, &str)]) -> Result<Tree> {
    let find = |path: &str| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned());
    parse::read(&|path| find(path).ok_or_else(|| ErrorKind::NotFound.into()), "x86")
}

/// Explains `option` (a line of a fragment) under the configuration `resolved`.
fn explain(option: &str, resolved: &str) -> Result<String> {
    let resolved = DotConfig::parse(".config", resolved)?;
    let option = parse_line("f", 1, option)?.expect("an option");
    let got = resolved.get(&option.symbol).clone();
    let dropped = Dropped { symbol: option.symbol, requested: option.value, got, at: "f:1".into() };
    let tree = tree(&[("Kconfig", ROOT), ("arch/x86/Kconfig", ARCH)])?;
    Ok(tree.explain(&dropped, &resolved).join("\n"))
}

#[test]
fn names_the_unmet_dependency_and_its_value() -> Result<()> {
    let on = "CONFIG_HAVE_RUST=y\nCONFIG_MODVERSIONS=y\nCONFIG_BTF=y\nCONFIG_PAHOLE=y\n";
    assert_eq!(explain("CONFIG_RUST=y", on)?, "depends on !MODVERSIONS (Kconfig:18), and MODVERSIONS=y");
    let why = explain("CONFIG_RUST=y", "CONFIG_HAVE_RUST=y\nCONFIG_BTF=y\nCONFIG_PAHOLE=y\nCONFIG_LTO=y\n")?;
    assert_eq!(why, "depends on !BTF || PAHOLE && !LTO (Kconfig:19), and BTF=y, PAHOLE=y, LTO=y");
    Ok(())
}

#[test]
fn names_enclosing_ifs_and_menus() -> Result<()> {
    let why = explain("CONFIG_CARD=m", "")?;
    assert!(why.contains("depends on NET (Kconfig:26), and NET=n"), "{why}");
    assert!(why.contains("depends on PCI (Kconfig:28), and PCI=n"), "{why}");
    let why = explain("CONFIG_CARD=y", "CONFIG_NET=y\nCONFIG_PCI=m\n")?;
    assert!(why.contains("depends on PCI (Kconfig:28), and PCI=m"), "{why}");
    let why = explain("CONFIG_CARD=m", "CONFIG_NET=y\nCONFIG_PCI=y\nCONFIG_MINIMAL=y\n")?;
    assert_eq!(why, "its prompt is hidden unless !MINIMAL (Kconfig:29), and MINIMAL=y");
    Ok(())
}

#[test]
fn follows_dependencies_of_dependencies() -> Result<()> {
    let why = explain("CONFIG_DEEP=y", "")?;
    assert_eq!(
        why,
        "depends on MIDDLE (arch/x86/Kconfig:34), and MIDDLE=n\n  depends on BOTTOM (arch/x86/Kconfig:38), and BOTTOM=n\n    \
         depends on 64BIT (arch/x86/Kconfig:42), and 64BIT=n\n      no such symbol in this kernel; it was renamed, removed or misspelt"
    );
    Ok(())
}

#[test]
fn names_options_that_cannot_be_set() -> Result<()> {
    assert_eq!(explain("CONFIG_RUSTY=y", "")?, "no such symbol in this kernel; close to it: RUST");
    assert!(explain("CONFIG_NOT_A_SYMBOL=y", "")?.contains("no such symbol"));
    assert_eq!(explain("CONFIG_HELPER=y", "CONFIG_CARD=y\n")?, "it has no prompt; it is selected by CARD=y");
    assert_eq!(explain("CONFIG_ORPHAN=y", "")?, "it has no prompt and nothing selects it");
    assert_eq!(explain("CONFIG_HUGETLB_PAGE=y", "")?, "it has no prompt; its default is HUGETLBFS");
    assert!(
        explain("CONFIG_HIDDEN=y", "")?.starts_with("its prompt is hidden unless EXPERT (Kconfig:23), and EXPERT=n")
    );
    assert_eq!(explain("CONFIG_BOARD=m", "")?, "it is a bool: y or n, not m");
    Ok(())
}

#[test]
fn names_what_keeps_an_option_on() -> Result<()> {
    let on = "CONFIG_LIBRARY=m\nCONFIG_CARD=m\nCONFIG_NET=y\nCONFIG_PCI=y\n";
    assert_eq!(explain("# CONFIG_LIBRARY is not set", on)?, "it is selected by CARD (Kconfig:34)");
    assert!(explain("# CONFIG_HIDDEN is not set", "CONFIG_HIDDEN=y\n")?.contains("hidden unless EXPERT"));
    let why = explain("# CONFIG_GOV_A is not set", "CONFIG_GOV_A=y\n")?;
    assert_eq!(why, "it is the default of a choice where no other member is requested");
    Ok(())
}

#[test]
fn names_the_other_member_of_a_choice_and_a_range() -> Result<()> {
    let why = explain("CONFIG_GOV_B=y", "CONFIG_CPU_FREQ=y\nCONFIG_GOV_A=y\n")?;
    assert_eq!(why, "it is in a choice where GOV_A=y; request `# CONFIG_GOV_A is not set` as well");
    let why = explain("CONFIG_NR_CPUS=9000", "CONFIG_SMP=y\nCONFIG_NR_END=512\nCONFIG_NR_CPUS=512\n")?;
    assert_eq!(why, "9000 is outside the range 2 to 512 (arch/x86/Kconfig:16)");
    Ok(())
}

#[test]
fn malformed_trees_are_refused() {
    for (text, why) in [
        ("source \"gone/Kconfig\"\n", "gone/Kconfig"),
        ("source \"Kconfig\"\n", "loop"),
        ("config A\n\tdepends on (B\n", "line 2"),
        ("endif\n", "without its start"),
    ] {
        let error = tree(&[("Kconfig", text)]).expect_err(text);
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

proptest! {
    #[test]
    fn no_tree_makes_it_panic(text in "((config|if|endif|menu|choice|help|depends on|select|range|bool|\t|\n|A|B| |\"|'|\\(|\\$|&&|!|#|\\\\){0,3}\n?){0,40}") {
        if let Ok(tree) = tree(&[("Kconfig", text.as_str())]) {
            let dropped = Dropped { symbol: "A".into(), requested: Value::Yes, got: Value::No, at: "f:1".into() };
            prop_assert!(!tree.explain(&dropped, &DotConfig::default()).is_empty());
        }
    }
}

/// Every option in our fragments exists in the real tree: the gate cannot notice an unknown option that is turned off.
#[test]
fn the_real_tree_has_every_option_of_our_fragments() -> Result<()> {
    let Some(source) = skip::path("SOLANA_TALOS_KERNEL_SOURCE") else { return Ok(()) };
    let (tree, ours) = (Tree::read(&source, "x86")?, Path::new(env!("CARGO_MANIFEST_DIR")));
    for name in Profile::names(ours)? {
        for fragment in Profile::load(ours, &name)?.load_fragments(ours)? {
            let unknown: Vec<&str> = fragment
                .options()
                .map(|o| o.symbol.as_str())
                .filter(|symbol| !tree.symbols.contains_key(*symbol))
                .collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", fragment.file);
        }
    }
    Ok(())
}

/// The real tree and upstream's configuration.
#[test]
fn the_real_tree_explains_why_rust_is_dropped() -> Result<()> {
    let (Some(source), Some(config)) =
        (skip::path("SOLANA_TALOS_KERNEL_SOURCE"), skip::path("SOLANA_TALOS_UPSTREAM_CONFIG"))
    else {
        return Ok(());
    };
    let tree = Tree::read(&source, "x86")?;
    assert!(tree.symbols.len() > 15_000, "{}", tree.symbols.len());
    let resolved = DotConfig::parse("upstream", &fs_err::read_to_string(config)?)?;
    let dropped =
        |symbol: &str, requested| Dropped { symbol: symbol.into(), requested, got: Value::No, at: "f:1".into() };
    let why = tree.explain(&dropped("RUST", Value::Yes), &resolved);
    assert!(why.contains(&"depends on !MODVERSIONS (init/Kconfig:1978), and MODVERSIONS=y".to_owned()), "{why:?}");
    assert!(!why.iter().any(|line| line.contains("RANDSTRUCT")), "{why:?}");
    let why = tree.explain(&dropped("MEMORY_HOTPLUG_DEFAULT_ONLINE", Value::Yes), &resolved);
    assert!(why[0].starts_with("no such symbol"), "{why:?}");
    Ok(())
}
