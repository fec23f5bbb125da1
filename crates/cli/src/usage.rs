//! The command line as its help shows it.

use clap::{Arg, Command, CommandFactory as _};

use crate::Cli;

/// Global options that mean nothing to a verb. They are accepted, so that a script can give all verbs the same, but are not in its help.
const MEANINGLESS: [(&str, &[&str]); 13] = [
    ("attach", LOCAL),
    ("bundle", &["offline", "jobs", "verbose"]),
    ("cache", &["mirrors", "offline", "jobs", "verbose"]),
    ("fetch", &["jobs"]),
    ("inspect", REMOTE),
    ("keys", LOCAL),
    ("pull", REMOTE),
    ("push", &["cache", "mirrors", "jobs", "verbose"]),
    ("sign", LOCAL),
    ("toolchain", &["jobs"]),
    ("update", &["jobs"]),
    ("validate", &["cache", "mirrors", "offline", "jobs", "verbose"]),
    ("verify", LOCAL),
];

/// For verbs that only read and write the files they are given.
const LOCAL: &[&str] = &["project", "cache", "mirrors", "offline", "jobs", "verbose"];

/// For verbs that need a registry as well.
const REMOTE: &[&str] = &["project", "cache", "mirrors", "jobs", "verbose"];

/// Returns clap's definition of the command line.
#[must_use]
pub fn command() -> Command {
    let command = Cli::command();
    let globals: Vec<Arg> = command.get_arguments().filter(|option| option.is_global_set()).cloned().collect();
    MEANINGLESS.iter().fold(command, |command, (verb, meaningless)| {
        let hidden = globals.iter().filter(|option| meaningless.contains(&option.get_id().as_str()));
        let hidden: Vec<Arg> = hidden.map(|option| option.clone().hide(true)).collect();
        command.mut_subcommand(verb, |verb| verb.args(hidden))
    })
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn help(verb: &str) -> String {
        let mut command = command();
        command.build();
        let verb = verb.split(' ').fold(&mut command, |command, name| command.find_subcommand_mut(name).unwrap());
        verb.render_long_help().to_string()
    }

    #[test]
    fn the_definition_is_valid() {
        command().debug_assert();
        for (verb, options) in MEANINGLESS {
            let known = |option: &&str| Cli::command().get_arguments().any(|arg| *arg.get_id() == **option);
            assert!(Cli::command().find_subcommand(verb).is_some() && options.iter().all(known), "{verb}");
        }
    }

    #[test]
    fn help_shows_only_options_that_mean_something() {
        for (verb, shown, hidden) in [
            ("keys init", "--format", "--jobs"),
            ("inspect", "--offline", "--cache"),
            ("validate", "--project", "--mirror"),
            ("build", "--jobs", "--no-such-option"),
            ("kernel check", "--cache", "--out"),
        ] {
            let help = help(verb);
            assert!(help.contains(shown) && !help.contains(hidden), "{verb}: {help}");
        }
    }

    #[test]
    fn a_meaningless_option_is_accepted_before_and_after_the_verb() {
        let jobs = |words: &[&str]| {
            let matches = command().try_get_matches_from([&["solana-talos"], words].concat()).unwrap();
            format!("{:?}", Cli::from_arg_matches(&matches).unwrap().global)
        };
        for words in [&["keys", "show", "-j3"][..], &["keys", "-j3", "show"], &["-j3", "keys", "show"]] {
            assert!(jobs(words).contains("jobs: Some(3)"), "{}", jobs(words));
        }
        assert!(jobs(&["keys", "show"]).contains("jobs: None"));
    }
}
