//! Runs programs of the toolchain inside its root filesystem, in namespaces (bubblewrap).
//!
//! The root filesystem is read-only, `/build` and `/tmp` are empty, the environment is only what is set here, and there is no network by
//! default. Paths inside are fixed, so host paths cannot reach an output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Class, Error, Result};
use crate::origins::Origins;
use crate::process::{self, Ended};

/// Debian's and Ubuntu's file of trusted certificate authorities.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The C library's message for `ENOSPC`.
const NO_SPACE: &str = "No space left on device";
/// Free bytes below which a failure is attributed to a full disk, whatever the program reports: make has removed a partial file by then.
const LITTLE_SPACE: u64 = 1 << 20;

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bind {
    host: PathBuf,
    inside: String,
    writable: bool,
}

/// One program to run in the sandbox, as data.
#[derive(Clone, Debug)]
pub struct Run {
    argv: Vec<String>,
    binds: Vec<Bind>,
    devices: Vec<String>,
    env: BTreeMap<String, String>,
    directory: String,
    network: bool,
    origins: Origins,
}

impl Run {
    /// Creates a run; `argv[0]` is looked up in the toolchain's `PATH`.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let env = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/tmp"),
            ("LC_ALL", "C"),
            ("TZ", "UTC"),
        ];
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            binds: Vec::new(),
            devices: Vec::new(),
            env: env.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            directory: "/build".to_owned(),
            network: false,
            origins: Origins::default(),
        }
    }

    /// Creates a run of a shell script, with `sh -eu`; `arguments` are `$1`….
    pub fn script(script: &str, arguments: &[&str]) -> Self {
        Self::new(["sh", "-euc", script, "sh"].iter().chain(arguments).copied())
    }

    /// Mounts `host` read-only at `inside`.
    #[must_use]
    pub fn read(self, host: &Path, inside: &str) -> Self {
        self.bind(host, inside, false)
    }

    /// Mounts `host` writable at `inside`.
    #[must_use]
    pub fn write(self, host: &Path, inside: &str) -> Self {
        self.bind(host, inside, true)
    }

    /// Shows files below `inside` in the output as those below `host`, where the user has them; see [`Origins`].
    #[must_use]
    pub fn origin(mut self, host: &Path, inside: &str) -> Self {
        self.origins.add(host, inside);
        self
    }

    fn bind(mut self, host: &Path, inside: &str, writable: bool) -> Self {
        self.binds.push(Bind { host: host.to_owned(), inside: inside.to_owned(), writable });
        self
    }

    /// Gives access to the device `path` of the host.
    #[must_use]
    pub fn device(mut self, path: &str) -> Self {
        self.devices.push(path.to_owned());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// Sets the working directory; the default is `/build`.
    #[must_use]
    pub fn directory(mut self, inside: &str) -> Self {
        inside.clone_into(&mut self.directory);
        self
    }

    /// Allows network access. Only for fetching pinned inputs.
    #[must_use]
    pub fn with_network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Returns the bubblewrap command line for this run in `rootfs`.
    #[must_use]
    pub fn arguments(&self, rootfs: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut push = |words: &[&dyn AsRef<std::ffi::OsStr>]| args.extend(words.iter().map(|w| w.as_ref().to_owned()));
        push(&[&"bwrap", &"--ro-bind", &rootfs, &"/"]);
        push(&[&"--dev", &"/dev", &"--proc", &"/proc", &"--tmpfs", &"/tmp", &"--tmpfs", &"/build"]);
        push(&[&"--unshare-pid", &"--unshare-ipc", &"--unshare-uts", &"--hostname", &"solana-talos"]);
        push(&[&"--die-with-parent", &"--clearenv"]);
        if self.network {
            push(&[&"--ro-bind-try", &"/etc/resolv.conf", &"/etc/resolv.conf"]);
            push(&[&"--ro-bind-try", &"/etc/hosts", &"/etc/hosts"]);
            // The host may trust more authorities than Debian, such as an inspecting proxy's.
            push(&[&"--ro-bind-try", &CA_BUNDLE, &CA_BUNDLE]);
        } else {
            push(&[&"--unshare-net"]);
        }
        for (key, value) in &self.env {
            push(&[&"--setenv", key, value]);
        }
        for bind in &self.binds {
            push(&[&if bind.writable { "--bind" } else { "--ro-bind" }, &bind.host, &bind.inside]);
        }
        for device in &self.devices {
            push(&[&"--dev-bind", device, device]);
        }
        push(&[&"--chdir", &self.directory, &"--"]);
        args.extend(self.argv.iter().map(OsString::from));
        args
    }

    /// Returns the run as a line that can be pasted into a shell.
    #[must_use]
    pub fn shell_line(&self, rootfs: &Path) -> String {
        self.arguments(rootfs).iter().map(|a| quote(&a.to_string_lossy())).collect::<Vec<_>>().join(" ")
    }

    /// Returns program, arguments and environment as text for a stage's key, without make's number of jobs.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let words = self.argv.iter().filter(|word| !is_jobs(word)).cloned();
        let env = self.env.iter().map(|(key, value)| format!("{key}={value}"));
        words.chain(env).collect::<Vec<_>>().join("\n")
    }

    fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }
}

