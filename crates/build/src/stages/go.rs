//! Programs built from Go modules: Talos's own and what goes with them (`imager/base/go/`), and those of Kubernetes for a test
//! (`tests/kubernetes/`).
//!
//! Go finds every module in a module cache whose downloads are links into the store, so nothing is copied and no proxy is asked; go.sum is
//! checked all the same. The bytes of static programs depend on the Go toolchain alone, so Debian's packages are in no key here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::event::Event;
use common::sandbox::{Run, Sandbox};
use common::stage::{Finished, Input, Stage, Work};
use common::store::Store;
use common::{Class, Error, Result, atomic};
use lock::ModuleFile;
use toolchain::{MainModule, Program, Programs, Toolchain, go};

use crate::context::Context;

/// Unpacks the Go toolchain.
pub const TOOLCHAIN_STAGE: Stage = Stage::recipe("go-toolchain");
/// Builds the programs of one main module.
pub const MODULE_STAGE: Stage = Stage::recipe("go-module").resuming();
/// Collects the programs of all main modules.
pub const STAGE: Stage = Stage::recipe("go-programs");
/// Unpacks Talos's modules.
pub const TALOS_STAGE: Stage = Stage::recipe("talos-module");

/// A directory of the project with the list of programs `programs.toml`, and a directory for each main module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List(&'static str);

/// The programs of a base.
pub const BASE: List = List("imager/base/go");
/// The programs of Kubernetes, which no build contains: a test runs them.
pub const KUBERNETES: List = List("tests/kubernetes");
/// Directory of the list of the toolchain's files, in that of the base: it compiles the programs of both.
const TOOLCHAIN: &str = "toolchain";
/// Main module of Talos's programs.
const TALOS: &str = "talos";
/// Where the store, Go's module cache and the stage's temporary files are in the sandbox.
const STORE: &str = "/build/store";
const MODULES: &str = "/build/modcache";
const SCRATCH: &str = "/build/scratch";
/// The go command of the pinned toolchain.
const GO: &str = "/build/go/bin/go";
/// Name of Go's overlay.
const OVERLAY: &str = "overlay.json";
/// Unpacks `$1`, the only directory in the zip, to `$2`. Zips of modules have no modes.
const UNPACK: &str = r#"
python3 -m zipfile -e /build/module.zip /build/out/unpacked
mv "/build/out/unpacked/$1" "/build/out/$2"
rm -r /build/out/unpacked
"#;
const EXECUTABLE: &str = "chmod a+x /build/out/go/bin/* /build/out/go/pkg/tool/linux_amd64/*";

