//! The project's inputs: what people wrote (the kernel pin, the toolchain's lists, the `Cargo.lock` files), and the lock that names what it came to.

use common::{Class, Error, Result};
use kernel_config::pin::{Pin, UpstreamConfig};
use lock::{Inputs, Lock};
use toolchain::{Lists, Origin, Toolchain, Wanted};

use crate::context::Context;

/// What people wrote and what it came to, read once.
#[derive(Debug)]
pub struct Project<'a> {
    /// Where it is.
    pub context: &'a Context,
    /// The kernel pin.
    pub pin: Pin,
    /// Every input by digest.
    pub locked: Inputs,
}

impl<'a> Project<'a> {
    /// Reads pin and lock. They must be of each other: what people wrote and what it came to must not drift apart.
    ///
    /// # Errors
    /// [`Class::BadInput`] when one is missing or malformed, [`Class::Verification`] when the lock is older than the pin, the lists or a
    /// `Cargo.lock`.
    pub fn open(context: &'a Context) -> Result<Self> {
        Self::with(context, pin(context)?)
    }

    /// As [`Project::open`], with the pin already read.
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn with(context: &'a Context, pin: Pin) -> Result<Self> {
        let locked = Inputs::open(&context.project)?;
        let mut fresh = locked.lock.clone();
        record(&mut fresh, &pin);
        if fresh != locked.lock {
            return Err(Error::new(Class::Verification, "the lock is not of this kernel pin")
                .file(lock::FILE)
                .why("kernel-config/pin.toml names another kernel source or configuration")
                .hint("`solana-talos update --offline` records what stands in the project; commit the lock with it"));
        }
        Lists::read(&context.path("crates/toolchain"))?.check(&locked.lock.package)?;
        Ok(Self { context, pin, locked })
    }

    /// The locked toolchain, made if it is not in the cache.
    ///
    /// # Errors
    /// As [`toolchain::bootstrap`].
    pub fn toolchain(&self) -> Result<Toolchain> {
        toolchain::bootstrap(&self.locked.lock, &self.context.fetcher(), &self.context.stages())
    }
}

/// The pin file.
///
/// # Errors
/// [`Class::BadInput`] when it is malformed.
pub fn pin(context: &Context) -> Result<Pin> {
    let path = context.path("kernel-config/pin.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("cannot read the kernel pin", &path, &e))?;
    Pin::parse("kernel-config/pin.toml", &text)
}

/// Writes what the pin names into the lock.
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

/// The kernel's source as the lock has it.
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

/// The kernel's source and the configurations that `wants` names, as files to fetch.
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
