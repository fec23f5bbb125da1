//! Logs through `/dev/kmsg`, which keeps the order with kernel messages and prints whole lines on every console.

use std::io::Write;

/// Logs one line; before `/dev` is mounted, to standard output.
pub fn log(message: &str) {
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .and_then(|mut file| file.write_all(format!("<5>testbed: {message}\n").as_bytes()));
    if written.is_err() {
        println!("testbed: {message}");
    }
}

/// Logs a fatal error of PID 1 and exits, which panics the kernel (`panic=-1` then resets the machine).
pub fn fatal(who: &str, why: &str) -> ! {
    log(&format!("{who} failed: {why}"));
    std::process::exit(1);
}

/// Reads the kernel log from record `since` on: `(number of the next record, one line per record)`.
///
/// Format of `/dev/kmsg`: `priority,sequence,microseconds,flags;text`, continuation lines begin with a blank
/// (Documentation/ABI/testing/dev-kmsg).
pub fn read(since: u64) -> crate::Result<(u64, String)> {
    use rustix::fs::{Mode, OFlags, open};
    let kmsg = crate::context(open("/dev/kmsg", OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()), "/dev/kmsg")?;
    let mut buffer = vec![0_u8; 8192];
    let mut next = since;
    let mut text = String::new();
    loop {
        match rustix::io::read(&kmsg, &mut buffer) {
            Ok(length) => {
                if let Some((sequence, line)) = parse_record(&String::from_utf8_lossy(&buffer[..length])) {
                    if sequence >= since {
                        next = sequence + 1;
                        text.push_str(&line);
                        text.push('\n');
                    }
                }
            }
            // The record was overwritten; the next read returns the oldest one left.
            Err(rustix::io::Errno::PIPE) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok((next, text)),
            Err(err) => return Err(format!("/dev/kmsg: {err}")),
        }
    }
}

fn parse_record(record: &str) -> Option<(u64, String)> {
    let (prefix, rest) = record.split_once(';')?;
    let sequence = prefix.split(',').nth(1)?.parse().ok()?;
    let line = rest.lines().next()?.to_owned();
    Some((sequence, line))
}

#[cfg(test)]
mod tests {
    use super::parse_record;

    #[test]
    fn parses_the_example_of_the_kernel_documentation() {
        let record =
            "7,160,424069,-;pci_root PNP0A03:00: host bridge window\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n";
        assert_eq!(parse_record(record), Some((160, "pci_root PNP0A03:00: host bridge window".to_owned())));
        assert_eq!(parse_record("no prefix"), None);
    }
}