/// A program that ran and failed, as the error that reports it.
#[derive(Debug)]
pub struct Failed(pub Error);

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.0
    }
}

/// A root filesystem to run programs in.
#[derive(Clone, Debug)]
pub struct Sandbox {
    rootfs: PathBuf,
}

impl Sandbox {
    /// Creates a sandbox for `rootfs`.
    #[must_use]
    pub fn new(rootfs: PathBuf) -> Self {
        Self { rootfs }
    }

    /// Returns the path of the root filesystem.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// Runs a program, and passes each line of its output to `on_line`.
    ///
    /// # Errors
    /// [`Class::MissingTool`] without bubblewrap or without the program, [`Class::BuildFailed`] when it fails.
    pub fn run(&self, run: &Run, on_line: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(self.try_run(run, on_line)??)
    }

    /// As [`Sandbox::run`]; the inner error is that the program failed.
    pub fn try_run(&self, run: &Run, on_line: &mut dyn FnMut(&str)) -> Result<Result<(), Failed>> {
        let mut shown = |line: &str| on_line(&run.origins.show(line));
        let ended = process::stream(self.command(run), &mut shown).map_err(|e| spawn_error(&e))?;
        self.check(run, &ended)
    }

    /// Runs a program and returns its standard output.
    pub fn output(&self, run: &Run) -> Result<Vec<u8>> {
        Ok(self.try_output(run)??)
    }

    /// As [`Sandbox::output`]; the inner error is that the program failed.
    pub fn try_output(&self, run: &Run) -> Result<Result<Vec<u8>, Failed>> {
        let (stdout, ended) = process::output(self.command(run)).map_err(|e| spawn_error(&e))?;
        Ok(self.check(run, &ended)?.map(|()| stdout))
    }

    /// Returns the command that starts `run`, for callers that run it in the background.
    #[must_use]
    pub fn command(&self, run: &Run) -> Command {
        let args = run.arguments(&self.rootfs);
        let mut command = Command::new(&args[0]);
        command.args(&args[1..]).env_clear();
        // --clearenv only covers the program: bubblewrap's own environment, possibly with a PIN, is in /proc/1/environ inside.
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command
    }

    fn check(&self, run: &Run, ended: &Ended) -> Result<Result<(), Failed>> {
        if ended.status.success() {
            return Ok(Ok(()));
        }
        let ended = &Ended { status: ended.status, tail: run.origins.show(&ended.tail).into_owned() };
        let program = run.program();
        if let Some(missing) = missing(program, ended) {
            return Err(Error::new(Class::MissingTool, format!("{missing} is not in the toolchain"))
                .why(&ended.tail)
                .hint("add its package to crates/toolchain/packages.list and run `./x build` again"));
        }
        if let Some(why) = no_space(run, ended) {
            return Err(Error::new(Class::Infrastructure, format!("{program} failed on a full disk"))
                .why(why)
                .hint("free some space, or point SOLANA_TALOS_CACHE and --out at a larger disk"));
        }
        let failed = Error::new(Class::BuildFailed, format!("{program} failed with {}", ended.status));
        let hint = format!("to reproduce: {}", run.shell_line(&self.rootfs));
        Ok(Err(Failed(failed.why(&ended.tail).hint(hint))))
    }
}

