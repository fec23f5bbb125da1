//! Directory and environment of one of the two builds.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use build::stages;
use xshell::{Shell, cmd};

use super::Which;

/// Variables of the caller's environment that downloads need.
const NETWORK: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
];

/// Parameters of both builds.
pub struct Plan {
    pub work: PathBuf,
    pub user: String,
    pub root: bool,
    pub processors: usize,
    pub profile: String,
    pub build: Vec<String>,
}

/// One build.
#[derive(Debug)]
pub struct Site {
    pub which: Which,
    pub dir: PathBuf,
    pub source: PathBuf,
    pub cache: PathBuf,
    pub out: PathBuf,
    /// Another user than the caller.
    pub user: Option<String>,
    pub umask: &'static str,
    pub locale: &'static str,
    pub time_zone: &'static str,
    jobs: usize,
    /// Variables that must not affect a build.
    noise: &'static [(&'static str, &'static str)],
}

impl Plan {
    /// The paths differ in length and depth; the rest differs in everything that is known to leak into outputs.
    pub fn site(&self, which: Which) -> Site {
        let (dir, source) = match which {
            Which::A => (self.work.join("a"), "src"),
            Which::B => (self.work.join("b-with-a-longer-name"), "deeper/and/deeper/source"),
        };
        let a = which == Which::A;
        Site {
            which,
            source: dir.join(source),
            cache: dir.join("cache"),
            out: dir.join("out"),
            dir,
            user: (self.root && !a).then(|| self.user.clone()),
            umask: if a { "022" } else { "077" },
            locale: if a { "C.UTF-8" } else { "tr_TR.UTF-8" },
            time_zone: if a { "UTC" } else { "Pacific/Kiritimati" },
            jobs: if a { self.processors } else { self.processors + 1 },
            noise: if a {
                &[]
            } else {
                &[
                    ("SOURCE_DATE_EPOCH", "1"),
                    ("KBUILD_BUILD_TIMESTAMP", "yesterday"),
                    ("RUSTFLAGS", "-Cdebuginfo=2"),
                    ("CFLAGS", "-g3"),
                    ("ZSTD_NBTHREADS", "3"),
                    ("COLUMNS", "47"),
                ]
            },
        }
    }
}

impl Site {
    /// One line for the log.
    pub fn describe(&self) -> String {
        let user = self.user.as_deref().unwrap_or("this user");
        let Self { umask, locale, time_zone, jobs, .. } = self;
        format!("{}, {user}, umask {umask}, {locale}, {time_zone}, {jobs} jobs", self.source.display())
    }

    /// The build itself, in an environment of its own.
    pub fn command(&self, plan: &Plan, program: &Path, mirrors: &[PathBuf], keys: Option<&Path>) -> Command {
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        if let Some(user) = &self.user {
            let group = format!("--regid={user}");
            words.extend([
                "setpriv".into(),
                format!("--reuid={user}").into(),
                group.into(),
                "--init-groups".into(),
                "--".into(),
            ]);
        }
        words.extend(["sh".into(), "-ec".into(), format!("umask {}; exec \"$@\"", self.umask).into(), "sh".into()]);
        words.push(program.into());
        words.extend(crate::BUILD.split(' ').chain(["--profile", plan.profile.as_str()]).map(Into::into));
        let options = [("--cache", &self.cache), ("--out", &self.out), ("--project", &self.source)];
        let mirrors = mirrors.iter().map(|dir| ("--mirror", dir));
        words.extend(options.into_iter().chain(mirrors).flat_map(|(name, path)| [name.into(), path.into()]));
        words.extend(["--jobs".into(), self.jobs.to_string().into()]);
        words.extend(keys.iter().flat_map(|dir| ["--keys".into(), dir.into()]));
        words.extend(plan.build.iter().map(Into::into));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.source).env_clear();
        let (home, user) = (self.dir.join("home"), self.user.clone().unwrap_or_else(|| "builder".to_owned()));
        command.env("HOME", &home).env("USER", &user).env("LOGNAME", &user);
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", self.locale).env("LANG", self.locale).env("TZ", self.time_zone);
        command.envs(NETWORK.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(self.noise.iter().copied());
        command
    }

