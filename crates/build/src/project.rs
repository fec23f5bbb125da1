//! The project's inputs: the kernel pin, the toolchain's lists, the `Cargo.lock` files, and the lock with their digests.

use common::{Class, Error, Result};
use kernel_config::pin::Pin;
use lock::Inputs;
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
        if kernel(&pin) != locked.lock.kernel {
            return Err(Error::new(Class::Verification, "lock does not match the kernel pin")
                .file(lock::FILE)
                .why("kernel-config/pin.toml names another kernel source")
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

/// Returns the kernel source as a file to fetch.
#[must_use]
pub fn wanted(kernel: &lock::Kernel) -> Wanted {
    Wanted {
        name: format!("{} {}", kernel.package, kernel.version),
        sha256: kernel.sha256,
        origin: Origin::DebianPool(kernel.path.clone()),
    }
}
