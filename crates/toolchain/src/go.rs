//! Fetches files of Go modules into the store, and resolves which ones the programs of a base need.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use common::sandbox::{Run, Sandbox};
use common::store::Store;
use common::{Class, Error, Result, Sha256};
use lock::ModuleFile;

use crate::download::{Fetcher, offline};
use crate::programs::MainModule;

/// Variables of the user that tell Go, and programs that download, where to go.
const PASSED: [&str; 11] = [
    "GOPROXY",
    "GOSUMDB",
    "GONOPROXY",
    "GOPRIVATE",
    "GOINSECURE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// Answers with which a proxy says that it will not serve a module (RFC 9110, sections 15.5.4, 15.5.5 and 15.5.11; RFC 7725).
const REFUSALS: [&str; 4] = ["403 Forbidden", "404 Not Found", "410 Gone", "451 Unavailable"];

/// The user's Go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `GOMODCACHE`.
    pub cache: Option<PathBuf>,
    /// Those of the variables for downloads that are set.
    pub environment: BTreeMap<String, String>,
}

impl User {
    /// Reads the environment with `variable`.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let cache = path("GOMODCACHE").or_else(|| Some(path("GOPATH")?.join("pkg/mod")));
        let text = |name: &&str| Some(((*name).to_owned(), set(name)?.into_string().ok()?));
        Self {
            cache: cache.or_else(|| Some(path("HOME")?.join("go/pkg/mod"))),
            environment: PASSED.iter().filter_map(text).collect(),
        }
    }

    /// Adds the user's settings to `run`. A proxy that is a directory (`file://`) is mounted.
    #[must_use]
    pub fn apply(&self, mut run: Run) -> Run {
        for (name, value) in &self.environment {
            run = if name == "GOPROXY" { proxies(run, value) } else { run.env(name, value) };
        }
        run
    }
}

/// Sets `GOPROXY` to `list`, with its directories mounted.
fn proxies(mut run: Run, list: &str) -> Run {
    let mut inside = list.to_owned();
    for (number, item) in list.split([',', '|']).enumerate() {
        if let Some(dir) = item.strip_prefix("file://") {
            let mounted = format!("/build/proxy{number}");
            run = run.read(Path::new(dir), &mounted);
            inside = inside.replacen(item, &format!("file://{mounted}"), 1);
        }
    }
    run.env("GOPROXY", inside)
}

/// Brings `files` into the store, from the user's module cache or with `go mod download` in the toolchain. Returns the number of new files.
///
/// # Errors
/// [`Class::Infrastructure`] if the proxy cannot be reached or refuses a module, or with `--offline`; [`Class::Verification`] if it serves
/// another file.
pub fn fetch(sandbox: &Sandbox, fetcher: &Fetcher<'_>, files: &[ModuleFile], user: &User) -> Result<usize> {
    let mut missing = Vec::new();
    for file in files {
        if fetcher.store().find(&file.sha256)?.is_none() {
            missing.push(file);
        }
    }
    let all = missing.len();
    let missing = user.cache.iter().try_fold(missing, |left, cache| import(fetcher.store(), &left, cache))?;
    if missing.is_empty() {
        return Ok(all);
    }
    if fetcher.is_offline() {
        return Err(offline(missing.iter().map(|file| file.path.as_str())));
    }
    let cache = tempfile::tempdir()?;
    let downloaded = download(sandbox, fetcher, &missing, user, cache.path());
    // Also after a failure: the next run continues there.
    let missing = import(fetcher.store(), &missing, cache.path())?;
    downloaded?;
    missing.first().map_or(Ok(all), |first| Err(other_file(first, cache.path())))
}

/// Stores the files that are in the module cache `cache` with the right digest, and returns the others.
fn import<'f>(store: &Store, missing: &[&'f ModuleFile], cache: &Path) -> Result<Vec<&'f ModuleFile>> {
    let mut left = Vec::new();
    for &file in missing {
        let path = downloads(cache).join(&file.path);
        if path.is_file() && Sha256::of_file(&path).is_ok_and(|digest| digest == file.sha256) {
            store.insert(&path, &file.sha256)?;
        } else {
            left.push(file);
        }
    }
    Ok(left)
}

