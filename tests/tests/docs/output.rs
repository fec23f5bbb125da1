//! Every block of output in the pages is real. Such a block has no language, or is `console`; the line above it says where it is from:
//!
//! - `<!-- output of: COMMAND -->`: the command is run and what it prints is compared. A line `$ …` in the block shows the command to readers.
//! - `<!-- seen by: TEST -->`: a test that is too long to repeat here shows it: a program in `tests/tests/`, a file of tests, or a source file
//!   with a test that reads the page.
//!
//! `UPDATE_DOCS=1` writes what the commands print into the pages.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use harness::settings::{PROGRAM, TALOS_OUT};

use crate::pages::{ROOT, all_pages, read};

/// A block of output.
struct Block {
    /// Number of the line with the opening fence, from 0.
    fence: usize,
    indent: usize,
    /// The last line above it that is not empty.
    marker: String,
    lines: Vec<String>,
}

/// Where a block is from.
enum Origin<'a> {
    Command(&'a str),
    Test(&'a str),
}

impl Block {
    fn origin(&self) -> Option<Origin<'_>> {
        let marker = self.marker.strip_prefix("<!-- ")?.strip_suffix(" -->")?;
        let command = marker.strip_prefix("output of: ").map(Origin::Command);
        command.or_else(|| marker.strip_prefix("seen by: ").map(Origin::Test))
    }

    /// The commands that readers see.
    fn commands(&self) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix("$ ")).collect()
    }

    fn output(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).filter(|line| !line.starts_with("$ ")).collect();
        lines.join("\n")
    }

    /// Returns what is wrong with the marker of a block in the page `page`.
    fn fault(&self, page: &str) -> Option<String> {
        match self.origin() {
            None => Some("no marker says what prints this output".to_owned()),
            Some(Origin::Test(name)) => (!shows(name, page)).then(|| format!("no test {name} shows it")),
            Some(Origin::Command(command)) => match self.commands()[..] {
                [] => None,
                [shown] if command.contains(&shown.replace("./x ", "solana-talos ")) => None,
                _ => Some(format!("its one line with `$` is not part of `{command}`")),
            },
        }
    }
}

/// Returns the blocks of output of a page.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut marker, mut code, mut open) = ("", false, None);
    for (fence, line) in page.lines().enumerate() {
        let text = line.trim();
        if let Some(language) = text.strip_prefix("```") {
            found.extend(open.take());
            let starts = !code && ["", "console"].contains(&language);
            let (indent, marker) = (line.len() - line.trim_start().len(), marker.to_owned());
            open = starts.then(|| Block { fence, indent, marker, lines: Vec::new() });
            code = !code;
        } else if let Some(block) = &mut open {
            block.lines.push(line.get(block.indent..).unwrap_or_default().to_owned());
        }
        if !code && !text.is_empty() {
            marker = text;
        }
    }
    found
}

/// Whether the test `name` exists; one in a source file has to read the page.
fn shows(name: &str, page: &str) -> bool {
    let root = Path::new(ROOT);
    let source = std::fs::read_to_string(root.join(name)).ok().filter(|_| name.ends_with(".rs"));
    match source {
        Some(source) => name.contains("/tests/") || source.contains(page),
        None => ["", "/main"].iter().any(|end| root.join(format!("tests/tests/{name}{end}.rs")).is_file()),
    }
}

/// A user's home with a copy of the project, where a command runs.
struct Scene {
    /// Holds `home/ann/solana-talos`.
    dir: tempfile::TempDir,
}

impl Scene {
    /// `out` is the output directory of a build.
    fn new(program: &Path, out: Option<&Path>) -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        copy(&Path::new(ROOT).canonicalize().unwrap(), &scene.project());
        let _ = std::fs::remove_file(scene.project().join("solana-talos.toml"));
        std::fs::create_dir(scene.bin()).unwrap();
        symlink(program, scene.bin().join("solana-talos")).unwrap();
        if let Some(out) = out {
            symlink(out, scene.project().join("_out")).unwrap();
        }
        scene
    }

    fn home(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("home/ann")
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("home/ann/solana-talos")
    }

    fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// Returns what a shell command prints, as pages show it: errors as well, digests shortened.
    fn run(&self, command: &str) -> String {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec 2>&1\n{command}")).current_dir(self.project()).stdin(Stdio::null());
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin().display());
        shell.env_clear().env("PATH", path).env("HOME", self.home()).env("LC_ALL", "C.UTF-8");
        let printed = String::from_utf8(shell.output().unwrap().stdout).unwrap();
        let root = self.dir.path().canonicalize().unwrap();
        let lines: Vec<String> =
            printed.lines().map(|line| shortened(line.replace(root.to_str().unwrap(), "").trim_end())).collect();
        lines.join("\n").trim_end().to_owned()
    }
}

