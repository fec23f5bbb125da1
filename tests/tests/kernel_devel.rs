//! The kernel-devel image, checked with third-party tools, and modules built with it.

use anyhow::{Context as _, anyhow, ensure};
use common::sandbox::Run;
use fs_err as fs;
use harness::modules::{Builder, project, sample};
use harness::settings::{OUT, Settings};
use harness::{Result, signature};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

/// Unpacks the image of that name into a directory; skopeo verifies every digest.
const UNPACK: &str = r#"
skopeo --insecure-policy copy -q "oci:/build/image:ghcr.io/our-org/$1:custom-solana-v1.10.3" dir:/tmp/image
for layer in $(sed 's/"layers"/\n&/' /tmp/image/manifest.json | grep '^"layers"' | grep -o 'sha256:[0-9a-f]*' | cut -d: -f2); do
    tar -x -f "/tmp/image/$layer" -C /build/out --no-same-owner
done
"#;

fn settings() -> Option<&'static Settings> {
    static SETTINGS: LazyLock<Option<Settings>> = LazyLock::new(|| Settings::with_program(OUT));
    SETTINGS.as_ref()
}

/// Unpacks the image `name` of the build's outputs into a new directory.
fn unpack(settings: &Settings, name: &str) -> Result<PathBuf> {
    let root = settings.work.join("unpacked").join(name);
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    let layout = settings.out.join(format!("{name}.oci"));
    settings.sandbox.output(&Run::script(UNPACK, &[name]).read(&layout, "/build/image").write(&root, "/build/out"))?;
    Ok(root)
}

/// The kernel-devel image, unpacked once for all tests, which only read it.
fn devel(settings: &Settings) -> Result<&'static Path> {
    static ROOT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| unpack(settings, "kernel-devel").map_err(|e| format!("{e:#}")));
    root.as_deref().map_err(|e| anyhow!("{e}"))
}

/// Returns the kernel tree in an unpacked image.
fn tree(root: &Path) -> Result<PathBuf> {
    let mut trees = fs::read_dir(root.join("usr/src"))?;
    Ok(trees.next().context("no kernel tree in the image")??.path())
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Texts that identify this machine: its directories, host name and user.
fn machine_texts(settings: &Settings) -> Vec<String> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let shown = |path: Option<&Path>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let user = Some(variable("USER")).filter(|user| !user.is_empty()).unwrap_or_else(|| "root".to_owned());
    let project = project().canonicalize().unwrap_or_default();
    let cache = shown(settings.sandbox.rootfs().ancestors().nth(3));
    let home = format!("{}/", variable("HOME").trim_end_matches('/'));
    let texts = [cache, shown(Some(&project)), home, format!("{user}@{}", host.trim()), shown(Some(&settings.out))];
    // Short paths, and those that also exist in the sandbox, do not identify the machine.
    texts.into_iter().filter(|text| text.len() > 4 && !text.starts_with("/build")).collect()
}

/// Returns parts of the module signer's private key: the second half of its DER and of the lines of its PEM.
fn secrets(settings: &Settings, key: &Path) -> Result<(Vec<u8>, Vec<String>)> {
    let convert = ["openssl", "pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", "/build/key"];
    let der = settings.sandbox.output(&Run::new(convert).read(key, "/build/key"))?;
    // The first half contains the public modulus, which is in every certificate.
    let pem = fs::read_to_string(key)?;
    let lines: Vec<_> = pem.lines().filter(|line| line.len() == 64).map(str::to_owned).collect();
    ensure!(der.len() > 2000 && lines.len() > 30, "not an RSA-4096 key");
    Ok((der[der.len() / 2..].to_vec(), lines[lines.len() / 2..].to_vec()))
}

/// Lists the files below `root` that contain one of the texts or a piece of the secret bytes.
const SEARCH: &str = r#"
{ grep -rlaF -f /build/texts /build/root || [ $? = 1 ]; LC_ALL=C grep -rlaP -f /build/bytes /build/root || [ $? = 1 ]; } | sort -u
"#;

fn leaks(settings: &Settings, root: &Path, texts: &[String], secret: &[u8]) -> Result<Vec<String>> {
    let work = tempfile::tempdir()?;
    // grep searches line by line, so the piece must not contain the end of a line.
    let piece = secret[secret.len() / 2..].windows(24).find(|piece| !piece.contains(&b'\n'));
    let piece: String = piece.context("no piece of the key")?.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    fs::write(work.path().join("texts"), texts.join("\n"))?;
    fs::write(work.path().join("bytes"), piece)?;
    let run = ["texts", "bytes"].iter().fold(Run::script(SEARCH, &[]).read(root, "/build/root"), |run, name| {
        run.read(&work.path().join(name), &format!("/build/{name}"))
    });
    let found = settings.sandbox.output(&run)?;
    Ok(String::from_utf8_lossy(&found).lines().map(str::to_owned).collect())
}

#[test]
fn the_image_contains_no_secret_and_no_path_of_this_machine() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let root = devel(settings)?;
    let key = Builder::new(settings, "leaks")?.keys.join("module.key.pem");
    let (der, lines) = secrets(settings, &key)?;
    let machine = machine_texts(settings);
    ensure!(machine.len() >= 3, "too few texts to search for: {machine:?}");
    let begins = ["-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----"];
    let texts: Vec<String> = machine.iter().chain(&lines).cloned().chain(begins.map(str::to_owned)).collect();
    let found = leaks(settings, root, &texts, &der)?;
    ensure!(found.is_empty(), "{found:#?}");

    // Positive test of the search.
    let planted = tempfile::tempdir()?;
    fs::write(planted.path().join("der"), [b"junk".as_slice(), &der].concat())?;
    fs::write(planted.path().join("line"), format!("x{}", lines[3]))?;
    fs::write(planted.path().join("path"), format!("x{}y", machine[0]))?;
    fs::write(planted.path().join("harmless"), "x")?;
    let found = leaks(settings, planted.path(), &texts, &der)?;
    ensure!(found == ["/build/root/der", "/build/root/line", "/build/root/path"], "{found:#?}");
    Ok(())
}