/// The part of a module cache that is laid out as a proxy.
fn downloads(cache: &Path) -> PathBuf {
    cache.join("cache/download")
}

fn other_file(file: &ModuleFile, cache: &Path) -> Error {
    let served =
        Sha256::of_file(&downloads(cache).join(&file.path)).map_or("no such file".to_owned(), |d| d.to_string());
    Error::new(Class::Verification, "the Go module proxy served another file than the pinned one")
        .why(format!("{}\ngot      {served}\nexpected {}", file.path, file.sha256))
        .hint("a proxy that packs modules itself makes other zips of the same content; set GOPROXY to one that passes them on, or use --mirror DIR")
}

/// Runs Go's client with the module cache `cache`, with network.
fn client(words: &[&str], user: &User, cache: &Path) -> Run {
    let words = ["go"].iter().chain(words).copied();
    let run = Run::new(words).env("GOMODCACHE", "/build/cache").env("GOFLAGS", "-modcacherw").env("GOENV", "off");
    user.apply(run.env("GOTOOLCHAIN", "local").write(cache, "/build/cache").with_network())
}

/// Downloads the modules of `missing` into the module cache `cache`.
fn download(
    sandbox: &Sandbox,
    fetcher: &Fetcher<'_>,
    missing: &[&ModuleFile],
    user: &User,
    cache: &Path,
) -> Result<()> {
    let modules: BTreeSet<String> = missing.iter().map(|file| file.module().0).collect();
    let mut progress = fetcher.progress("Go modules", modules.len());
    let (toolchains, others): (Vec<_>, Vec<_>) = modules.into_iter().partition(|module| is_toolchain(module));
    for (modules, sums) in [(others, Some("off")), (toolchains, None)] {
        let Some(run) = download_run(&modules, sums, user, cache) else { continue };
        let mut complaints = Vec::new();
        let ran = sandbox.run(&run, &mut |text| {
            if served(text).is_some() {
                progress.add(None);
            } else if text.starts_with("go: ") {
                complaints.push(text.to_owned());
            }
        });
        ran.map_err(|error| failure(error, &complaints))?;
    }
    Ok(())
}

/// Go refuses to download its toolchain unless the checksum database verifies it (cmd/go, modfetch, `useSumDB`).
fn is_toolchain(module: &str) -> bool {
    module.starts_with("golang.org/toolchain@")
}

/// Returns the download of `modules`, if there are any. `sums` is the checksum database; where Go permits it there is none, because every
/// file is compared with its pinned digest.
fn download_run(modules: &[String], sums: Option<&str>, user: &User, cache: &Path) -> Option<Run> {
    let words: Vec<&str> = ["mod", "download", "-x"].into_iter().chain(modules.iter().map(String::as_str)).collect();
    let run = client(&words, user, cache);
    (!modules.is_empty()).then(|| sums.into_iter().fold(run, |run, sums| run.env("GOSUMDB", sums)))
}

/// Returns the URL of a zip from the line `# get <url>: 200 OK (0.123s)`.
fn served(line: &str) -> Option<&str> {
    let url = line.strip_prefix("# get ")?.split_once(": 200 ")?.0;
    url.ends_with(".zip").then_some(url)
}

fn failure(error: Error, complaints: &[String]) -> Error {
    if error.class() != Class::BuildFailed {
        return error; // Without the client.
    }
    let refused = |line: &&String| REFUSALS.iter().any(|answer| line.contains(answer));
    let refused: Vec<_> = complaints.iter().filter(refused).map(String::as_str).collect();
    if !refused.is_empty() {
        return Error::new(Class::Infrastructure, "the Go module proxy refuses a module")
            .why(refused.join("\n"))
            .hint("set GOPROXY to a proxy that serves it; or use `solana-talos bundle load` or --mirror DIR");
    }
    let why = if complaints.is_empty() { error.to_string() } else { complaints.join("\n") };
    Error::new(Class::Infrastructure, "cannot download the Go modules").why(why).hint(
        "check the network, GOPROXY and HTTPS_PROXY; without network use `solana-talos bundle load` or --mirror DIR",
    )
}

/// What a main module needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Text of `go.sum`.
    pub go_sum: String,
    /// Text of `modules.sums`.
    pub modules_sums: String,
}

