// SPDX-License-Identifier: GPL-2.0-only

//! A module in Rust: `/proc/sys/sample_rust/sum` shows the sum of the numbers written to it.
//!
//! It uses the allocator, a lock and an abstraction that only this kernel has.

#![forbid(unsafe_code)]

use core::fmt::Write;

use kernel::str::CStr;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::sysctl::{Directory, File, Registration, Text};
use kernel::{c_str, prelude::*};

module! {
    type: Sample,
    name: "sample_rust",
    author: "solana-talos maintainers",
    description: "Sample of an out-of-tree module in Rust",
    license: "GPL",
    imports_ns: ["SOLANA_OPTIMIZER"],
}

/// Maximum number of stored numbers.
const MAX: usize = 16;

/// The numbers written so far.
#[pin_data]
struct Numbers {
    #[pin]
    all: Mutex<KVec<u32>>,
}

impl Numbers {
    fn show(&self, text: &mut Text<'_>) -> Result {
        let all = self.all.lock();
        let mut numbers = all.iter();
        let sum = numbers.try_fold(0_u32, |sum, number| sum.checked_add(*number));
        Ok(write!(text, "{}", sum.ok_or(ERANGE)?)?)
    }

    fn add(&self, written: &[u8]) -> Result {
        let text = core::str::from_utf8(written).map_err(|_| EINVAL)?;
        let number = text.trim().parse().map_err(|_| EINVAL)?;
        let mut all = self.all.lock();
        if all.len() == MAX {
            return Err(ENOSPC);
        }
        Ok(all.push(number, GFP_KERNEL)?)
    }
}

impl Directory for Numbers {
    const PATH: &'static CStr = c_str!("sample_rust");
    const FILES: &'static [File<Self>] =
        &[File::read_write(c_str!("sum"), Self::show, Self::add)];
}

struct Sample {
    /// Dropping it removes the file.
    _files: Registration<Numbers>,
}

impl kernel::Module for Sample {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let numbers = Arc::pin_init(
            pin_init!(Numbers { all <- new_mutex!(KVec::new()) }),
            GFP_KERNEL,
        )?;
        Ok(Self {
            _files: Registration::new(numbers)?,
        })
    }
}