    /// Makes the site's user the owner of its files.
    pub fn hand_over(&self, shell: &Shell) -> Result<()> {
        let dir = &self.dir;
        shell.create_dir(dir.join("home"))?;
        let Some(user) = &self.user else { return Ok(()) };
        // Links into another cache stay its own.
        Ok(cmd!(shell, "chown -R --no-dereference {user}: {dir}").quiet().run()?)
    }
}

/// Puts toolchain and compiled kernel of `cache` into the site's: as links, or as copies for a user who cannot follow them.
pub fn reuse_kernel(shell: &Shell, site: &Site, cache: &Path) -> Result<()> {
    let mut kernels = 0;
    for stage in shell.read_dir(cache.join("stages")).context("the cache to reuse has no stages")? {
        let name = stage.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !stages::owned(&stages::TO_KERNEL, &name) {
            continue;
        }
        kernels += usize::from(stages::KERNEL.owns(&name));
        let to = site.cache.join("stages").join(&name);
        if to.symlink_metadata().is_ok() {
            continue;
        }
        match site.user {
            None => std::os::unix::fs::symlink(&stage, &to)?,
            Some(_) => cmd!(shell, "cp -a --reflink=auto {stage} {to}").quiet().run()?,
        }
    }
    if kernels == 0 {
        bail!("{} contains no compiled kernel", cache.display());
    }
    Ok(())
}

/// What was downloaded may be shared. Another user gets links to the same files in a directory that it can enter.
pub fn share_downloads(shell: &Shell, site: &Site, mirrors: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if site.user.is_none() {
        return Ok(mirrors.to_vec());
    }
    let shared = site.dir.join("downloads");
    shell.create_dir(&shared)?;
    for mirror in mirrors {
        for file in shell.read_dir(mirror)?.into_iter().filter(|path| path.is_file()) {
            let to = shared.join(file.file_name().unwrap_or_default());
            if !to.exists() {
                std::fs::copy(&file, &to)?;
            }
        }
    }
    Ok(vec![shared])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(root: bool) -> Plan {
        let (work, user) = ("/w".into(), "other".to_owned());
        Plan {
            work,
            user,
            root,
            processors: 2,
            profile: "vm".to_owned(),
            build: vec!["--preset".into(), "agave".into()],
        }
    }

    fn words(plan: &Plan, which: Which) -> (String, Vec<(String, String)>) {
        let command = plan.site(which).command(plan, Path::new("/p"), &["/m".into()], Some(Path::new("/k")));
        let text = |s: &std::ffi::OsStr| s.to_string_lossy().into_owned();
        let words =
            std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect::<Vec<_>>().join(" ");
        (words, command.get_envs().filter_map(|(k, v)| Some((text(k), text(v?)))).collect())
    }

    #[test]
    fn the_second_build_differs_in_all_it_can() {
        let plan = plan(true);
        let (a, b) = (plan.site(Which::A), plan.site(Which::B));
        assert_ne!(a.source.as_os_str().len(), b.source.as_os_str().len());
        assert!(a.umask != b.umask && a.locale != b.locale && a.time_zone != b.time_zone && a.jobs != b.jobs);
        let ((a, _), (b, env)) = (words(&plan, Which::A), words(&plan, Which::B));
        assert!(
            a.starts_with(
                "sh -ec umask 022; exec \"$@\" sh /p build --config examples/test/solana-talos.toml --profile vm"
            ),
            "{a}"
        );
        assert!(b.starts_with("setpriv --reuid=other --regid=other --init-groups -- sh -ec umask 077;"), "{b}");
        assert!(b.ends_with("--mirror /m --jobs 3 --keys /k --preset agave"), "{b}");
        assert!(env.contains(&("SOURCE_DATE_EPOCH".to_owned(), "1".to_owned())), "{env:?}");
    }

    #[test]
    fn without_root_both_are_the_callers() {
        assert_eq!(plan(false).site(Which::B).user, None);
        assert!(words(&plan(false), Which::B).0.starts_with("sh -ec umask 077;"));
    }

    #[test]
    fn the_kernel_is_reused_and_nothing_after_it() {
        let names = ["toolchain", "kernel", "kernel-config", "kernel-image", "kernel-modules", "module"];
        let kept = |name: &&str| stages::owned(&stages::TO_KERNEL, &format!("{name}-0123456789abcdef"));
        let kept: Vec<_> = names.into_iter().filter(kept).collect();
        assert_eq!(kept, ["toolchain", "kernel", "kernel-config"]);
    }
}
