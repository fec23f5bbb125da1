//! The gate on `kernel-hardening-checker`: each finding is fixed or accepted with a written reason.

use std::collections::BTreeSet;
use std::fmt;

use common::{Class, Error, Result};
use serde::Deserialize;

/// Returns the arguments of `kernel-hardening-checker` for a JSON report on the resolved configuration `config`.
#[must_use]
pub fn arguments(config: &str) -> Vec<String> {
    ["-c", config, "-m", "json"].map(str::to_owned).into()
}

/// `hardening/ignore.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoreList {
    /// The entries.
    pub ignore: Vec<Ignore>,
}

/// An accepted finding.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ignore {
    /// The option as the checker prints it, with `CONFIG_`.
    pub option: String,
    /// Why it is accepted.
    pub reason: String,
    /// Profiles the entry applies to; all when absent.
    pub profiles: Option<Vec<String>>,
}

impl IgnoreList {
    /// Parses the list; errors name `file`.
    ///
    /// # Errors
    /// [`Class::BadInput`] for malformed TOML, an entry without a reason, and a duplicate option.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let bad =
            |why: String| Error::new(Class::BadInput, "the hardening ignore list is malformed").file(file).why(why);
        let list: Self = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        let mut seen = BTreeSet::new();
        for entry in &list.ignore {
            if entry.reason.trim().is_empty() {
                return Err(bad(format!("{} has no reason", entry.option)));
            }
            if !seen.insert(&entry.option) {
                return Err(bad(format!("duplicate entry for {}", entry.option)));
            }
        }
        Ok(list)
    }

    fn of_profile(&self, profile: &str) -> BTreeSet<&str> {
        let applies = |entry: &&Ignore| entry.profiles.as_ref().is_none_or(|names| names.iter().any(|n| n == profile));
        self.ignore.iter().filter(applies).map(|entry| entry.option.as_str()).collect()
    }
}

/// One check in the checker's JSON report, with the fields that we use.
#[derive(Clone, Debug, Deserialize)]
struct Finding {
    option_name: String,
    desired_val: String,
    check_result: String,
    check_result_bool: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} should be {}: {}", self.option_name, self.desired_val, self.check_result)
    }
}

/// Result of a configuration that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Checks that passed.
    pub passed: usize,
    /// Findings with a reason in the ignore list.
    pub ignored: usize,
}

