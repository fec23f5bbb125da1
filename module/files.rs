// SPDX-License-Identifier: GPL-2.0-only

//! The files in `/proc/sys/solana`. Their names and values are an interface that scripts depend
//! on; `README.md` documents each.

use core::fmt::Write;

use kernel::delayed_work::{new_delayed_work, DelayedWork};
use kernel::numa_balancing;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::sysctl::{Directory, File, Registration, Text};
use kernel::{c_str, fmt};

use crate::controller::{period, Controller, Inner};
use crate::machine;
use crate::policy::{parse_flag, parse_percent, parse_rate, parse_u64, Counters, Invalid, Sample};

/// The registered files.
pub(crate) type Files = Registration<Controls>;

/// The state behind the files. The fields are dropped in this order: first the work stops, then
/// the controller restores the pages that it took.
pub(crate) struct Controls {
    work: Pin<KBox<DelayedWork<Controller>>>,
    controller: Arc<Controller>,
}

/// Creates and starts the controller, and registers its files.
pub(crate) fn register() -> Result<Files> {
    let controller = Controller::new()?;
    let work = KBox::pin_init(
        new_delayed_work!("solana_optimizer", controller.clone()),
        GFP_KERNEL,
    )?;
    let controls = Arc::new(Controls { work, controller }, GFP_KERNEL)?;
    let files = Registration::new(controls.clone())?;
    controls.work.schedule(period());
    Ok(files)
}

impl Directory for Controls {
    const PATH: &'static CStr = c_str!("solana");
    const FILES: &'static [File<Self>] = &[
        File::read_write(c_str!("hugepages_target"), show_target, store_target),
        File::read_write(c_str!("hugepages_floor"), show_floor, store_floor),
        File::read_only(c_str!("hugepages_total"), |this, text| {
            this.show_sampled(text, |sample| sample.total())
        }),
        File::read_only(c_str!("hugepages_free"), |this, text| {
            this.show_sampled(text, |sample| sample.free())
        }),
        File::read_only(c_str!("hugepages_efficiency"), |this, text| {
            this.show_sampled(text, |sample| sample.efficiency())
        }),
        File::read_only(c_str!("memory_pressure"), show_pressure),
        File::read_write(c_str!("pressure_high"), show_high, store_high),
        File::read_write(c_str!("pressure_low"), show_low, store_low),
        File::read_write(c_str!("dynamic"), show_dynamic, store_dynamic),
        File::read_write(c_str!("cache_hit_rate"), show_rate, store_rate),
        File::read_write(c_str!("numa_balancing"), show_numa, store_numa),
        File::read_only(c_str!("last_action"), show_last),
        File::read_only(c_str!("decision"), show_decision),
        File::read_only(c_str!("shrinks_total"), |this, text| {
            this.show_counter(text, |counters| counters.shrinks)
        }),
        File::read_only(c_str!("restores_total"), |this, text| {
            this.show_counter(text, |counters| counters.restores)
        }),
        File::read_only(c_str!("pages_freed_total"), |this, text| {
            this.show_counter(text, |counters| counters.pages_freed)
        }),
        File::read_only(c_str!("pages_restored_total"), |this, text| {
            this.show_counter(text, |counters| counters.pages_restored)
        }),
        File::read_only(c_str!("outside_changes_total"), |this, text| {
            this.show_counter(text, |counters| counters.outside_changes)
        }),
        File::read_only(c_str!("shortfalls_total"), |this, text| {
            this.show_counter(text, |counters| counters.shortfalls)
        }),
    ];
}

impl Controls {
    /// Shows a value from a new sample of the machine.
    fn show_sampled(&self, text: &mut Text<'_>, figure: fn(&Sample<'_>) -> u64) -> Result {
        show(text, fmt!("{}", self.controller.with_sample(figure)))
    }

    fn show_counter(&self, text: &mut Text<'_>, counter: fn(&Counters) -> u64) -> Result {
        let value = self.inner(|inner| counter(inner.state.counters()));
        show(text, fmt!("{value}"))
    }

    fn inner<R>(&self, body: impl FnOnce(&mut Inner) -> R) -> R {
        self.controller.with(body)
    }
}

