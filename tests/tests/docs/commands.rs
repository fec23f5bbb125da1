//! Every command and option that the pages name is one that `solana-talos` or `./x` takes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Command;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use harness::pipelines;

use crate::pages::{all_pages, paragraphs, read, spans};

/// Verbs of `./x` that are not verbs of `solana-talos`.
const TASKS: [&str; 7] = ["bench", "corpus", "dist", "fuzz", "lint", "repro", "test"];

/// Options of other programs.
const OTHER_PROGRAMS: [(&str, &str); 6] = [
    ("cargo", "--locked"),
    ("cosign", "--allow-http-registry"),
    ("cosign", "--insecure-ignore-tlog"),
    ("cosign", "--local-image"),
    ("skopeo", "--remove-signatures"),
    ("Talos's imager", "--system-extension-image"),
];

/// Splits a shell line into simple commands and their words, without comments, quotes, redirections and `…`. Enough for the pages.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut quote, mut redirected) = (String::new(), None, false);
    for c in line.chars().chain([' ']) {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => word.push(c),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '#' && word.is_empty() => break,
            None if c.is_whitespace() || "|&;()<>".contains(c) => {
                let word = std::mem::take(&mut word);
                let descriptor = "<>".contains(c) && word.parse::<u32>().is_ok();
                if !["", "…"].contains(&word.as_str()) && !descriptor && !std::mem::take(&mut redirected) {
                    commands.last_mut().unwrap().push(word);
                }
                redirected |= "<>".contains(c);
                if "|&;()".contains(c) {
                    commands.push(Vec::new());
                }
            }
            None => word.push(c),
        }
    }
    commands.retain(|words| !words.is_empty());
    commands
}

/// Returns the shell lines of a page: those of blocks `sh`, and what follows `$` in blocks `console`.
fn shell_lines(page: &str) -> Vec<String> {
    let mut language = None;
    let mut lines: Vec<String> = Vec::new();
    let mut continues = false;
    for line in page.lines() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            language = if language.is_none() { Some(fence) } else { None };
            continue;
        }
        let line = match language {
            Some("sh") => line.trim(),
            Some("console") if continues => line.trim(),
            Some("console") if line.starts_with("$ ") => &line[2..],
            _ => continue,
        };
        let text = line.trim_end_matches('\\');
        match lines.last_mut().filter(|_| continues) {
            Some(started) => started.push_str(text),
            None => lines.push(text.to_owned()),
        }
        continues = line.ends_with('\\');
    }
    lines
}

/// Returns the words after the program, if `words` start one of ours.
fn arguments(words: &[String]) -> Option<&[String]> {
    let assigned = |word: &&String| word.contains('=') || *word == "sudo" || *word == "time";
    let words = &words[words.iter().take_while(assigned).count()..];
    let (program, arguments) = words.split_first()?;
    (program == "./x" || program.rsplit('/').next() == Some("solana-talos")).then_some(arguments)
}

/// Returns the arguments of every command of ours on a page. In prose, a verb may stand for its command.
fn commands(page: &str) -> Vec<Vec<String>> {
    let verbs: BTreeSet<String> = cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let inline = |span: &str| -> Vec<Vec<String>> {
        // A table escapes its bars.
        let words = simple_commands(&span.replace("\\|", "|"));
        let bare = |words: &Vec<String>| verbs.contains(&words[0]) && !span.contains(['|', '/', ',', '…']);
        let named =
            |words: &Vec<String>| arguments(words).map(<[_]>::to_vec).or_else(|| bare(words).then(|| words.clone()));
        words.iter().filter_map(named).collect()
    };
    let in_blocks = shell_lines(page).into_iter().flat_map(|line| simple_commands(&line));
    let in_blocks = in_blocks.filter_map(|words| arguments(&words).map(<[_]>::to_vec));
    in_blocks.chain(paragraphs(page).iter().flat_map(|text| spans(text)).flat_map(inline)).collect()
}

