//! Against Debian's `docker-registry`, with skopeo and oras as reference tools.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Sha256;
use common::sandbox::{Run, Sandbox};
use oci::types::Named as _;

use crate::layouts;
use crate::proxy::{Fault, Proxy};
use crate::setup::{Password, Setup, assert_same};

const NAMES: [&str; 2] = ["ghcr.io/our-org/kernel:v1", "ghcr.io/our-org/kernel:latest"];
/// bcrypt of `geheim-7`, at the lowest cost.
const HTPASSWD: &str = "talos:$2b$05$abcdefghijklmnopqrstuumAWYBDG3eEL8pbcBYfA.GI0ikjChNiS\n";

/// The toolchain, where it has a registry; `None` skips the test.
fn sandbox() -> Option<Sandbox> {
    skip::toolchain(&["docker-registry", "skopeo", "oras"]).map(Sandbox::new)
}

/// A registry on a free port, killed when dropped.
struct Registry {
    child: Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// `http` and `auth` are additional lines of its configuration; `room` limits the size of its storage.
    fn start(sandbox: &Sandbox, http: &str, auth: &str, room: Option<u64>) -> Self {
        Self::start_with(sandbox, http, auth, room, &[])
    }

    /// The same with additional files in `/build/etc`.
    fn start_with(sandbox: &Sandbox, http: &str, auth: &str, room: Option<u64>, files: &[(&str, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage:\n  filesystem: {{rootdirectory: /build/store}}\n  cache: {{blobdescriptor: inmemory}}\n\
             http:\n  addr: {address}\n{http}{auth}"
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
        for (name, bytes) in files {
            std::fs::write(dir.path().join(name), bytes).unwrap();
        }
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let mut run = Run::new(["docker-registry", "serve", "/build/etc/config.yml"])
            .read(dir.path(), "/build/etc")
            .with_network();
        if room.is_none() {
            run = run.write(&dir.path().join("store"), "/build/store");
        }
        let mut arguments = run.arguments(sandbox.rootfs());
        if let Some(room) = room {
            let at = arguments.iter().position(|word| word == "--chdir").unwrap();
            let store = ["--size".to_owned(), room.to_string(), "--tmpfs".to_owned(), "/build/store".to_owned()];
            arguments.splice(at..at, store.map(Into::into));
        }
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut registry = Self { child: command.spawn().unwrap(), address, dir };
        let began = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            let log = || std::fs::read_to_string(registry.dir.path().join("log")).unwrap();
            assert!(registry.child.try_wait().unwrap().is_none(), "{}", log());
            assert!(began.elapsed() < Duration::from_secs(60), "docker-registry does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

/// Copies `reference` into a layout with skopeo.
fn skopeo(sandbox: &Sandbox, reference: &str, out: &Path, more: &[&str]) -> Result<(), String> {
    std::fs::create_dir_all(out).unwrap();
    let source = format!("docker://{reference}");
    let words = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"].iter().chain(more);
    let words = words.copied().chain([source.as_str(), "oci:/build/out:copy"]);
    sandbox.output(&Run::new(words).write(out, "/build/out").with_network()).map(drop).map_err(|e| e.to_string())
}

/// Asserts that skopeo gets the image `digest` or finds no tag; returns whether the tag exists.
fn skopeo_has(sandbox: &Sandbox, reference: &str, digest: Sha256) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    match skopeo(sandbox, reference, &out, &[]) {
        Ok(()) => {
            let images = oci::Layout::open(&out).unwrap().images().unwrap();
            assert_eq!(images[0].digest, digest);
            true
        }
        Err(why) => {
            assert!(why.contains("manifest unknown") || why.contains("name unknown"), "{why}");
            false
        }
    }
}

fn layout(dir: &Path) -> (PathBuf, Sha256) {
    let layout = dir.join("kernel.oci");
    let digest = layouts::write(&layout, &NAMES, &[60_000, 20_000], true);
    (layout, digest)
}

#[test]
fn skopeo_and_oras_find_what_was_pushed() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let registry = Registry::start(&sandbox, "", "", None);
    let setup = Setup { parallel: 4, ..Setup::default() };
    setup.push(&layout, &format!("{}/acme", registry.address)).unwrap();
    let name = |tag: &str| format!("{}/acme/kernel:{tag}", registry.address);
    assert!(skopeo_has(&sandbox, &name("v1"), digest) && skopeo_has(&sandbox, &name("latest"), digest));
    assert!(!skopeo_has(&sandbox, &name("v2"), digest));

    let source = format!("docker://{}", name(&format!("sha256-{digest}.sig")));
    let run = Run::new(["skopeo", "inspect", "--raw", "--tls-verify=false", &source]).with_network();
    let signature = sandbox.output(&run).unwrap();
    let artifacts = oci::Layout::open(&layout).unwrap().artifacts().unwrap();
    assert!(artifacts.iter().any(|a| a.name().is_some() && a.descriptor.sha256().unwrap() == Sha256::of(&signature)));

    let run = Run::new(["oras", "discover", "--plain-http", "--format", "json", &name("v1")]).with_network();
    let found = String::from_utf8(sandbox.output(&run).unwrap()).unwrap();
    for artifact in artifacts.iter().filter(|artifact| artifact.name().is_none()) {
        assert!(found.contains(artifact.descriptor.digest().as_ref()), "{found}");
        assert!(found.contains(artifact.manifest.artifact_type().as_ref().unwrap().as_ref()), "{found}");
    }

    let out = dir.path().join("out.oci");
    setup.pull(&name("v1"), &out).unwrap();
    assert_same(&layout, &out, digest);
}

#[test]
fn an_image_pushed_by_skopeo_can_be_pulled() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let registry = Registry::start(&sandbox, "", "", None);
    let (source, target) = (format!("oci:/build/in:{}", NAMES[0]), format!("docker://{}/theirs:v1", registry.address));
    let words = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", &source, &target];
    sandbox.output(&Run::new(words).read(&layout, "/build/in").with_network()).unwrap();
    let out = dir.path().join("out.oci");
    let pulled = Setup::default().pull(&format!("{}/theirs:v1", registry.address), &out).unwrap();
    assert_eq!((pulled.digest, pulled.artifacts), (digest, 0));
}

#[test]
fn basic_authentication_works() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let auth = "auth:\n  htpasswd: {realm: here, path: /build/etc/htpasswd}\n";
    let registry = Registry::start(&sandbox, "", auth, None);
    let error = Setup::default().push(&layout, &registry.address).unwrap_err();
    assert!(error.to_string().contains("401") && error.to_string().contains("docker login"), "{error}");
    let wrong = Setup { keyring: &Password("talos", "geheim-8"), ..Setup::default() };
    let error = wrong.push(&layout, &registry.address).unwrap_err();
    assert!(error.to_string().contains("401") && !error.to_string().contains("geheim"), "{error}");
    let right = Setup { keyring: &Password("talos", "geheim-7"), ..Setup::default() };
    right.push(&layout, &registry.address).unwrap();
    let (reference, out) = (format!("{}/kernel:v1", registry.address), dir.path().join("copy"));
    assert!(skopeo(&sandbox, &reference, &out, &[]).is_err());
    skopeo(&sandbox, &reference, &out, &["--src-creds", "talos:geheim-7"]).unwrap();
    assert_eq!(oci::Layout::open(&out).unwrap().images().unwrap()[0].digest, digest);
}

#[test]
fn faults_leave_the_tag_absent_or_complete_for_skopeo() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let registry = Registry::start(&sandbox, "", "", None);
    let transient = [
        Fault::DropRequest,
        Fault::CutRequest(9000),
        Fault::DropAnswer,
        Fault::CutAnswer(9),
        Fault::Status(503),
        Fault::Delay(50),
    ];
    for (number, fault) in transient.into_iter().enumerate() {
        // Each of them at every eleventh request of one push.
        let proxy = Proxy::start(&registry.address, move |n, _| if n % 11 == number { fault } else { Fault::None });
        let place = format!("transient{number}");
        let pushed = Setup { attempts: 8, ..Setup::default() }.push(&layout, &format!("{}/{place}", proxy.address));
        assert!(pushed.is_ok(), "{fault:?}: {}", pushed.unwrap_err());
        assert!(skopeo_has(&sandbox, &format!("{}/{place}/kernel:v1", registry.address), digest), "{fault:?}");
    }
    for last in [5, 20, 35, 50] {
        let proxy =
            Proxy::start(&registry.address, move |n, _| if n < last { Fault::None } else { Fault::DropRequest });
        let place = format!("last{last}");
        let pushed = Setup { attempts: 1, ..Setup::default() }.push(&layout, &format!("{}/{place}", proxy.address));
        let complete = skopeo_has(&sandbox, &format!("{}/{place}/kernel:latest", registry.address), digest);
        assert!(pushed.is_err() || complete, "{last}");
        Setup::default().push(&layout, &format!("{}/{place}", registry.address)).unwrap();
        assert!(skopeo_has(&sandbox, &format!("{}/{place}/kernel:latest", registry.address), digest), "{last}");
    }
}

