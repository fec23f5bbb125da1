//! Checks of `/proc/sys/solana` for every kernel: malformed writes fail with EINVAL and change nothing.

use crate::Result;
use crate::agent::{Agent, EINVAL};
use crate::protocol::Worker;
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;

/// The module's sysctl directory.
pub const DIR: &str = "/proc/sys/solana";

/// Writable files, each with a valid value.
pub const WRITABLE: &[(&str, &str)] = &[
    ("cache_hit_rate", "97.25"),
    ("dynamic", "0"),
    ("hugepages_floor", "16"),
    ("hugepages_target", "64"),
    ("numa_balancing", "0"),
    ("pressure_high", "20"),
    ("pressure_low", "5"),
];

/// Values that are invalid for every file: empty, blank, signed, text, other bases, two values, over 64 bits, too long, not ASCII.
fn malformed() -> Vec<Vec<u8>> {
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

/// Reads all writable files.
fn settings(agent: &mut Agent) -> Result<BTreeMap<&'static str, String>> {
    WRITABLE.iter().map(|&(name, _)| Ok((name, agent.read(&format!("{DIR}/{name}"))?))).collect()
}

/// Checks that malformed and out-of-range values are rejected by every file.
pub fn check_malformed_writes(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    for &(name, _) in WRITABLE {
        for bytes in malformed() {
            check_rejected(agent, name, &bytes, 0)?;
        }
        if name != "cache_hit_rate" {
            check_rejected(agent, name, b"unknown", 0)?;
        }
    }
    for (name, value) in [
        ("dynamic", "2"),
        ("numa_balancing", "2"),
        ("numa_balancing", "01"),
        ("pressure_high", "101"),
        ("pressure_low", "-0.1"),
    ] {
        check_rejected(agent, name, value.as_bytes(), 0)?;
    }
    // pressure_low must stay below pressure_high, or the pool would oscillate.
    check_rejected(agent, "pressure_high", b"10", 0)?;
    check_rejected(agent, "pressure_low", b"15", 0)?;
    ensure!(settings(agent)? == before, "a rejected write changed a setting");
    Ok(())
}

/// Checks that valid values are rejected at an offset: they would be the rest of a longer value.
pub fn check_offset_writes(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    for &(name, valid) in WRITABLE {
        for offset in [1, 7, 4096, 1 << 40] {
            check_rejected(agent, name, valid.as_bytes(), offset)?;
        }
    }
    ensure!(settings(agent)? == before, "a write at an offset changed a setting");
    Ok(())
}

fn check_rejected(agent: &mut Agent, name: &str, bytes: &[u8], offset: u64) -> Result<()> {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    let outcome = agent.write_at(&format!("{DIR}/{name}"), bytes, offset)?;
    ensure!(
        outcome == Err(EINVAL),
        "write of {} bytes at offset {offset} to {name}: got {outcome:?}, expected EINVAL: {shown:?}",
        bytes.len()
    );
    Ok(())
}

/// Checks eight writers at once with valid and invalid values mixed.
pub fn check_parallel_writers(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    let path = format!("{DIR}/pressure_high");
    let valid = ["50", "60.5", "70.25"];
    let invalid = ["\n", "-5", "many", "101", "50 60", "99999999999999999999"];
    let values = valid.iter().chain(&invalid).map(|&v| v.to_owned()).collect();
    let job = agent.spawn(Worker::Writers { path: path.clone(), values, writers: 8, rounds: 25 })?;
    let counts: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_str(agent.wait(job)?.trim()).context("malformed counts")?;
    for (value, outcomes) in &counts {
        let wanted = if valid.contains(&value.as_str()) { "ok".to_owned() } else { EINVAL.to_string() };
        ensure!(
            outcomes.len() == 1 && outcomes.get(&wanted) == Some(&200),
            "{value:?}: got {outcomes:?}, expected 200 times {wanted}"
        );
    }
    ensure!(counts.len() == 9, "unexpected values: {:?}", counts.keys());
    let last = agent.read(&path)?;
    ensure!(valid.contains(&last.as_str()), "the last value is {last:?}, not a valid one");
    agent.set(&path, &before["pressure_high"])?;
    ensure!(settings(agent)? == before, "the writers changed another setting");
    Ok(())
}

/// Checks that valid values are accepted and read back, the positive test of the ones above.
pub fn check_valid_writes(agent: &mut Agent) -> Result<()> {
    let before = settings(agent)?;
    for &(name, value) in WRITABLE.iter().filter(|(name, _)| !name.starts_with("hugepages")) {
        let path = format!("{DIR}/{name}");
        for form in [value.to_owned(), format!("{value}\n")] {
            agent.set(&path, &form)?;
            let is = agent.read(&path)?;
            ensure!(is == value, "{name}: wrote {form:?}, read {is:?}");
        }
    }
    for (name, value) in before.iter().filter(|(name, _)| !name.starts_with("hugepages")) {
        agent.set(&format!("{DIR}/{name}"), value)?;
    }
    ensure!(settings(agent)? == before, "the settings were not restored");
    Ok(())
}
