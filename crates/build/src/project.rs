//! The project's inputs: the kernel pin, the toolchain's lists, the `Cargo.lock` files, and the lock with their digests.

use common::{Class, Error, Result};
use kernel_config::pin::{Pin, UpstreamConfig};
use lock::{Inputs, Lock};
use toolchain::{Lists, Origin, Toolchain, Wanted};

use crate::context::Context;

/// A project's pin and lock, parsed once.
#[derive(Debug)]
pub struct Project<'a> {
    /// Its context.
    pub context: &'a Context,
    /// The kernel pin.
    pub pin: Pin,
    /// The locked inputs.
    pub locked: Inputs,
}

impl<'a> Project<'a> {
    /// Reads pin and lock.
    ///
    /// # Errors
    /// [`Class::Verification`] when the lock does not match the pin, the lists or a `Cargo.lock`.
    pub fn open(context: &'a Context) -> Result<Self> {
        Self::with(context, pin(context)?)
    }

    /// As [`Project::open`], with the pin already parsed.
    pub fn with(context: &'a Context, pin: Pin) -> Result<Self> {
        let locked = Inputs::open(&context.project)?;
        let mut fresh = locked.lock.clone();
        record(&mut fresh, &pin);
        if fresh != locked.lock {
            return Err(Error::new(Class::Verification, "lock does not match the kernel pin")
                .file(lock::FILE)
                .why("kernel-config/pin.toml names another kernel source or configuration")
                .hint("`solana-talos update --offline` records the project's files as they are; commit the lock with them"));
        }
        Lists::read(&context.path("crates/toolchain"))?.check(&locked.lock.package)?;
        Ok(Self { context, pin, locked })
    }

    /// Returns the locked toolchain; creates it if it is not cached.
    pub fn toolchain(&self) -> Result<Toolchain> {
        toolchain::bootstrap(&self.locked.lock, &self.context.fetcher(), &self.context.stages())
    }
}

/// Reads the pin file.
pub fn pin(context: &Context) -> Result<Pin> {
    const FILE: &str = "kernel-config/pin.toml";
    Pin::parse(FILE, &fs_err::read_to_string(context.path(FILE))?)
}

/// Writes the pinned inputs into the lock.
pub fn record(lock: &mut Lock, pin: &Pin) {
    lock.kernel = kernel(pin);
    let config = |(name, c): (&String, &UpstreamConfig)| lock::Config {
        name: name.clone(),
        url: c.url.clone(),
        sha256: c.sha256,
        size: c.size,
    };
    lock.config = pin.config.iter().map(config).collect();
}

/// Returns the lock entry for the kernel source.
#[must_use]
pub fn kernel(pin: &Pin) -> lock::Kernel {
    let debian = &pin.kernel.debian;
    lock::Kernel {
        package: debian.package.clone(),
        version: debian.version.clone(),
        architecture: debian.arch.clone(),
        path: debian.pool_path(),
        sha256: debian.sha256,
    }
}

/// Returns the files to fetch: the kernel source, and the configurations that `wants` selects.
pub fn wanted(lock: &Lock, wants: impl Fn(&str) -> bool) -> Vec<Wanted> {
    let kernel = Wanted {
        name: format!("{} {}", lock.kernel.package, lock.kernel.version),
        sha256: lock.kernel.sha256,
        origin: Origin::DebianPool(lock.kernel.path.clone()),
    };
    let config = |c: &lock::Config| Wanted {
        name: format!("kernel configuration {}", c.name),
        sha256: c.sha256,
        origin: Origin::Url(c.url.clone()),
    };
    std::iter::once(kernel).chain(lock.config.iter().filter(|c| wants(&c.name)).map(config)).collect()
}
