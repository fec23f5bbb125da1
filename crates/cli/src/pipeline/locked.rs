//! The lock, held against what people wrote: the kernel pin, the toolchain's lists, the `Cargo.lock` files.

use common::{Class, Error, Result};
use kernel_config::pin::{Pin, UpstreamConfig};
use lock::{Inputs, Lock};
use toolchain::{Lists, Origin, Wanted};

use crate::context::Context;

/// The lock of the project. It must be of this project: what people wrote and what it came to must not drift apart.
///
/// # Errors
/// [`Class::BadInput`] when it is missing or malformed, [`Class::Verification`] when it is older than the pin, the lists or a `Cargo.lock`.
pub fn open(context: &Context, pin: &Pin) -> Result<Inputs> {
    let inputs = Inputs::open(&context.project)?;
    let mut fresh = inputs.lock.clone();
    record(&mut fresh, pin);
    if fresh != inputs.lock {
        return Err(Error::new(Class::Verification, "the lock is not of this kernel pin")
            .file(lock::FILE)
            .why("kernel-config/pin.toml names another kernel source or configuration")
            .hint("`solana-talos update --offline` records what stands in the project; commit the lock with it"));
    }
    Lists::read(&context.path("crates/toolchain"))?.check(&inputs.lock.package)?;
    Ok(inputs)
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