#[test]
fn the_image_contains_what_make_needs_and_no_objects() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let root = devel(settings)?;
    let tree = tree(root)?;
    let release = fs::read_to_string(tree.join("include/config/kernel.release"))?.trim().to_owned();
    ensure!(tree.ends_with(format!("linux-headers-{release}")), "{} is not for {release}", tree.display());
    let link = fs::read_link(root.join(format!("usr/lib/modules/{release}/build")))?;
    ensure!(
        link == Path::new(&format!("/usr/src/linux-headers-{release}")),
        "the link build points to {}",
        link.display()
    );
    for file in [".config", "Module.symvers", "rust/libkernel.rmeta", "scripts/target.json", "tools/objtool/objtool"] {
        ensure!(tree.join(file).is_file(), "no {file}");
    }
    ensure!(
        fs::read(tree.join("certs/module.crt.pem"))? == fs::read(settings.out.join("module.crt.pem"))?,
        "the certificate differs"
    );
    ensure!(
        fs::read(tree.join(".config"))? == fs::read(settings.out.join("kernel.config"))?,
        "the configuration differs"
    );
    let mut all = Vec::new();
    files(root, &mut all)?;
    let surplus = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        [".o", ".a", ".ko", ".cmd"].iter().any(|end| name.ends_with(end)) || ["sign-file", "vmlinux"].contains(&&*name)
    };
    let surplus: Vec<_> = all.iter().filter(surplus).collect();
    ensure!(surplus.is_empty(), "{surplus:?}");
    Ok(())
}

/// GNU make in the toolchain gets only the tree and the module.
#[test]
fn make_builds_a_module_without_our_program() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let tree = tree(devel(settings)?)?;
    let dir = tempfile::tempdir()?;
    let module = dir.path().join("module");
    let copy = Run::new(["cp", "-R", "/build/sample", "/build/out/module"]);
    settings.sandbox.output(&copy.read(&sample("rust"), "/build/sample").write(dir.path(), "/build/out"))?;
    let make = Run::new(["make", "-C", "/build/headers", "M=/build/module"]);
    settings.sandbox.output(&make.read(&tree, "/build/headers").write(&module, "/build/module"))?;
    ensure!(module.join("sample_rust.ko").is_file(), "make built no module");
    Ok(())
}

#[test]
fn our_module_is_rebuilt_byte_for_byte() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let builder = Builder::new(settings, "same")?;
    let (module, _) = builder.build(&project().join("module"), "solana_optimizer.ko", &builder.keys)?;
    let root = unpack(settings, "solana-optimizer")?;
    let mut all = Vec::new();
    files(root.as_ref(), &mut all)?;
    let shipped = all.iter().find(|path| path.ends_with("solana_optimizer.ko")).context("no module in the image")?;
    let shipped = fs::read(shipped)?;
    ensure!(signature::strip(&module)? == signature::strip(&shipped)?, "the code differs");
    ensure!(module == shipped, "the signature differs");
    ensure!(builder.modinfo("solana_optimizer.ko", "sig_hashalgo")? == "sha512", "wrong digest of the signature");
    Ok(())
}

#[test]
fn compiler_errors_are_shown() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let builder = Builder::new(settings, "broken")?;
    let module = tempfile::tempdir()?;
    let source = module.path().join("a.c").display().to_string();
    let undeclared = format!("{source}:2:22: error: use of undeclared identifier 'nothing'");
    let cases = [
        ("obj-m := a.o", "#include <linux/module.h>\nint f(void) { return nothing; }\n", 4, undeclared.as_str()),
        (
            "obj-m := a.o",
            "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\nint no_such(void);\nint f(void) { return no_such(); }\n",
            4,
            "\"no_such\" [/build/module/a.ko] undefined!",
        ),
        ("obj-y := a.o", "", 2, "builds no module"),
    ];
    for (kbuild, source, code, words) in cases {
        fs::write(module.path().join("Kbuild"), kbuild)?;
        fs::write(module.path().join("a.c"), source)?;
        let output = builder.run(module.path(), &[])?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code) && stderr.contains(words), "{words}: {stderr}");
        ensure!(stderr.contains(&module.path().display().to_string()), "no directory in the error: {stderr}");
        ensure!(!builder.out().exists(), "an output was left");
    }
    Ok(())
}

#[test]
fn modules_are_packed_as_an_extension() -> Result<()> {
    let Some(settings) = settings() else { return Ok(()) };
    let builder = Builder::new(settings, "extension")?;
    let manifest = sample("c").join("manifest.yaml");
    let output = builder.run(&sample("c"), &["--extension".as_ref(), manifest.as_os_str()])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(stdout.contains("name      ghcr.io/our-org/sample-c:0.1.0"), "output: {stdout}");
    let image = builder.out().join("sample-c.oci");
    let list = "skopeo --insecure-policy copy -q oci:/build/image dir:/tmp/image; cat /tmp/image/* | tar -tzif - 2>/dev/null || for f in /tmp/image/*; do tar -tzf \"$f\" 2>/dev/null || :; done";
    let names = settings.sandbox.output(&Run::script(list, &[]).read(&image, "/build/image"))?;
    let names = String::from_utf8_lossy(&names).into_owned();
    ensure!(names.contains("manifest.yaml") && names.contains("/extras/sample_c.ko"), "files: {names}");
    Ok(())
}
