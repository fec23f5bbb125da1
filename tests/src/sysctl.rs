//! Claims about `/proc/sys/solana` that hold on every kernel: what is malformed is refused and changes nothing.

use crate::Result;
use crate::agent::{Agent, EINVAL};
use crate::protocol::Worker;
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;

/// The module's directory.
pub const DIR: &str = "/proc/sys/solana";

/// Files that may be written, with a value that each takes.
pub const WRITABLE: &[(&str, &str)] = &[
    ("cache_hit_rate", "97.25"),
    ("dynamic", "0"),
    ("hugepages_floor", "16"),
    ("hugepages_target", "64"),
    ("numa_balancing", "0"),
    ("pressure_high", "20"),
    ("pressure_low", "5"),
];

/// What no file takes: empty, blank, signed, text, other bases, two values, beyond 64 bits, long, foreign bytes.
#[must_use]
pub fn malformed() -> Vec<Vec<u8>> {
    let short: [&[u8]; 19] = [
        b"",
        b"\n",
        b" ",
        b"-1",
        b"+1",
        b" 1",
        b"1 ",
        b"1\n\n",
        b"1\n2",
        b"1 2",
        b"1\0",
        b"0x10",
        b"ten",
        b"1e3",
        b"1;",
        b"nan",
        b"\xff\xfe",
        b"18446744073709551616",
        b"99999999999999999999999999999999999999",
    ];
    let long = [vec![b'1'; 33], vec![b'0'; 4096], vec![b'9'; 5000], vec![b' '; 70_000]];
    short.into_iter().map(<[u8]>::to_vec).chain(long).collect()
}

/// Every writable file's content.
///
/// # Errors
/// A file cannot be read.
pub fn settings(agent: &mut Agent) -> Result<BTreeMap<&'static str, String>> {
    WRITABLE.iter().map(|&(name, _)| Ok((name, agent.read(&format!("{DIR}/{name}"))?))).collect()
}

/// Writes everything malformed to every file.
///
/// # Errors
/// A write was taken, gave another errno, or changed something.
pub fn refuses_malformed(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    for &(name, _) in WRITABLE {
        for bytes in malformed() {
            refused(agent, name, &bytes, 0)?;
        }
        if name != "cache_hit_rate" {
            refused(agent, name, b"unknown", 0)?;
        }
    }
    for (name, value) in [
        ("dynamic", "2"),
        ("numa_balancing", "2"),
        ("numa_balancing", "01"),
        ("pressure_high", "101"),
        ("pressure_low", "-0.1"),
    ] {
        refused(agent, name, value.as_bytes(), 0)?;
    }
    // Without a band between the thresholds the pool would swing.
    refused(agent, "pressure_high", b"10", 0)?;
    refused(agent, "pressure_low", b"15", 0)?;
    ensure!(settings(agent)? == before, "a refused write changed something");
    Ok(())
}

/// Writes at an offset: the rest of a value whose beginning went elsewhere is no value.
///
/// # Errors
/// As [`refuses_malformed`].
pub fn refuses_offsets(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    for &(name, valid) in WRITABLE {
        for offset in [1, 7, 4096, 1 << 40] {
            refused(agent, name, valid.as_bytes(), offset)?;
        }
    }
    ensure!(settings(agent)? == before, "a write at an offset changed something");
    Ok(())
}

fn refused(agent: &mut Agent, name: &str, bytes: &[u8], offset: u64) -> Result<()> {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    let outcome = agent.write_at(&format!("{DIR}/{name}"), bytes, offset)?;
    ensure!(outcome == Err(EINVAL), "{name} answered {outcome:?} to {} bytes at {offset}: {shown:?}", bytes.len());
    Ok(())
}

/// Eight writers at once, good and bad values mixed.
///
/// # Errors
/// A good write was refused, a bad one taken, or the last value is none of the good ones.
pub fn stands_many_writers(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    let path = format!("{DIR}/pressure_high");
    let good = ["50", "60.5", "70.25"];
    let bad = ["\n", "-5", "many", "101", "50 60", "99999999999999999999"];
    let values = good.iter().chain(&bad).map(|&v| v.to_owned()).collect();
    let job = agent.spawn(Worker::Writers { path: path.clone(), values, writers: 8, rounds: 25 })?;
    let counts: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_str(agent.wait(job)?.trim()).context("counts")?;
    for (value, outcomes) in &counts {
        let wanted = if good.contains(&value.as_str()) { "ok".to_owned() } else { EINVAL.to_string() };
        ensure!(outcomes.len() == 1 && outcomes.get(&wanted) == Some(&200), "{value:?} gave {outcomes:?}");
    }
    ensure!(counts.len() == 9, "values written: {:?}", counts.keys());
    let last = agent.read(&path)?;
    ensure!(good.contains(&last.as_str()), "the last value is {last:?}");
    agent.set(&path, &before["pressure_high"])?;
    ensure!(settings(agent)? == before, "the writers changed another file");
    Ok(())
}

/// Good values are taken and read back, so that the refusals above mean something.
///
/// # Errors
/// A good value was refused or reads back as another.
pub fn takes_good_values(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    for &(name, value) in WRITABLE.iter().filter(|(name, _)| !name.starts_with("hugepages")) {
        let path = format!("{DIR}/{name}");
        for form in [value.to_owned(), format!("{value}\n")] {
            agent.set(&path, &form)?;
            let is = agent.read(&path)?;
            ensure!(is == value, "{name} is {is:?} after {form:?}");
        }
    }
    for (name, value) in before.iter().filter(|(name, _)| !name.starts_with("hugepages")) {
        agent.set(&format!("{DIR}/{name}"), value)?;
    }
    ensure!(settings(agent)? == before, "the settings are not what they were");
    Ok(())
}