fn show(text: &mut Text<'_>, value: core::fmt::Arguments<'_>) -> Result {
    Ok(text.write_fmt(value)?)
}

fn einval(_: Invalid) -> Error {
    EINVAL
}

fn show_target(this: &Controls, text: &mut Text<'_>) -> Result {
    show(text, fmt!("{}", this.inner(|inner| inner.state.target())))
}

/// The resize runs in the work item, since it may take long.
fn store_target(this: &Controls, bytes: &[u8]) -> Result {
    let target = parse_u64(bytes).map_err(einval)?;
    let capacity = this.controller.capacity();
    this.inner(|inner| inner.state.set_target(target, capacity))
        .map_err(einval)?;
    this.work.schedule(0);
    Ok(())
}

fn show_floor(this: &Controls, text: &mut Text<'_>) -> Result {
    show(text, fmt!("{}", this.inner(|inner| inner.state.floor())))
}

fn store_floor(this: &Controls, bytes: &[u8]) -> Result {
    let floor = parse_u64(bytes).map_err(einval)?;
    this.inner(|inner| inner.state.set_floor(floor))
        .map_err(einval)
}

fn show_pressure(_this: &Controls, text: &mut Text<'_>) -> Result {
    match machine::pressure() {
        Some(pressure) => show(text, fmt!("{pressure}")),
        None => show(text, fmt!("unknown")),
    }
}

fn show_high(this: &Controls, text: &mut Text<'_>) -> Result {
    show(text, fmt!("{:#}", this.inner(|inner| inner.config.high())))
}

fn store_high(this: &Controls, bytes: &[u8]) -> Result {
    let high = parse_percent(bytes).map_err(einval)?;
    this.inner(|inner| inner.config.set_high(high))
        .map_err(einval)
}

fn show_low(this: &Controls, text: &mut Text<'_>) -> Result {
    show(text, fmt!("{:#}", this.inner(|inner| inner.config.low())))
}

fn store_low(this: &Controls, bytes: &[u8]) -> Result {
    let low = parse_percent(bytes).map_err(einval)?;
    this.inner(|inner| inner.config.set_low(low))
        .map_err(einval)
}

fn show_dynamic(this: &Controls, text: &mut Text<'_>) -> Result {
    let dynamic = this.inner(|inner| inner.config.dynamic);
    show(text, fmt!("{}", u8::from(dynamic)))
}

fn store_dynamic(this: &Controls, bytes: &[u8]) -> Result {
    let dynamic = parse_flag(bytes).map_err(einval)?;
    this.inner(|inner| inner.config.dynamic = dynamic);
    Ok(())
}

fn show_rate(this: &Controls, text: &mut Text<'_>) -> Result {
    match this.inner(|inner| inner.cache_hit_rate) {
        Some(rate) => show(text, fmt!("{rate:#}")),
        None => show(text, fmt!("unknown")),
    }
}

fn store_rate(this: &Controls, bytes: &[u8]) -> Result {
    let rate = parse_rate(bytes).map_err(einval)?;
    this.inner(|inner| inner.cache_hit_rate = rate);
    Ok(())
}

/// Reads 0 on a kernel built without NUMA balancing.
fn show_numa(_this: &Controls, text: &mut Text<'_>) -> Result {
    show(text, fmt!("{}", numa_balancing::mode().unwrap_or(0)))
}

fn store_numa(this: &Controls, bytes: &[u8]) -> Result {
    let enabled = parse_flag(bytes).map_err(einval)?;
    // The lock only serialises the writers of this file.
    this.inner(|_| match numa_balancing::mode() {
        None if !enabled => Ok(()),
        _ => numa_balancing::set(enabled),
    })
}

fn show_last(this: &Controls, text: &mut Text<'_>) -> Result {
    match this.inner(|inner| inner.last) {
        Some(outcome) => show(text, fmt!("{outcome}")),
        None => show(text, fmt!("none")),
    }
}

fn show_decision(this: &Controls, text: &mut Text<'_>) -> Result {
    match this.inner(|inner| inner.hold) {
        Some(hold) => show(text, fmt!("{hold}")),
        None => show(text, fmt!("resize")),
    }
}