/// Returns why the tool or the task refuses `words`. Placeholders may stand for verbs and values, and required arguments may be left out.
fn refusal(words: &[String]) -> Option<Error> {
    let words = &words[words.iter().take_while(|word| *word == "--offline").count()..];
    let verb = words.first().filter(|verb| verb.starts_with(|c: char| c.is_ascii_lowercase()))?;
    let command = if TASKS.contains(&verb.as_str()) { xtask::command() } else { cli::command() };
    let error = command.try_get_matches_from(std::iter::once(&"tool".to_owned()).chain(words)).err()?;
    let without_value = error.get(ContextKind::InvalidValue) == Some(&ContextValue::String(String::new()));
    let shortened = match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayVersion
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::ValueValidation => true,
        ErrorKind::InvalidValue => without_value,
        _ => false,
    };
    (!shortened).then_some(error)
}

/// Returns `--name` of every option of `command` and its subcommands.
fn options(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|option| Some(format!("--{}", option.get_long()?)));
    own.chain(command.get_subcommands().flat_map(options)).chain(["--help", "--version"].map(str::to_owned)).collect()
}

/// Returns the options that `page` names alone in inline code.
fn named_options(page: &str) -> Vec<String> {
    let name = |span: &str| span.split([' ', '=', '[']).next().unwrap_or_default().to_owned();
    let names: Vec<_> = paragraphs(page).iter().flat_map(|text| spans(text)).map(name).collect();
    names.into_iter().filter(|name| name.len() > 2 && name.starts_with("--")).collect()
}

#[test]
fn every_command_in_the_pages_is_accepted() {
    let pages = all_pages();
    let all = pages.iter().flat_map(|page| commands(&read(page)).into_iter().map(move |words| (page, words)));
    let all: Vec<_> = all.collect();
    assert!(all.len() > 100, "only {} commands were found", all.len());
    let refused = |(page, words): &(&PathBuf, Vec<String>)| {
        Some(format!("{}: {}: {}", page.display(), words.join(" "), refusal(words)?))
    };
    let refused: Vec<_> = all.iter().filter_map(refused).collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The scripts of `examples/ci/`, which `tests/tests/ci/` runs.
#[test]
fn every_command_in_the_pipelines_is_accepted() {
    let workflows = ["github-actions.yml", "github-actions-detached.yml"].map(|name| pipelines::github(name).unwrap());
    let pipelines = workflows.into_iter().chain([pipelines::gitlab("gitlab-ci.yml", &["images", "push"]).unwrap()]);
    for pipeline in pipelines {
        let scripts = pipeline.steps.iter().filter_map(|step| step.script.as_deref());
        let page = format!("```sh\n{}\n```\n", scripts.collect::<Vec<_>>().join("\n"));
        let all = commands(&page);
        let verbs: BTreeSet<&str> = all.iter().map(|words| words[0].as_str()).collect();
        assert!(verbs.is_superset(&["build", "push", "verify"].into()), "{verbs:?}");
        let refused: Vec<_> = all.iter().filter_map(|words| refusal(words)).collect();
        assert!(refused.is_empty(), "{refused:?}");
    }
}

#[test]
fn every_option_in_the_pages_exists() {
    let known: BTreeSet<String> = options(&cli::command()).into_iter().chain(options(&xtask::command())).collect();
    let known = |option: &String| known.contains(option) || OTHER_PROGRAMS.iter().any(|(_, other)| other == option);
    let unknown = |page: &PathBuf| -> Vec<String> {
        let options = named_options(&read(page)).into_iter().filter(|option| !known(option));
        options.map(|option| format!("{}: {option}", page.display())).collect()
    };
    let unknown: Vec<_> = all_pages().iter().flat_map(unknown).collect();
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn unknown_commands_and_options_are_found() {
    let page = "`./x build --no-such`, `push --outt DIR`, `./x frob`, `./x run --disk SIZE` `./x VERB`, `--nowhere[=X]` or `./x fetch --list \\| head`\n\
        ```sh\nA=1 ./x test nothing-such >/dev/null   # why\nx=$(solana-talos inspect \\\n    a --bogus 2>&1) && cosign verify --key k\n```\n";
    let refused: Vec<String> =
        commands(page).iter().filter(|words| refusal(words).is_some()).map(|words| words.join(" ")).collect();
    assert_eq!(refused, ["test nothing-such", "inspect a --bogus", "build --no-such", "push --outt DIR", "frob"]);
    assert_eq!(named_options(page), ["--nowhere"]);
}
