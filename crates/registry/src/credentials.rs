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

    /// Returns a line for each place that [`Keyring::find`] reads: the place, and whether it has a login for the repository. No secrets; runs
    /// no helper.
    fn places(&self, registry: &str, repository: &str) -> Vec<String>;
}

/// Has no logins.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

impl Keyring for Anonymous {
    fn find(&self, _registry: &str, _repository: &str) -> Result<Option<Login>> {
        Ok(None)
    }

    fn places(&self, _registry: &str, _repository: &str) -> Vec<String> {
        Vec::new()
    }
}

/// The auth files of Docker, podman and skopeo.
#[derive(Clone, Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    helper_path: OsString,
}

impl Files {
    /// Returns the files of the environment in the order of containers-auth.json(5): only `$REGISTRY_AUTH_FILE` if it is set; else
    /// `containers/auth.json` in `$XDG_RUNTIME_DIR`, or without that variable in `/run/containers/<uid>`, and in `$XDG_CONFIG_HOME` or
    /// `~/.config`; then Docker's `config.json` in `$DOCKER_CONFIG` or `~/.docker`. The first with a login wins.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let dir = |name: &str| get(name).map(PathBuf::from);
        let home = dir("HOME");
        let below = |path: &str| home.as_ref().map(|home| home.join(path));
        let paths = match dir("REGISTRY_AUTH_FILE") {
            Some(only) => vec![only],
            None => [
                Some(dir("XDG_RUNTIME_DIR").map_or_else(|| runtime(uid), |d| d.join("containers/auth.json"))),
                dir("XDG_CONFIG_HOME").or_else(|| below(".config")).map(|d| d.join("containers/auth.json")),
                dir("DOCKER_CONFIG").or_else(|| below(".docker")).map(|d| d.join("config.json")),
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
            let login = match look(path, registry, repository)? {
                Found::Source(Source::Login(login)) => Some(login),
                Found::Source(Source::Helper { name, key }) => self.run_helper(path, &name, &key)?,
                Found::NoFile | Found::Unreadable | Found::NoLogin => None,
            };
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }

    /// Ends with the file whose login [`Keyring::find`] returns.
    fn places(&self, registry: &str, repository: &str) -> Vec<String> {
        let mut places = Vec::new();
        for path in &self.paths {
            let found = look(path, registry, repository);
            let last = matches!(found, Ok(Found::Source(Source::Login(_))) | Err(_));
            let what = match found {
                Ok(Found::NoFile) => "no such file".to_owned(),
                Ok(Found::Unreadable) => "you may not read it".to_owned(),
                Ok(Found::NoLogin) => format!("no login for {registry}"),
                Ok(Found::Source(Source::Login(_))) => format!("a login for {registry}"),
                Ok(Found::Source(Source::Helper { name, .. })) => {
                    format!("leaves logins for {registry} to docker-credential-{name}")
                }
                Err(_) => "unusable".to_owned(),
            };
            places.push(format!("{}: {what}", path.display()));
            if last {
                break;
            }
        }
        places
    }
}

/// What an auth file has for a repository.
enum Found {
    NoFile,
    /// Not an error: `skopeo login` of root makes `/run/containers` unreadable for everybody else.
    Unreadable,
    NoLogin,
    Source(Source),
}

fn look(path: &Path, registry: &str, repository: &str) -> Result<Found> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Found::NoFile),
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Ok(Found::Unreadable),
        Err(e) => return Err(Error::io("cannot read the auth file", path, &e)),
    };
    let found = docker_config::find(&text, registry, repository).map_err(|e| e.file(path))?;
    Ok(found.map_or(Found::NoLogin, Found::Source))
}

/// Where podman and skopeo log in without `$XDG_RUNTIME_DIR`, as for root.
fn runtime(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/containers/{uid}/auth.json"))
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

    /// No test depends on the logins of the user who runs it.
    const NOBODY: u32 = u32::MAX;

    fn files(dir: &Path, more: &[(&str, &str)]) -> Files {
        let variable = |name: &str| {
            let more = more.iter().find(|(n, _)| *n == name).map(|(_, v)| dir.join(v).into());
            more.or_else(|| match name {
                "HOME" => Some(dir.into()),
                "PATH" => Some(format!("{}/bin:/usr/bin:/bin", dir.display()).into()),
                _ => None,
            })
        };
        Files::from_environment(variable, NOBODY)
    }

    fn entry(user: &str) -> String {
        format!(r#"{{"auths":{{"r.io":{{"username":"{user}","password":"hunter22"}}}}}}"#)
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// containers-auth.json(5): the runtime directory, `~/.config`, then Docker's file; an explicit file alone.
    #[test]
    fn the_first_file_with_a_login_wins() {
        let dir = tempfile::tempdir().unwrap();
        let user = |more: &[(&str, &str)]| match files(dir.path(), more).find("r.io", "a").unwrap() {
            Some(Login::Password { user, .. }) => user,
            other => format!("{other:?}"),
        };
        assert_eq!(user(&[]), "None");
        write(&dir.path().join(".docker/config.json"), &entry("docker"));
        assert_eq!(user(&[]), "docker");
        write(&dir.path().join("d/config.json"), &entry("other docker"));
        assert_eq!(user(&[("DOCKER_CONFIG", "d")]), "other docker");
        write(&dir.path().join(".config/containers/auth.json"), r#"{"auths":{"other.io":{}}}"#);
        assert_eq!(user(&[]), "docker");
        write(&dir.path().join(".config/containers/auth.json"), &entry("podman"));
        assert_eq!(user(&[("DOCKER_CONFIG", "d")]), "podman");
        write(&dir.path().join("run/containers/auth.json"), &entry("session"));
        assert_eq!(user(&[("XDG_RUNTIME_DIR", "run")]), "session");
        assert_eq!(user(&[]), "podman");
        write(&dir.path().join("only.json"), "{}");
        assert_eq!(user(&[("REGISTRY_AUTH_FILE", "only.json"), ("XDG_RUNTIME_DIR", "run")]), "None");
    }

    #[test]
    fn without_a_runtime_directory_the_file_is_that_of_the_user_id() {
        let first = |variable: &str, uid| {
            let value = |name: &str| (name == variable).then(|| "/x".into());
            Files::from_environment(value, uid).paths[0].clone()
        };
        assert_eq!(first("HOME", 0), Path::new("/run/containers/0/auth.json"));
        assert_eq!(first("", 1000), Path::new("/run/containers/1000/auth.json"));
        assert_eq!(first("XDG_RUNTIME_DIR", 0), Path::new("/x/containers/auth.json"));
    }

    #[test]
    fn the_places_say_what_they_have_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let places = |name: &str| files(dir.path(), &[("XDG_RUNTIME_DIR", "run")]).places(name, "a").join("\n");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let [session, podman, docker] =
            ["run/containers/auth.json", ".config/containers/auth.json", ".docker/config.json"].map(at);
        write(Path::new(&podman), &entry("podman"));
        assert_eq!(places("r.io"), format!("{session}: no such file\n{podman}: a login for r.io"));
        let none = format!("{session}: no such file\n{podman}: no login for x.io\n");
        assert_eq!(places("x.io"), format!("{none}{docker}: no such file"));
        write(Path::new(&docker), r#"{"credsStore":"pass"}"#);
        assert_eq!(places("x.io"), format!("{none}{docker}: leaves logins for x.io to docker-credential-pass"));
        write(Path::new(&session), "hunter22");
        assert_eq!(places("r.io"), format!("{session}: unusable"));
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