/// Checks that the namespaces that every [`Run`] needs are allowed, before anything is downloaded.
///
/// # Errors
/// [`Class::MissingTool`] without bubblewrap, [`Class::Infrastructure`] where namespaces are forbidden.
pub fn ready() -> Result<()> {
    let mut command = Command::new("bwrap");
    command.args("--ro-bind / / --dev /dev --proc /proc --unshare-pid --unshare-net /bin/true".split(' '));
    let (_, ended) = process::output(command).map_err(|e| spawn_error(&e))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Error::new(Class::Infrastructure, "cannot create the namespaces for the toolchain's sandbox")
        .why(ended.tail)
        .hint(
            "run as root (in a container: with --privileged), or allow user namespaces: \
             `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on Ubuntu",
        ))
}

/// Returns the program that was not found, by bubblewrap or by the shell of a script (exit status 127, POSIX sh section 2.8.2).
fn missing<'a>(program: &'a str, ended: &'a Ended) -> Option<&'a str> {
    if ended.tail.contains("execvp") && ended.tail.contains("No such file") {
        return Some(program);
    }
    let by_shell = || ended.tail.lines().rev().find_map(|line| line.strip_suffix(": not found")?.rsplit(": ").next());
    (ended.status.code() == Some(127)).then(by_shell).flatten()
}

/// Returns the reason if a run failed on a full disk. Not every program reports that: the kernel's fixdep does not.
fn no_space(run: &Run, ended: &Ended) -> Option<String> {
    if ended.tail.contains(NO_SPACE) {
        return Some(ended.tail.clone());
    }
    let free = |dir: &Path| rustix::fs::statvfs(dir).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let mut written = run.binds.iter().filter(|bind| bind.writable).map(|bind| &bind.host);
    let full = written.find(|dir| free(dir).is_ok_and(|free| free < LITTLE_SPACE))?;
    Some(format!("{NO_SPACE}, or almost none, under {}\n{}", full.display(), ended.tail))
}

fn is_jobs(word: &str) -> bool {
    word.strip_prefix("-j").is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()))
}

fn spawn_error(err: &std::io::Error) -> Error {
    Error::new(Class::MissingTool, "cannot start bwrap, the sandbox of the toolchain")
        .why(err)
        .hint("install the package bubblewrap; `./x` does so")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(run: &Run) -> String {
        run.shell_line(Path::new("/r"))
    }

    #[test]
    fn has_no_network_and_no_environment_by_default() {
        let closed = line(&Run::new(["make", "-j2"]));
        assert!(closed.contains("--unshare-net") && closed.contains("--clearenv"), "{closed}");
        assert!(closed.ends_with("--chdir /build -- make -j2"), "{closed}");
        assert!(!line(&Run::new(["apt-get"]).with_network()).contains("--unshare-net"));
    }

    #[test]
    fn binds_read_only_by_default() {
        let text = line(&Run::new(["true"]).read(Path::new("/a"), "/build/a").write(Path::new("/b"), "/build/b"));
        assert!(text.contains("--ro-bind /a /build/a --bind /b /build/b"), "{text}");
        assert!(!text.contains("--dev-bind"), "{text}");
        assert!(line(&Run::new(["true"]).device("/dev/kvm")).contains("--dev-bind /dev/kvm /dev/kvm"));
    }

    #[test]
    fn a_fingerprint_ignores_the_number_of_jobs() {
        let of = |jobs: &str| Run::new(["make", jobs, "-junk"]).fingerprint();
        assert_eq!(of("-j2"), of("-j64"));
        assert_ne!(of("-j2"), of("-k"));
    }

    #[test]
    fn quotes_for_the_shell() {
        assert_eq!(quote("a b'c"), r"'a b'\''c'");
        assert_eq!(quote("-j2"), "-j2");
        assert_eq!(quote(""), "''");
    }
}
