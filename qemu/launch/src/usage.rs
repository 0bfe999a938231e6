//! What a machine costs the host, from `/proc`.

use std::time::Duration;

/// Processor time and memory of one QEMU process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Processor time so far, of all its threads, user and system.
    pub cpu: Duration,
    /// Resident memory, KiB.
    pub resident_kib: u64,
}

/// Of process `pid`; `None` where there is no `/proc` or no such process.
pub fn of_process(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    parse(&stat, &status, rustix::param::clock_ticks_per_second())
}

fn parse(stat: &str, status: &str, ticks_per_s: u64) -> Option<Usage> {
    // The second field, the name in parentheses, may hold blanks and parentheses of its own.
    let mut after_name = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = after_name.next()?.parse().ok()?;
    let system: u64 = after_name.next()?.parse().ok()?;
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
    let cpu = Duration::from_micros((user + system) * 1_000_000 / ticks_per_s.max(1));
    Some(Usage { cpu, resident_kib })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_it() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        let want = Usage { cpu: Duration::from_secs(2), resident_kib: 1234 };
        assert_eq!(parse(stat, "Name:\tx\nVmRSS:\t    1234 kB\n", 100), Some(want));
        assert_eq!(parse("", "", 100), None);
    }

    #[test]
    fn this_very_process_uses_memory() {
        assert!(of_process(std::process::id()).is_some_and(|u| u.resident_kib > 0));
    }
}