#[test]
fn a_full_disk_of_the_registry_is_reported() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("kernel.oci");
    let digest = layouts::write(&layout, &NAMES, &[900_000], false);
    let registry = Registry::start(&sandbox, "", "", Some(400_000));
    let setup = Setup { chunk: 64 << 10, ..Setup::default() };
    let error = setup.push(&layout, &registry.address).unwrap_err();
    assert!(error.to_string().contains("the registry is full"), "{error}");
    assert_eq!(error.class().exit_code(), 6);
    assert!(!skopeo_has(&sandbox, &format!("{}/kernel:v1", registry.address), digest));
}

#[test]
fn a_private_certificate_authority_is_trusted_with_the_option() {
    let Some(sandbox) = sandbox() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(dir.path());
    let tls = dir.path().join("tls");
    std::fs::create_dir(&tls).unwrap();
    let script = "cd /build/tls
        openssl req -quiet -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 3650 -subj /CN=ours \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        openssl req -quiet -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=registry
        printf 'subjectAltName=IP:127.0.0.1\\n' >ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile ext -out server.crt";
    sandbox.output(&Run::script(script, &[]).write(&tls, "/build/tls")).unwrap();
    let read = |name: &str| std::fs::read(tls.join(name)).unwrap();
    let http = "  tls: {certificate: /build/etc/server.crt, key: /build/etc/server.key}\n";
    let files = [("server.crt", &*read("server.crt")), ("server.key", &*read("server.key"))];
    let registry = Registry::start_with(&sandbox, http, "", None, &files);
    let ours = Setup { roots: read("ca.crt"), ..Setup::default() };
    ours.push(&layout, &registry.address).unwrap();
    let out = dir.path().join("out.oci");
    ours.pull(&format!("{}/kernel:v1", registry.address), &out).unwrap();
    assert_same(&layout, &out, digest);
    let with = |roots| Setup { roots, attempts: 1, ..Setup::default() };
    with(read("server.crt")).pull(&format!("{}/kernel:v1", registry.address), &out).unwrap();
    let other = dir.path().join("other.oci");
    let error = with(Vec::new()).pull(&format!("{}/kernel:v1", registry.address), &other).unwrap_err();
    assert!(error.to_string().contains("--ca-file"), "{error}");
}
