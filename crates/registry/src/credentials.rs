//! Finds logins in the auth files and with the credential helpers they name (docker-credential-helpers, protocol `get`).

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Class, Error, Result};

use crate::docker_config::{self, Login, Source};

/// Output of a helper without a login for the registry.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// A source of logins.
pub trait Keyring: Sync {
    /// Returns the login for a repository, if there is one.
    ///
    /// # Errors
    /// If an auth file is malformed or a credential helper fails.
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>>;
}

/// Has no logins.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

impl Keyring for Anonymous {
    fn find(&self, _registry: &str, _repository: &str) -> Result<Option<Login>> {
        Ok(None)
    }
}

/// The auth files of Docker and podman.
#[derive(Clone, Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    helper_path: OsString,
}

impl Files {
    /// Returns the files of the environment: only `$REGISTRY_AUTH_FILE` if it is set; else `config.json` in `$DOCKER_CONFIG` or `~/.docker`,
    /// then podman's `containers/auth.json` in `$XDG_RUNTIME_DIR` and in `$XDG_CONFIG_HOME` or `~/.config`. The first with a login wins.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let dir = |name: &str| get(name).map(PathBuf::from);
        let home = dir("HOME");
        let below = |path: &str| home.as_ref().map(|home| home.join(path));
        let paths = match dir("REGISTRY_AUTH_FILE") {
            Some(only) => vec![only],
            None => [
                dir("DOCKER_CONFIG").or_else(|| below(".docker")).map(|d| d.join("config.json")),
                dir("XDG_RUNTIME_DIR").map(|d| d.join("containers/auth.json")),
                dir("XDG_CONFIG_HOME").or_else(|| below(".config")).map(|d| d.join("containers/auth.json")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        Self { paths, helper_path: get("PATH").unwrap_or_default() }
    }
}

impl Keyring for Files {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Login>> {
        for path in &self.paths {
            let text = match std::fs::read_to_string(path) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("cannot read the auth file", path, &e)),
            };
            let login = match docker_config::find(&text, registry, repository).map_err(|e| e.file(path))? {
                Some(Source::Login(login)) => Some(login),
                Some(Source::Helper { name, key }) => self.run_helper(path, &name, &key)?,
                None => None,
            };
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }
}

impl Files {
    /// Runs `docker-credential-<name> get`. Its output is never shown: it may contain the secret even on failure.
    fn run_helper(&self, file: &Path, name: &str, key: &str) -> Result<Option<Login>> {
        let program = format!("docker-credential-{name}");
        let failed = |class, why: String| {
            Error::new(class, format!("cannot get the login for {key} from the credential helper {program}"))
                .file(file)
                .why(why)
                .hint(format!("check its output: echo {key} | {program} get"))
        };
        let mut child = Command::new(&program)
            .arg("get")
            .env("PATH", &self.helper_path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(Class::MissingTool, format!("it cannot be started: {e}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // If a helper does not read its input, its output is wrong.
            let _ = stdin.write_all(key.as_bytes());
        }
        let output = child.wait_with_output().map_err(|e| failed(Class::Infrastructure, e.to_string()))?;
        if !output.status.success() {
            if String::from_utf8_lossy(&output.stdout).contains(NOT_FOUND) {
                return Ok(None);
            }
            return Err(failed(Class::Infrastructure, format!("it exited with {}", output.status)));
        }
        docker_config::parse_helper(&output.stdout).map(Some).map_err(|e| failed(Class::Infrastructure, e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::secret::Secret;

    fn files(dir: &Path, more: &[(&str, &str)]) -> Files {
        Files::from_environment(|name| {
            let more = more.iter().find(|(n, _)| *n == name).map(|(_, v)| dir.join(v).into());
            more.or_else(|| match name {
                "HOME" => Some(dir.into()),
                "PATH" => Some(format!("{}/bin:/usr/bin:/bin", dir.display()).into()),
                _ => None,
            })
        })
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_first_file_with_a_login_wins() {
        let dir = tempfile::tempdir().unwrap();
        let user = |files: &Files| match files.find("r.io", "a").unwrap() {
            Some(Login::Password { user, .. }) => user,
            other => format!("{other:?}"),
        };
        assert_eq!(user(&files(dir.path(), &[])), "None");
        let entry = |user: &str| format!(r#"{{"auths":{{"r.io":{{"username":"{user}","password":"p"}}}}}}"#);
        write(&dir.path().join(".config/containers/auth.json"), &entry("podman"));
        assert_eq!(user(&files(dir.path(), &[])), "podman");
        write(&dir.path().join(".docker/config.json"), r#"{"auths":{"other.io":{}}}"#);
        assert_eq!(user(&files(dir.path(), &[])), "podman");
        write(&dir.path().join("d/config.json"), &entry("docker"));
        assert_eq!(user(&files(dir.path(), &[("DOCKER_CONFIG", "d")])), "docker");
        write(&dir.path().join("only.json"), "{}");
        assert_eq!(user(&files(dir.path(), &[("REGISTRY_AUTH_FILE", "only.json")])), "None");
    }

    #[test]
    fn helpers_are_run_and_their_output_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let config = r#"{"credHelpers":{"a.io":"good","b.io":"empty","c.io":"broken","d.io":"missing","e.io":"odd"}}"#;
        write(&dir.path().join(".docker/config.json"), config);
        let helper = |name: &str, script: &str| {
            write(&dir.path().join(format!("bin/docker-credential-{name}")), script);
        };
        helper(
            "good",
            "#!/bin/sh\n[ \"$1\" = get ] && read -r key; echo \"{\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"for-$key\\\"}\"\n",
        );
        helper("empty", "#!/bin/sh\necho credentials not found in native keychain; exit 1\n");
        helper("broken", "#!/bin/sh\necho hunter22; echo hunter22 >&2; exit 3\n");
        helper("odd", "#!/bin/sh\necho hunter22\n");
        let files = files(dir.path(), &[]);
        let good = Login::Password { user: "u".to_owned(), password: Secret::new("for-a.io") };
        assert_eq!(files.find("a.io", "x").unwrap(), Some(good));
        assert_eq!(files.find("b.io", "x").unwrap(), None);
        for (host, expected) in [("c.io", "exit status: 3"), ("d.io", "cannot be started"), ("e.io", "not JSON")] {
            let error = files.find(host, "x").unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter22"), "{error}");
        }
    }
}