/// Downloads the modules that the programs of the main module in `dir` need, as Go finds them, and returns what pins them. The user's
/// checksum database verifies those that are new in go.sum.
///
/// # Errors
/// [`Class::Infrastructure`] if a module cannot be downloaded or its go.mod needs a newer Go than the client.
pub fn resolve(
    sandbox: &Sandbox,
    dir: &Path,
    module: &MainModule,
    user: &User,
    line: &mut dyn FnMut(&str),
) -> Result<Resolved> {
    let (work, cache) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for name in ["go.mod", "go.sum"] {
        fs_err::copy(dir.join(name), work.path().join(name))?;
    }
    for program in &module.programs {
        let tags = program.tags.as_deref().unwrap_or_default();
        // Prints nothing for a package.
        let words = ["list", "-mod=mod", "-deps", "-f={{with false}}{{end}}", "-tags", tags, program.package.as_str()];
        let run = client(&words, user, cache.path()).write(work.path(), "/build/main").directory("/build/main");
        run_client(sandbox, &run, line)?;
    }
    let files = listed(&downloads(cache.path()))?;
    let go_sum = needed(&fs_err::read_to_string(work.path().join("go.sum"))?, &files);
    Ok(Resolved { go_sum, modules_sums: lock::go_sums_text(&files) })
}

/// Downloads the toolchain's module `module`, and returns its `modules.sums`: nothing but the zip.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_toolchain(sandbox: &Sandbox, module: &str, user: &User, line: &mut dyn FnMut(&str)) -> Result<String> {
    let cache = tempfile::tempdir()?;
    run_client(sandbox, &client(&["mod", "download", module], user, cache.path()), line)?;
    let mut files = listed(&downloads(cache.path()))?;
    files.retain(|file| file.module() == (module.to_owned(), true));
    Ok(lock::go_sums_text(&files))
}

fn run_client(sandbox: &Sandbox, run: &Run, line: &mut dyn FnMut(&str)) -> Result<()> {
    let mut complaints = Vec::new();
    let ran = sandbox.run(run, &mut |text| {
        complaints.push(text.to_owned());
        line(text);
    });
    complaints.retain(|text| !text.starts_with("go: downloading "));
    ran.map_err(|error| failure(error, &complaints))
}

/// Returns the go.mod files and zips in `dir`. The rest is either derived from them, or answers that a pinned version makes unnecessary.
fn listed(dir: &Path) -> Result<Vec<ModuleFile>> {
    let (mut files, mut left) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(path) = left.pop() {
        for entry in fs_err::read_dir(&path)? {
            let path = entry?.path();
            let wanted = path.extension().is_some_and(|end| end == "mod" || end == "zip");
            if path.is_dir() {
                left.push(path);
            } else if let Some(name) = path.strip_prefix(dir).ok().and_then(Path::to_str).filter(|_| wanted) {
                files.push(ModuleFile { path: name.to_owned(), sha256: Sha256::of_file(&path)? });
            }
        }
    }
    Ok(files)
}

