//! What this machine, or the group that bounds us on it, has and uses.
//!
//! [`Host::between`] is pure; [`Look::now`] reads the system.

use std::fs::read_to_string;
use std::path::Path;

use serde::Serialize;

use super::cgroup;
use super::proc::{self, CpuTimes, Memory};

/// Where Linux keeps its groups.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// What there is for us, and what is taken by us and everyone else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Host {
    /// Cores that we may use: a quota of our group counts, and which ones we are bound to.
    pub cores: f64,
    /// Cores in use, by anyone: `cores - cpu_busy` are free for us.
    pub cpu_busy: f64,
    /// Memory in use, in bytes, without what the kernel would give back when asked.
    pub memory_bytes: u64,
    /// Memory that there is, in bytes, or that our group may use.
    pub memory_limit_bytes: u64,
    /// Whether our group was made to wait since the last look, because its share was used up.
    pub throttled: bool,
    /// Room on the disk of the data folder, in bytes; none while the disk does not answer.
    pub disk_free_bytes: Option<u64>,
}

/// One look at the system.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// When, in microseconds of any clock that only goes on.
    pub at_us: u64,
    /// All processors.
    pub cpu: CpuTimes,
    /// Processors that we may run on.
    pub allowed: u32,
    /// The machine's memory.
    pub memory: Memory,
    /// What bounds us.
    pub limits: cgroup::Limits,
}

impl Look {
    /// Reads the system. What it does not say stays zero.
    pub fn now(at_us: u64) -> Self {
        let text = |path: &str| read_to_string(path).unwrap_or_default();
        let cpu = proc::cpu_times(&text("/proc/stat")).unwrap_or_default();
        let allowed = rustix::thread::sched_getaffinity(None).map_or(0, |set| set.count());
        Self {
            at_us,
            cpu,
            allowed: if allowed == 0 { cpu.cpus } else { allowed },
            memory: proc::memory(&text("/proc/meminfo")).unwrap_or_default(),
            limits: cgroup::read(Path::new(CGROUP_ROOT)),
        }
    }
}

impl Host {
    /// What two looks say; the disk is not part of a look, because it may hang.
    pub fn between(before: &Look, after: &Look, disk_free_bytes: Option<u64>) -> Self {
        let machine_busy = proc::cores_busy(before.cpu, after.cpu);
        let all = f64::from(after.allowed.min(after.cpu.cpus.max(1)).max(1));
        let (mut cores, mut cpu_busy, mut throttled) = (all, machine_busy.min(all), false);
        if let Some(limit) = after.limits.cpu {
            let used_before = before.limits.cpu.map_or(limit.used, |l| l.used);
            throttled = limit.used.throttled > used_before.throttled;
            if limit.cores < all {
                let elapsed_us = after.at_us.saturating_sub(before.at_us).max(1);
                let used_us = limit.used.usage_us.saturating_sub(used_before.usage_us);
                let of_group = used_us as f64 / elapsed_us as f64;
                // Free for us is what neither our share nor the machine has given away.
                let free = (limit.cores - of_group).min(all - machine_busy).max(0.0);
                (cores, cpu_busy) = (limit.cores, limit.cores - free);
            }
        }
        let machine = after.memory;
        let machine_used = machine.total_bytes.saturating_sub(machine.available_bytes);
        let (memory_bytes, memory_limit_bytes) = match after.limits.memory {
            Some(group)
                if group.limit_bytes.saturating_sub(group.used_bytes) < machine.available_bytes =>
            {
                (group.used_bytes, group.limit_bytes)
            }
            _ => (machine_used, machine.total_bytes),
        };
        Self { cores, cpu_busy, memory_bytes, memory_limit_bytes, throttled, disk_free_bytes }
    }

    /// Cores that nobody uses.
    pub fn cores_free(&self) -> f64 {
        (self.cores - self.cpu_busy).max(0.0)
    }
}

/// Room on the disk of a folder, in bytes. Waits for the disk.
pub fn disk_free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::cgroup::{CpuLimit, CpuUse, Limits, MemoryLimit};
    use super::*;

    fn look(at_us: u64, busy_ticks: u64, all_ticks: u64, limits: Limits) -> Look {
        Look {
            at_us,
            cpu: CpuTimes { busy_ticks, all_ticks, cpus: 4 },
            allowed: 4,
            memory: Memory { total_bytes: 1000, available_bytes: 600 },
            limits,
        }
    }

    fn quota(cores: f64, usage_us: u64, throttled: u64) -> Limits {
        let used = CpuUse { usage_us, throttled };
        Limits { cpu: Some(CpuLimit { cores, used }), memory: None }
    }

    #[test]
    fn without_a_group_the_machine_is_what_there_is() {
        let none = Limits::default();
        let host = Host::between(&look(0, 0, 0, none), &look(1_000_000, 100, 400, none), Some(7));
        assert_eq!((host.cores, host.cpu_busy, host.cores_free()), (4.0, 1.0, 3.0));
        assert_eq!((host.memory_bytes, host.memory_limit_bytes), (400, 1000));
        assert_eq!((host.throttled, host.disk_free_bytes), (false, Some(7)));
    }

    #[test]
    fn a_quota_bounds_the_cores_and_says_when_it_held_us_back() {
        let (before, after) = (quota(1.5, 0, 3), quota(1.5, 500_000, 4));
        let host = Host::between(&look(0, 0, 0, before), &look(1_000_000, 100, 400, after), None);
        assert_eq!((host.cores, host.cpu_busy, host.throttled), (1.5, 0.5, true));
    }

    #[test]
    fn a_quota_on_a_busy_machine_gives_no_more_than_the_machine_has_left() {
        let (before, after) = (quota(1.5, 0, 0), quota(1.5, 0, 0));
        let host = Host::between(&look(0, 0, 0, before), &look(1_000_000, 360, 400, after), None);
        assert!((host.cores_free() - 0.4).abs() < 1e-9, "{host:?}");
    }

    #[test]
    fn processors_that_we_may_not_run_on_are_not_ours() {
        let (before, mut after) =
            (look(0, 0, 0, Limits::default()), look(1, 0, 0, Limits::default()));
        after.allowed = 2;
        assert_eq!(Host::between(&before, &after, None).cores, 2.0);
    }

    #[test]
    fn memory_is_that_of_the_group_when_less_is_left_of_it() {
        let group = |limit_bytes, used_bytes| Limits {
            cpu: None,
            memory: Some(MemoryLimit { limit_bytes, used_bytes }),
        };
        let of = |limits| {
            let host = Host::between(&look(0, 0, 0, limits), &look(1, 0, 0, limits), None);
            (host.memory_bytes, host.memory_limit_bytes)
        };
        assert_eq!(of(group(500, 450)), (450, 500));
        assert_eq!(of(group(900, 10)), (400, 1000), "the machine has less left");
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let host = Host::between(&Look::now(0), &Look::now(1), disk_free_bytes(Path::new("/")));
        assert!(host.cores > 0.0 && host.memory_limit_bytes > 0 && host.memory_bytes > 0);
        assert!(host.disk_free_bytes.is_some());
    }
}