/// Copies the licences of the modules that `go version -m` names; after `=>` comes the module that replaces the one before.
const LICENSES: &str = r#"
cd /build/out
awk -F '\t' '$2 == "mod" || $2 == "dep" { m[n++] = $3 "@" $4 } $2 == "=>" { m[n - 1] = $3 "@" $4 } END { for (i in m) print m[i] }' modules/*.txt |
sort -u | while read -r module; do
    mkdir -p "licenses/$module"
    find "/build/modcache/$(echo "$module" | sed 's/[A-Z]/!\l&/g')" -maxdepth 1 -type f \
        '(' -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'copyright*' ')' \
        -exec install -m 644 -t "licenses/$module" '{}' +
done
install -D -m 644 /build/go/LICENSE licenses/go/LICENSE
"#;
/// What a main module's stage has for its users.
const KINDS: &str = "bin modules licenses";

/// Unpacked modules of Talos: its modules, and the names of their directories.
const TALOS_MODULES: [(&str, &str); 2] =
    [("github.com/siderolabs/talos@", "talos"), ("github.com/siderolabs/talos/pkg/machinery@", "machinery")];

/// Downloads `files` into the store; returns their number.
pub fn fetch(context: &Context, toolchain: &Toolchain, files: &[ModuleFile]) -> Result<usize> {
    go::fetch(&toolchain.sandbox, &context.fetcher(), files, &context.go_user)
}

/// Resolves the modules of every program with Go's client, and writes `go.sum` and `modules.sums` of each main module.
///
/// # Errors
/// As [`go::resolve`]; nothing is written then.
pub fn update(context: &Context, toolchain: &Toolchain) -> Result<()> {
    let mut line = |line: &str| context.sink().emit(&Event::Output { stage: "update", line });
    let (sandbox, user) = (&toolchain.sandbox, &context.go_user);
    let zip = go::resolve_toolchain(sandbox, &BASE.read(context)?.toolchain_module(), user, &mut line)?;
    let mut texts = vec![(BASE.path(TOOLCHAIN, "modules.sums"), zip)];
    // A project without its tests has only the first list.
    for list in [BASE, KUBERNETES].into_iter().filter(|list| context.path(&list.file()).is_file()) {
        for module in &list.read(context)?.modules {
            let dir = context.path(&format!("{}/{}", list.0, module.name));
            let resolved = go::resolve(sandbox, &dir, module, user, &mut line)?;
            texts.push((list.path(&module.name, "go.sum"), resolved.go_sum));
            texts.push((list.path(&module.name, "modules.sums"), resolved.modules_sums));
        }
    }
    texts.iter().try_for_each(|(name, text)| atomic::write(&context.path(name), text))
}

impl List {
    /// Path of the list in the project.
    fn file(self) -> String {
        format!("{}/programs.toml", self.0)
    }

    /// Path of a file of a main module in the project.
    fn path(self, module: &str, file: &str) -> String {
        format!("{}/{module}/{file}", self.0)
    }

    /// Reads the list.
    pub fn read(self, context: &Context) -> Result<Programs> {
        let file = self.file();
        Programs::parse(&file, &fs_err::read_to_string(context.path(&file))?)
    }

    fn module_files(self, context: &Context, module: &str) -> Result<Vec<ModuleFile>> {
        let list = self.path(module, "modules.sums");
        lock::parse_go_sums(&list, &fs_err::read_to_string(context.path(&list))?)
    }
}

/// Returns the files that stages of a build fetch.
pub fn files(context: &Context) -> Result<Vec<(Stage, Vec<ModuleFile>)>> {
    let mut of_modules = Vec::new();
    for main in BASE.read(context)?.modules {
        of_modules.extend(BASE.module_files(context, &main.name)?);
    }
    let zips = talos_zips(context)?.into_iter().map(|(zip, _)| zip).collect();
    let compiler = BASE.module_files(context, TOOLCHAIN)?;
    Ok(vec![(TOOLCHAIN_STAGE, compiler), (MODULE_STAGE, of_modules), (TALOS_STAGE, zips)])
}

/// Builds every program of `list`. The stage's directory has the static programs in `bin/`, for each the modules in it in
/// `modules/<program>.txt` (the text of `go version -m`), and the licences of all these modules in `licenses/<module>@<version>/`.
///
/// # Errors
/// [`Class::BuildFailed`] if a program cannot be compiled; as [`go::fetch`] if a module is missing.
pub fn programs(context: &Context, toolchain: &Toolchain, list: List) -> Result<Finished> {
    let listed = list.read(context)?;
    let go = go_toolchain(context, toolchain, &listed)?;
    let mut built = Vec::new();
    for main in &listed.modules {
        built.push(Input::stage(&main.name, &module(context, toolchain, &go, list, main)?));
    }
    if context.look().is_none() {
        atomic::remove_dir(&build_cache(context))?;
    }
    context.stages().run(STAGE, (built, Input::text("kinds", KINDS)), |work, (built, kinds)| {
        for module in &built {
            for kind in kinds.split(' ') {
                link_tree(&module.join(kind), &work.dir().join(kind))?;
            }
        }
        Ok(())
    })
}

/// Adds the tree `from` to the tree `to`, as hard links.
fn link_tree(from: &Path, to: &Path) -> Result<()> {
    fs_err::create_dir_all(to)?;
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else if !target.exists() {
            fs_err::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Unpacks Talos's modules: its configuration files and SELinux policy in `talos/`, `version/os-release` in `machinery/`.
///
/// # Errors
/// As [`go::fetch`].
pub fn talos_module(context: &Context, toolchain: &Toolchain) -> Result<Finished> {
    unpack(context, toolchain, TALOS_STAGE, talos_zips(context)?, "")
}

/// Returns the zips of Talos's modules, with the names of their directories.
fn talos_zips(context: &Context) -> Result<Vec<(ModuleFile, &'static str)>> {
    let files = BASE.module_files(context, TALOS)?;
    let mut zips = Vec::new();
    for (module, name) in TALOS_MODULES {
        let zip = files.iter().find(|file| {
            let (found, zip) = file.module();
            zip && found.starts_with(module)
        });
        let missing = || bad_list(TALOS, format!("{module} is not listed"));
        zips.push((zip.ok_or_else(missing)?.clone(), name));
    }
    Ok(zips)
}

/// Unpacks the compiler.
///
/// # Errors
/// As [`go::fetch`].
pub fn go_toolchain(context: &Context, toolchain: &Toolchain, programs: &Programs) -> Result<Finished> {
    let wanted = programs.toolchain_module();
    let files = BASE.module_files(context, TOOLCHAIN)?;
    let zip = files.into_iter().find(|file| file.module() == (wanted.clone(), true));
    let zip = zip.ok_or_else(|| bad_list(TOOLCHAIN, format!("{wanted} is not listed")))?;
    unpack(context, toolchain, TOOLCHAIN_STAGE, vec![(zip, "go")], EXECUTABLE)
}

fn bad_list(module: &str, why: String) -> Error {
    Error::new(Class::BadInput, "the list of Go module files does not match programs.toml")
        .file(BASE.path(module, "modules.sums"))
        .why(why)
        .hint("run `solana-talos update go`")
}

/// Runs `stage`, which unpacks each zip to a directory, and then `finish`.
fn unpack(
    context: &Context,
    toolchain: &Toolchain,
    stage: Stage,
    zips: Vec<(ModuleFile, &'static str)>,
    finish: &'static str,
) -> Result<Finished> {
    let files: Vec<_> = zips.iter().map(|(file, _)| file.clone()).collect();
    let entries: Vec<_> = zips.iter().map(|(file, name)| ((*name).to_owned(), file.sha256.to_string())).collect();
    let inputs = (
        Input::known_by(entries, zips),
        Input::text("recipe", [UNPACK, finish].concat()),
        Input::unkeyed("the zips determine what is unpacked", &toolchain.sandbox),
        Input::unkeyed("it contains the zips by their digests", &context.store),
    );
    if context.stages().would_run(stage, &inputs)? {
        fetch(context, toolchain, &files)?;
    }
    context.stages().run(stage, inputs, |work, (zips, recipe, sandbox, store)| {
        for (file, name) in zips.iter() {
            let run = Run::script(&recipe, &[&file.module().0, name])
                .read(&store.path(&file.sha256), "/build/module.zip")
                .write(work.dir(), "/build/out");
            work.run(*sandbox, &run)?;
        }
        Ok(())
    })
}

/// What a main module is built with, besides its inputs.
struct Tools<'a> {
    sandbox: &'a Sandbox,
    store: &'a Store,
    /// The list with the programs, for errors.
    list: List,
    /// Go's build cache, shared by all main modules. Its entries are named by their inputs.
    cache: PathBuf,
    jobs: usize,
}

/// The build of a program.
struct Step {
    program: Program,
    run: Run,
}

/// Go's build cache: kept while programs are missing, so that an interrupted build continues.
fn build_cache(context: &Context) -> PathBuf {
    context.cache.join("unfinished/go-build")
}

/// Builds the programs of one main module of `list` with the compiler `go`, in the form of [`programs`].
///
/// # Errors
/// As [`programs`].
pub fn module(
    context: &Context,
    toolchain: &Toolchain,
    go: &Finished,
    list: List,
    main: &MainModule,
) -> Result<Finished> {
    let files = list.module_files(context, &main.name)?;
    let file = |name: &str| Input::file(name, &context.path(&list.path(&main.name, name)));
    let (sandbox, store) = (&toolchain.sandbox, &context.store);
    let tools = Tools { sandbox, store, list, cache: build_cache(context), jobs: context.jobs };
    let inputs = (
        Input::stage("go", go),
        file("go.mod")?,
        file("go.sum")?,
        file("modules.sums")?,
        main.programs.iter().map(step).collect::<Vec<_>>(),
        Input::text("licenses", LICENSES),
        Input::unkeyed("modules.sums lists them", files.clone()),
        Input::unkeyed("they start Go, which makes the same program in any number of jobs and with any cache", tools),
    );
    if context.stages().would_run(MODULE_STAGE, &inputs)? {
        fetch(context, toolchain, &files)?;
    }
    context.stages().run(MODULE_STAGE, inputs, |work, (go, go_mod, go_sum, _, steps, licenses, files, tools)| {
        let (modules, scratch) = (work.dir().join("modcache"), work.empty_dir("scratch")?);
        link_downloads(&files, &modules)?;
        fs_err::create_dir_all(&tools.cache)?;
        let mounted = |run: Run| {
            let run = run.read(&go.join("go"), "/build/go").read(tools.store.root(), STORE);
            let run = run.read(&go_mod, "/build/main/go.mod").read(&go_sum, "/build/main/go.sum");
            run.write(&modules, MODULES).write(&tools.cache, "/build/cache").write(&scratch, SCRATCH)
        };
        for step in &steps {
            build(work, &tools, &scratch, step, mounted)?;
            check_embedded(tools.list, &step.program, &modules)?;
        }
        work.run(tools.sandbox, &mounted(Run::script(&licenses, &[])).write(work.dir(), "/build/out"))?;
        [modules, scratch].iter().try_for_each(|dir| atomic::remove_dir(dir))
    })
}

/// Returns the build of `program`.
fn step(program: &Program) -> Input<Step> {
    let output = format!("{SCRATCH}/{}", program.name);
    let tags = program.tags.as_deref().unwrap_or_default();
    let stamps = program.stamps.iter().map(|(variable, value)| format!(" -X {variable}={value}"));
    let link = format!("-s -w{}", stamps.collect::<String>());
    let flags = ["-v", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", &link, "-tags", tags];
    let files = ["-overlay", &format!("{SCRATCH}/{OVERLAY}"), "-o", &output, &program.package];
    let run = Run::new([GO, "build"].into_iter().chain(flags).chain(files)).directory("/build/main");
    let run = run.env("CGO_ENABLED", "0").env("GOAMD64", &program.amd64);
    let run = run.env("GOENV", "off").env("GOPROXY", "off").env("GOSUMDB", "off").env("GOTOOLCHAIN", "local");
    let run = run.env("GOMODCACHE", MODULES).env("GOCACHE", "/build/cache").env("GOTMPDIR", SCRATCH);
    let entry = format!("{}\n{:?}", run.fingerprint(), program.embed);
    Input::known_by([(format!("program {}", program.name), entry)], Step { program: program.clone(), run })
}

/// Builds a program, unless an interrupted run of the stage has got that far.
fn build(
    work: &mut Work<'_>,
    tools: &Tools<'_>,
    scratch: &Path,
    step: &Step,
    mounted: impl Fn(Run) -> Run,
) -> Result<()> {
    let name = &step.program.name;
    let target = work.dir().join("bin").join(name);
    if target.is_file() {
        return Ok(());
    }
    write_overlay(&step.program.embed, scratch)?;
    let jobs = format!("-modcacherw -p={}", tools.jobs);
    work.run(tools.sandbox, &mounted(step.run.clone()).env("GOFLAGS", jobs))?;
    let modules = tools.sandbox.output(&mounted(Run::new([GO, "version", "-m", &format!("{SCRATCH}/{name}")])))?;
    atomic::write(&work.dir().join("modules").join(format!("{name}.txt")), modules)?;
    fs_err::create_dir_all(work.dir().join("bin"))?;
    Ok(fs_err::rename(scratch.join(name), target)?)
}

/// Makes the module cache `cache`, with links into the store as its downloads.
fn link_downloads(files: &[ModuleFile], cache: &Path) -> Result<()> {
    for file in files {
        let link = cache.join("cache/download").join(&file.path);
        if let Some(dir) = link.parent().filter(|_| link.symlink_metadata().is_err()) {
            fs_err::create_dir_all(dir)?;
            fs_err::os::unix::fs::symlink(format!("{STORE}/sha256/{}", file.sha256), link)?;
        }
    }
    Ok(())
}

/// Writes the embedded files, and the overlay that has Go read them (`go help build`, -overlay).
fn write_overlay(embed: &BTreeMap<String, String>, scratch: &Path) -> Result<()> {
    let mut replace = BTreeMap::new();
    for (number, (path, text)) in embed.iter().enumerate() {
        atomic::write(&scratch.join(format!("embedded-{number}")), text)?;
        replace.insert(format!("{MODULES}/{path}"), format!("{SCRATCH}/embedded-{number}"));
    }
    // Serialising a map of strings cannot fail.
    let overlay = serde_json::to_string(&BTreeMap::from([("Replace", replace)])).unwrap_or_default();
    atomic::write(&scratch.join(OVERLAY), overlay)
}

/// Fails if a file that `program` replaces is not in its module: Go ignores such a replacement.
fn check_embedded(list: List, program: &Program, modules: &Path) -> Result<()> {
    let missing = |path: &&String| modules.join(module_of(path)).is_dir() && !modules.join(path).is_file();
    let Some(path) = program.embed.keys().find(missing) else { return Ok(()) };
    Err(Error::new(Class::BadInput, format!("an embedded file of the program {} does not exist", program.name))
        .file(list.file())
        .why(format!("{path} is not in the module"))
        .hint("change its version there together with the one in go.mod"))
}

/// Returns the module of a path in the module cache: `x.org/m@v1` of `x.org/m@v1/file`.
fn module_of(path: &str) -> &str {
    let version = path.find('@').unwrap_or_default();
    path[version..].find('/').map_or(path, |end| &path[..version + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(embed: &[(&str, &str)]) -> Program {
        Program {
            name: "init".to_owned(),
            package: "x.org/m/init".to_owned(),
            tags: Some("a,b".to_owned()),
            amd64: "v1".to_owned(),
            embed: embed.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect(),
            stamps: BTreeMap::new(),
        }
    }

    #[test]
    fn a_program_is_built_without_network_and_c() {
        let text = step(&program(&[])).run.fingerprint();
        for part in [
            "-trimpath\n",
            "-mod=readonly\n",
            "-ldflags\n-s -w\n",
            "-tags\na,b\n",
            "\nx.org/m/init\n",
            "CGO_ENABLED=0",
            "GOAMD64=v1",
            "GOPROXY=off",
            "GOTOOLCHAIN=local",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let keys = |embed: &[(&str, &str)]| format!("{:?}", step(&program(embed)));
        assert_eq!(keys(&[("m@v1/tag", "a")]), keys(&[("m@v1/tag", "a")]));
        assert_ne!(keys(&[("m@v1/tag", "a")]), keys(&[("m@v1/tag", "b")]));
    }

    #[test]
    fn stamps_are_given_to_the_linker() {
        let stamps = [("x.org/m/version.major", "1"), ("x.org/m/version.minor", "2")];
        let stamps = stamps.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let text = step(&Program { stamps, ..program(&[]) }).run.fingerprint();
        assert!(text.contains("\n-s -w -X x.org/m/version.major=1 -X x.org/m/version.minor=2\n"), "{text}");
    }

    #[test]
    fn downloads_are_links_into_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let file = ModuleFile { path: "x.org/y/@v/v1.0.0.zip".to_owned(), sha256: common::Sha256::of("y") };
        for _ in 0..2 {
            link_downloads(std::slice::from_ref(&file), dir.path()).unwrap();
        }
        let link = std::fs::read_link(dir.path().join("cache/download").join(&file.path)).unwrap();
        assert_eq!(link, Path::new(&format!("/build/store/sha256/{}", file.sha256)));
    }

    #[test]
    fn embedded_files_are_replaced_by_an_overlay() {
        let dir = tempfile::tempdir().unwrap();
        let program = program(&[("x.org/m@v1.0.0/data/tag", "v1-ours")]);
        write_overlay(&program.embed, dir.path()).unwrap();
        let overlay = std::fs::read_to_string(dir.path().join("overlay.json")).unwrap();
        assert_eq!(overlay, r#"{"Replace":{"/build/modcache/x.org/m@v1.0.0/data/tag":"/build/scratch/embedded-0"}}"#);
        assert_eq!(std::fs::read(dir.path().join("embedded-0")).unwrap(), b"v1-ours");
        // A module of which nothing is needed is not unpacked.
        check_embedded(BASE, &program, dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("x.org/m@v1.0.0")).unwrap();
        let error = check_embedded(BASE, &program, dir.path()).unwrap_err();
        assert!(error.to_string().contains("x.org/m@v1.0.0/data/tag is not in the module"), "{error}");
        atomic::write(&dir.path().join("x.org/m@v1.0.0/data/tag"), "v1").unwrap();
        check_embedded(BASE, &program, dir.path()).unwrap();
    }
}
