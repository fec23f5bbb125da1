// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Pressure traces: the memory demand of a host over time. The files in `traces/` are made by [`all`].

use std::fmt::Write;

use policy::SAMPLE_PERIOD_MS;

const HEADER: &str = "second,node0_mib,node1_mib,pod_pressure";
const SECONDS: u64 = 3_600;

/// One moment of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Seconds since the start.
    pub second: u64,
    /// Memory that programs demand on each node outside the pool, in MiB.
    pub demand_mib: [u64; 2],
    /// Pressure from a pod that hits its own memory limit, in hundredths of a per cent; the host's memory is not involved.
    pub pod_pressure: u64,
}

/// A named trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The file name without its extension.
    pub name: String,
    /// What it simulates, in a sentence.
    pub about: String,
    /// One row per two seconds.
    pub rows: Vec<Row>,
}

/// Generates all traces.
pub fn all() -> Vec<Trace> {
    let (mut noise, mut wanted) = (Noise(0x5eed), [60_000; 2]);
    vec![
        make("bursts", "Jobs of 90 seconds that want more memory than there is, on one node or on both.", |second| {
            let burst = |period: u64| if second % period >= 120 && second % period < 210 { 86_000 } else { 60_000 };
            ([burst(600), burst(1_200)], 0)
        }),
        make("leak", "A process that grows until it is restarted after 50 minutes.", |second| {
            let grown = if second < 3_000 { 60_000 + second * 15 } else { 60_000 };
            ([grown, grown], 0)
        }),
        make(
            "oscillation",
            "Demand that swings around the point where memory becomes short, every three minutes.",
            |second| {
                let phase = second % 180;
                let height = if phase < 90 { phase } else { 180 - phase };
                ([72_000 + height * 140, 60_000], 0)
            },
        ),
        make("noise", "Demand that changes at random each minute, with brief pressure of limited pods.", |second| {
            if second % 60 == 0 {
                wanted = noise.demand();
            }
            (wanted, if noise.next() % 10 == 0 { noise.next() % 6_000 } else { 0 })
        }),
        make("limited-pod", "A pod that stalls at its own memory limit while the host has memory free.", |second| {
            ([40_000, 40_000], if second % 900 >= 200 { 6_500 } else { 0 })
        }),
    ]
}

impl Trace {
    /// Parses a trace file.
    ///
    /// # Errors
    ///
    /// The number of the malformed line.
    pub fn parse(name: &str, text: &str) -> Result<Self, usize> {
        let mut lines = text.lines();
        let about = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or(1_usize)?;
        if lines.next() != Some(HEADER) {
            return Err(2);
        }
        let rows = lines.enumerate().map(|(index, line)| row(line).ok_or(index + 3)).collect::<Result<_, _>>()?;
        Ok(Self { name: name.into(), about: about.into(), rows })
    }

    /// Returns the text of a trace file.
    pub fn to_csv(&self) -> String {
        let mut csv = format!("# {}\n{HEADER}\n", self.about);
        for Row { second, demand_mib: [node0, node1], pod_pressure } in &self.rows {
            let _ = writeln!(csv, "{second},{node0},{node1},{pod_pressure}");
        }
        csv
    }
}

fn row(line: &str) -> Option<Row> {
    let fields: Vec<u64> = line.split(',').map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let &[second, node0, node1, pod_pressure] = fields.as_slice() else { return None };
    Some(Row { second, demand_mib: [node0, node1], pod_pressure })
}

fn make(name: &str, about: &str, mut demand: impl FnMut(u64) -> ([u64; 2], u64)) -> Trace {
    let step = SAMPLE_PERIOD_MS / 1_000;
    let rows = (0..SECONDS / step).map(|index| {
        let second = index * step;
        let (demand_mib, pod_pressure) = demand(second);
        Row { second, demand_mib, pod_pressure }
    });
    Trace { name: name.into(), about: about.into(), rows: rows.collect() }
}

/// Reproducible random numbers, from Knuth's MMIX generator.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Returns the demand of both nodes in MiB; the mean of four draws is seldom far from the middle.
    fn demand(&mut self) -> [u64; 2] {
        [0, 1].map(|_| 58_000 + (0..4).map(|_| self.next() % 30_000).sum::<u64>() / 4)
    }
}
