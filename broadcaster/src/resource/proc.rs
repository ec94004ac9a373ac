//! What Linux says in `/proc`, read from its text. Pure: whoever calls brings the text.

/// Time that all processors together spent, in ticks since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Doing something.
    pub busy_ticks: u64,
    /// Doing something or nothing.
    pub all_ticks: u64,
    /// How many processors there are.
    pub cpus: u32,
}

/// The machine's memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Fitted.
    pub total_bytes: u64,
    /// What can be had without swapping.
    pub available_bytes: u64,
}

/// Reads `/proc/stat`.
pub fn cpu_times(stat: &str) -> Option<CpuTimes> {
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; what guests use is in user already.
    let ticks: Vec<u64> = all.split_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let (idle, iowait) = (*ticks.get(3)?, ticks.get(4).copied().unwrap_or(0));
    let all_ticks = ticks.iter().fold(0, |sum: u64, t| sum.saturating_add(*t));
    let numbered = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
    };
    let cpus = stat.lines().filter(numbered).count() as u32;
    // Who is nice steps aside when we want the processor: a backup must not cost a quality.
    let nice = *ticks.get(1)?;
    let free = idle.saturating_add(iowait).saturating_add(nice);
    let busy_ticks = all_ticks.saturating_sub(free);
    Some(CpuTimes { busy_ticks, all_ticks, cpus: cpus.max(1) })
}

/// Reads `/proc/meminfo`.
pub fn memory(meminfo: &str) -> Option<Memory> {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    Some(Memory {
        total_bytes: kib("MemTotal")?.saturating_mul(1024),
        available_bytes: kib("MemAvailable")?.saturating_mul(1024),
    })
}

/// Threads of a process, from its `/proc/PID/status`.
pub fn threads(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Threads:"))?.trim().parse().ok()
}

/// Share of the processors that was busy between two readings, in cores.
pub fn cores_busy(before: CpuTimes, after: CpuTimes) -> f64 {
    let all = after.all_ticks.saturating_sub(before.all_ticks);
    let busy = after.busy_ticks.saturating_sub(before.busy_ticks).min(all);
    if all == 0 { 0.0 } else { f64::from(after.cpus) * busy as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 5 45 800 50 0 0 0 0 0\ncpu0 50 0 20 400 30 0 0 0 0 0\n\
                        cpu1 50 5 25 400 20 0 0 0 0 0\nintr 1 2 3\nctxt 4\n";

    #[test]
    fn waiting_for_the_disk_and_being_nice_is_not_being_busy() {
        let times = cpu_times(STAT).expect("a reading");
        assert_eq!(times, CpuTimes { busy_ticks: 145, all_ticks: 1000, cpus: 2 });
    }

    #[test]
    fn cores_that_are_busy_are_told_from_two_readings() {
        let before = CpuTimes { busy_ticks: 100, all_ticks: 1000, cpus: 2 };
        let after = CpuTimes { busy_ticks: 250, all_ticks: 1200, cpus: 2 };
        assert_eq!(cores_busy(before, after), 1.5);
        assert_eq!(cores_busy(after, after), 0.0, "no time has passed");
        assert_eq!(cores_busy(after, before), 0.0, "ticks that go back are no use");
    }

    #[test]
    fn memory_that_can_be_had_is_what_the_kernel_says() {
        let text = "MemTotal:       2048 kB\nMemFree:    1 kB\nMemAvailable:   1024 kB\n";
        let read = memory(text).expect("a reading");
        assert_eq!((read.total_bytes, read.available_bytes), (2 << 20, 1 << 20));
    }

    #[test]
    fn a_text_that_says_nothing_gives_nothing() {
        assert_eq!(threads("Name:\tx\nThreads:\t17\n"), Some(17));
        for text in ["", "cpu", "cpu 1 2", "MemTotal: many kB\nMemAvailable: 1 kB", "Threads: x"] {
            assert!(cpu_times(text).is_none() && memory(text).is_none(), "{text:?}");
            assert!(threads(text).is_none(), "{text:?}");
        }
    }
}