/// Returns the lines of `go_sum` that hash one of `files`, sorted.
fn needed(go_sum: &str, files: &[ModuleFile]) -> String {
    let files: BTreeSet<_> = files.iter().map(ModuleFile::module).collect();
    let hashes = |line: &&str| {
        let mut words = line.split(' ');
        let (Some(module), Some(version)) = (words.next(), words.next()) else { return false };
        let zip = !version.ends_with("/go.mod");
        files.contains(&(format!("{module}@{}", version.trim_end_matches("/go.mod")), zip))
    };
    let lines: BTreeSet<_> = go_sum.lines().filter(hashes).collect();
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_database_verifies_the_toolchain_only() {
        let line = |modules: &[String], sums| {
            let run = download_run(modules, sums, &User::default(), Path::new("/c"))?;
            let words = run.arguments(Path::new("/r"));
            Some(words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
        };
        let (toolchain, other) = ("golang.org/toolchain@v0.0.1-go1".to_owned(), "golang.org/x/sys@v0.1.0".to_owned());
        assert!(is_toolchain(&toolchain) && !is_toolchain(&other));
        assert!(line(&[other], Some("off")).unwrap().contains("--setenv GOSUMDB off"));
        assert!(!line(&[toolchain], None).unwrap().contains("GOSUMDB"));
        assert_eq!(line(&[], Some("off")), None);
    }

    fn file(path: &str) -> ModuleFile {
        ModuleFile { path: path.to_owned(), sha256: Sha256::of(path) }
    }

    #[test]
    fn a_file_is_imported_from_a_module_cache_only_with_its_digest() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"), Vec::new());
        let wanted = file("x.org/y/@v/v1.0.0.zip");
        let path = downloads(dir.path()).join(&wanted.path);
        common::atomic::write(&path, "other").unwrap();
        assert_eq!(import(&store, &[&wanted], dir.path()).unwrap(), [&wanted]);
        let error = other_file(&wanted, dir.path());
        assert!(error.to_string().contains(&Sha256::of("other").to_string()), "{error}");
        common::atomic::write(&path, &wanted.path).unwrap();
        assert!(import(&store, &[&wanted], dir.path()).unwrap().is_empty());
        assert!(store.path(&wanted.sha256).is_file());
    }

    #[test]
    fn the_users_settings_are_passed_on() {
        let set = [
            ("GOPROXY", "file:///srv/a|https://p.example,direct"),
            ("NO_PROXY", "p.example"),
            ("GOFLAGS", "-x"),
            ("GOPATH", "/g"),
        ];
        let user = User::read(|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into()));
        assert_eq!(user.cache.as_deref(), Some(Path::new("/g/pkg/mod")));
        let line = client(&["version"], &user, Path::new("/c")).shell_line(Path::new("/r"));
        assert!(line.contains("--setenv GOPROXY 'file:///build/proxy0|https://p.example,direct'"), "{line}");
        assert!(line.contains("--ro-bind /srv/a /build/proxy0") && line.contains("NO_PROXY p.example"), "{line}");
        assert!(line.contains("GOFLAGS -modcacherw"), "{line}");
        assert_eq!(User::read(|_| None), User::default());
    }

    #[test]
    fn a_refused_module_is_not_a_missing_network() {
        let failed = || Error::new(Class::BuildFailed, "go failed with exit status: 1");
        let refused = "go: x.org/y@v1.0.0: reading https://p.example/x.org/y/@v/v1.0.0.zip: 403 Forbidden";
        let error = failure(failed(), &["go: z.org/y@v1.0.0: timeout".to_owned(), refused.to_owned()]).to_string();
        assert!(
            error.contains("refuses a module") && error.contains("x.org/y@v1.0.0") && !error.contains("z.org"),
            "{error}"
        );
        let error = failure(failed(), &["go: z.org/y@v1.0.0: dial tcp: no such host".to_owned()]).to_string();
        assert!(
            error.contains("cannot download") && error.contains("no such host") && error.contains("bundle load"),
            "{error}"
        );
        let missing = failure(Error::new(Class::MissingTool, "go is not in the toolchain"), &[]);
        assert_eq!(missing.class(), Class::MissingTool);
    }

    #[test]
    fn progress_is_the_zips_that_were_served() {
        assert_eq!(served("# get https://p.example/x/@v/v1.zip: 200 OK (0.1s)"), Some("https://p.example/x/@v/v1.zip"));
        for other in
            ["# get https://p.example/x/@v/v1.zip", "# get https://p.example/x/@v/v1.mod: 200 OK (0s)", "go: x"]
        {
            assert_eq!(served(other), None, "{other}");
        }
    }

    #[test]
    fn only_needed_files_and_sums_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x.org/!y/@v/v1.0.0.mod", "x.org/!y/@v/v1.0.0.zip", "z.org/@v/v1.0.0.mod"] {
            common::atomic::write(&dir.path().join(name), name).unwrap();
            common::atomic::write(&dir.path().join(name).with_extension("info"), "").unwrap();
        }
        let files = listed(dir.path()).unwrap();
        assert_eq!(lock::go_sums_text(&files).lines().count(), 3);
        let kept = "x.org/Y v1.0.0 h1:a\nx.org/Y v1.0.0/go.mod h1:b\nz.org v1.0.0/go.mod h1:c\n";
        let sums = kept.to_owned() + "x.org/Y v1.1.0/go.mod h1:d\nz.org v1.0.0 h1:e\n";
        assert_eq!(needed(&sums, &files), kept);
    }
}
