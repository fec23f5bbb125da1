//! Runs Debian's `docker-registry` on a free port of the loopback interface.

use crate::Result;
use anyhow::ensure;
use common::sandbox::{Run, Sandbox};
use fs_err as fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time limit for the start.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running registry; dropping it stops it.
#[derive(Debug)]
pub struct Registry {
    /// Host and port.
    pub address: String,
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Both fail only if it has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts a registry and waits until it accepts connections.
    pub fn start(sandbox: &Sandbox) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: /build/store}}}}\nhttp: {{addr: \"{address}\"}}\n"
        );
        fs::write(dir.path().join("config.yml"), config)?;
        fs::create_dir(dir.path().join("store"))?;
        let serve = Run::new(["docker-registry", "serve", "/build/etc/config.yml"]).read(dir.path(), "/build/etc");
        let serve = serve.write(&dir.path().join("store"), "/build/store").with_network();
        let words = serve.arguments(sandbox.rootfs());
        let log = fs::File::create(dir.path().join("log"))?.into_file();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut registry = Self { address, child: command.spawn()?, dir };
        let start = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            let exited = registry.child.try_wait()?;
            let log = fs::read_to_string(registry.dir.path().join("log"))?;
            ensure!(exited.is_none() && start.elapsed() < TIMEOUT, "cannot start docker-registry: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}