/// Copies the project without build outputs and hidden files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.file_type().unwrap() {
            _ if name == "target" || name.starts_with(['.', '_']) => {}
            kind if kind.is_dir() => copy(&entry.path(), &to.join(name)),
            _ => {
                std::fs::copy(entry.path(), to.join(name)).unwrap();
            }
        }
    }
}

/// Replaces each run of letters and digits of a line.
fn map_runs(line: &str, of: impl Fn(&str) -> String) -> String {
    let (mut out, mut run) = (String::new(), String::new());
    for c in line.chars() {
        if c.is_ascii_alphanumeric() {
            run.push(c);
        } else {
            out += &of(&std::mem::take(&mut run));
            out.push(c);
        }
    }
    out + &of(&run)
}

fn is_digest(run: &str) -> bool {
    run.len() >= 10 && run.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Shortens SHA-256 digests.
fn shortened(line: &str) -> String {
    map_runs(line, |run| if is_digest(run) && run.len() == 64 { format!("{}…", &run[..16]) } else { run.to_owned() })
}

/// Whether a word begins with a date such as `2026-11-30`.
fn is_date(word: &str) -> bool {
    let shape: String = word.chars().take(10).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00"
}

/// Returns what has to be equal in two runs: not digests, dates, durations, sizes and the width of columns.
fn comparable(text: &str) -> String {
    let masked = |run: &str| if is_digest(run) { "DIGEST".to_owned() } else { run.to_owned() };
    let word = |word: &str| {
        if is_date(word) { "DATE".to_owned() } else { map_runs(word, masked).replace("DIGEST…", "DIGEST") }
    };
    let line = |line: &str| {
        let mut words: Vec<String> = line.split_whitespace().map(word).collect();
        for at in 1..words.len() {
            let unit = words[at].trim_end_matches([',', ';', ':']).to_owned();
            let kind = match unit.as_str() {
                "s" | "min" | "h" => "TIME",
                "B" | "KiB" | "MiB" | "GiB" => "SIZE",
                _ => continue,
            };
            if words[at - 1].parse::<f64>().is_ok() {
                words[at - 1].clear();
                words[at] = words[at].replacen(&unit, kind, 1);
            }
        }
        words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns `page` with another output in `block`.
fn replaced(page: &str, block: &Block, output: &str) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let (above, rest) = lines.split_at(block.fence + 1);
    let indented = |line: &str| format!("{}{line}", " ".repeat(block.indent)).trim_end().to_owned();
    let shown = block.lines.iter().map(String::as_str).filter(|line| line.starts_with("$ "));
    let new: Vec<String> = shown.chain(output.lines()).map(indented).collect();
    let all =
        above.iter().copied().chain(new.iter().map(String::as_str)).chain(rest[block.lines.len()..].iter().copied());
    all.map(|line| format!("{line}\n")).collect()
}

/// Runs the commands of a page: those about a build if `out` is one, else the others. Returns the page as it should be, and what is wrong with it.
fn checked(page: &str, program: &Path, out: Option<&Path>) -> (String, Vec<String>) {
    let (mut new, mut wrong) = (page.to_owned(), Vec::new());
    // From the last one, so that the lines of the others stay where they are.
    for block in blocks(page).iter().rev() {
        let Some(Origin::Command(command)) = block.origin() else { continue };
        if command.contains("_out") != out.is_some() {
            continue;
        }
        let printed = Scene::new(program, out).run(command);
        if comparable(&printed) != comparable(&block.output()) {
            wrong.push(format!("line {}: `{command}` prints\n{printed}", block.fence + 1));
            new = replaced(&new, block, &printed);
        }
    }
    (new, wrong)
}

/// Checks all pages, or writes them.
fn check(program: &Path, out: Option<&Path>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock();
    let mut wrong = Vec::new();
    for path in all_pages() {
        let page = read(&path);
        let (new, faults) = checked(&page, program, out);
        if std::env::var_os("UPDATE_DOCS").is_some() && new != page {
            std::fs::write(&path, new).unwrap();
        } else {
            wrong.extend(faults.iter().map(|fault| format!("{}, {fault}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}\nCONTRIBUTING.md has the command that writes these blocks", wrong.join("\n\n"));
}

#[test]
fn every_block_of_output_says_where_it_is_from() {
    let pages = all_pages();
    let fault = |path: &PathBuf| -> Vec<String> {
        let name = path.file_name().unwrap().to_str().unwrap();
        let of = |block: &Block| Some(format!("{}:{}: {}", path.display(), block.fence + 1, block.fault(name)?));
        blocks(&read(path)).iter().filter_map(of).collect()
    };
    let count: usize = pages.iter().map(|path| blocks(&read(path)).len()).sum();
    assert!(count > 10, "only {count} blocks of output were found");
    let faults: Vec<_> = pages.iter().flat_map(fault).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn commands_print_what_the_pages_show() {
    let Some(program) = skip::path(PROGRAM) else { return };
    check(&program, None);
}

#[test]
fn commands_about_a_build_print_what_the_pages_show() {
    let (Some(program), Some(out)) = (skip::path(PROGRAM), skip::path(TALOS_OUT)) else { return };
    check(&program, Some(&out));
}

#[test]
fn output_without_a_true_marker_is_found() {
    let page = "\
text\n```\n1\n```\n<!-- seen by: no_such_test -->\n```\n2\n```\n<!-- seen by: docs -->\n\n```\n3\n```\n```sh\n4\n```\n\
<!-- seen by: crates/common/src/lib.rs -->\n```\n5\n```\n<!-- output of: solana-talos keys show | head -1 -->\n```console\n$ ./x keys show\n6\n```\n\
<!-- output of: solana-talos keys show -->\n```console\n$ ./x cache show\n7\n```\n";
    let all = blocks(page);
    let wrong: Vec<&str> = all
        .iter()
        .filter(|block| block.fault("a.md").is_some())
        .map(|block| block.lines.last().unwrap().as_str())
        .collect();
    assert_eq!(all.len(), 6);
    assert_eq!(wrong, ["1", "2", "5", "7"]);
}

#[test]
fn only_what_differs_between_runs_is_passed_over() {
    let text = "a sha256:0123456789abcdef…  2026-11-30T10:00:00Z\nkernel  49 min, 3 files";
    let other = "a sha256:00000000000000001111111111111111  2027-01-01T00:00:00Z\nkernel     9 s, 3 files";
    assert_eq!(comparable(text), comparable(other));
    for changed in [text.replace("3 files", "4 files"), text.replace("kernel", "module"), text.replace("sha256", "md5")]
    {
        assert_ne!(comparable(text), comparable(&changed));
    }
    let digest = "0123456789abcdef".repeat(4);
    assert_eq!(shortened(&format!("sha256:{digest} v1.10.3")), "sha256:0123456789abcdef… v1.10.3");
}

#[test]
fn changed_output_is_found_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    std::fs::write(&program, "#!/bin/sh\necho \"$1 in $HOME\"\npwd >&2\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let page = "1. x\n\n   <!-- output of: solana-talos show; ls -d docs -->\n   ```console\n   $ ./x show\n   before\n   ```\n2. y\n";
    let page_for_build = page.replace("docs", "_out");
    let (new, wrong) = checked(page, &program, None);
    assert_eq!(wrong.len(), 1);
    assert_eq!(new, page.replace("before", "show in /home/ann\n   /home/ann/solana-talos\n   docs"));
    assert_eq!(checked(&new, &program, None), (new.clone(), Vec::new()));
    assert_eq!(checked(&page_for_build, &program, None).1, [""; 0]);
    assert_eq!(checked(&page_for_build, &program, Some(dir.path())).1.len(), 1);
}