/// Checks the `report` (JSON) on `profile` against the ignore `list`.
///
/// # Errors
/// [`Class::BuildFailed`] for a malformed or empty report, for findings that are not in the list, and for entries of the list that
/// are no longer found.
pub fn gate(report: &str, list: &IgnoreList, profile: &str) -> Result<Summary> {
    let fail = |what: &str, why: String| Error::new(Class::BuildFailed, what).why(why);
    let findings: Vec<Finding> = serde_json::from_str(report)
        .map_err(|e| fail("cannot parse the report of kernel-hardening-checker", e.to_string()))?;
    if findings.is_empty() {
        return Err(fail("the report of kernel-hardening-checker is empty", String::new()));
    }
    let failed: Vec<&Finding> = findings.iter().filter(|finding| !finding.check_result_bool).collect();
    let found: BTreeSet<&str> = failed.iter().map(|finding| finding.option_name.as_str()).collect();
    let ignored = list.of_profile(profile);

    let new = failed.iter().filter(|finding| !ignored.contains(finding.option_name.as_str())).map(ToString::to_string);
    let stale =
        ignored.difference(&found).map(|option| format!("{option} is in the ignore list, but is no longer found"));
    let problems: Vec<String> = new.chain(stale).collect();
    if problems.is_empty() {
        return Ok(Summary { passed: findings.len() - failed.len(), ignored: failed.len() });
    }
    Err(fail(&format!("kernel profile `{profile}` does not pass the hardening gate"), problems.join("\n"))
        .file("hardening/ignore.toml")
        .hint("set the option in fragments/hardening.config, or add a reason to the ignore list; remove stale entries"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[[ignore]]\noption = \"CONFIG_A\"\nreason = \"needed\"\n\
        [[ignore]]\noption = \"CONFIG_B\"\nreason = \"metal only\"\nprofiles = [\"metal\"]\n";

    fn report(failed: &[&str]) -> String {
        let check = |name: &&str| {
            let ok = !failed.contains(name);
            format!(
                "{{\"option_name\":\"{name}\",\"type\":\"kconfig\",\"desired_val\":\"y\",\"check_result\":\"{}\",\"check_result_bool\":{ok}}}",
                if ok { "OK" } else { "FAIL: is not found" }
            )
        };
        format!("[{}]", ["CONFIG_A", "CONFIG_B", "CONFIG_C"].iter().map(check).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn passes_when_every_finding_has_a_reason() -> Result<()> {
        let list = IgnoreList::parse("i.toml", LIST)?;
        assert_eq!(gate(&report(&["CONFIG_A"]), &list, "vm")?, Summary { passed: 2, ignored: 1 });
        assert_eq!(gate(&report(&["CONFIG_A", "CONFIG_B"]), &list, "metal")?, Summary { passed: 1, ignored: 2 });
        Ok(())
    }

    #[test]
    fn fails_on_a_new_finding_and_on_a_stale_entry() -> Result<()> {
        let list = IgnoreList::parse("i.toml", LIST)?;
        for (failed, profile, why) in [
            (&["CONFIG_A", "CONFIG_C"][..], "vm", "CONFIG_C should be y: FAIL: is not found"),
            (&["CONFIG_A", "CONFIG_B"], "vm", "CONFIG_B should be y"),
            (&["CONFIG_A"], "metal", "CONFIG_B is in the ignore list, but is no longer found"),
            (&[], "vm", "CONFIG_A is in the ignore list"),
        ] {
            let error = gate(&report(failed), &list, profile).expect_err(why);
            assert_eq!(error.class(), Class::BuildFailed);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(gate("[]", &list, "vm").is_err(), "a report without checks");
        assert!(gate("not json", &list, "vm").is_err());
        Ok(())
    }

    #[test]
    fn malformed_lists_are_refused() {
        for (text, why) in [
            ("[[ignore]]\noption = \"CONFIG_A\"\nreason = \" \"\n", "no reason"),
            ("[[ignore]]\noption = \"CONFIG_A\"\n", "missing field `reason`"),
            ("[[ignore]]\noption = \"A\"\nreason = \"r\"\n[[ignore]]\noption = \"A\"\nreason = \"r\"\n", "duplicate"),
            ("[[ignore]]\noption = \"A\"\nreason = \"r\"\nprofile = \"vm\"\n", "unknown field"),
        ] {
            let error = IgnoreList::parse("i.toml", text).expect_err(text);
            assert!(error.to_string().contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn our_list_parses() -> Result<()> {
        let list = IgnoreList::parse("hardening/ignore.toml", include_str!("../hardening/ignore.toml"))?;
        assert!(list.ignore.iter().all(|entry| entry.option.starts_with("CONFIG_")));
        Ok(())
    }

    /// Reports of the checker, written by `kernel harden --report DIR`; `SOLANA_TALOS_HARDENING_REPORTS` names the directory.
    #[test]
    fn our_profiles_pass_the_real_checker() -> Result<()> {
        let Some(dir) = skip::path("SOLANA_TALOS_HARDENING_REPORTS") else { return Ok(()) };
        let list = IgnoreList::parse("hardening/ignore.toml", include_str!("../hardening/ignore.toml"))?;
        for profile in ["vm", "metal"] {
            let report = dir.join(format!("{profile}.json"));
            let summary = gate(&fs_err::read_to_string(report)?, &list, profile)?;
            assert!(summary.passed > 150, "{profile}: {summary:?}");
        }
        Ok(())
    }
}
