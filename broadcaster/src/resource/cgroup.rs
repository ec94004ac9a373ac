//! Limits that a container or a service manager set: cgroup v2. A limit of any group above ours
//! binds us as well, so the tightest counts. Texts are read by pure functions.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Groups above ours that are looked at: systemd and containers nest less than ten deep.
const DEPTH_MAX: usize = 32;

/// What one group used of its processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUse {
    /// CPU time, in microseconds.
    pub usage_us: u64,
    /// Times that it was made to wait because its share was used up.
    pub throttled: u64,
}

/// A limit of CPU and what was used of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuLimit {
    /// In cores.
    pub cores: f64,
    /// By the group that has the limit.
    pub used: CpuUse,
}

/// A limit of memory and what is used of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The most.
    pub limit_bytes: u64,
    /// Of it, without what the kernel would give back when asked.
    pub used_bytes: u64,
}

/// The tightest limits over us.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// None: as many cores as there are.
    pub cpu: Option<CpuLimit>,
    /// None: as much as there is.
    pub memory: Option<MemoryLimit>,
}

/// Reads the limits over this process. None where there is no cgroup v2.
pub fn read(root: &Path) -> Limits {
    let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own_group(&own) else { return Limits::default() };
    groups(root, own).iter().fold(Limits::default(), |tightest, group| {
        let text = |file: &str| read_to_string(group.join(file)).unwrap_or_default();
        tightest.with(Limits {
            cpu: cpu_max(&text("cpu.max"))
                .map(|cores| CpuLimit { cores, used: cpu_use(&text("cpu.stat")) }),
            memory: bytes(&text("memory.max")).map(|limit_bytes| {
                let current = bytes(&text("memory.current")).unwrap_or(0);
                let kept = inactive_file(&text("memory.stat"));
                MemoryLimit { limit_bytes, used_bytes: current.saturating_sub(kept) }
            }),
        })
    })
}

/// The path of our group in `/proc/self/cgroup`.
pub fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Our group's folder and those of all above it.
pub fn groups(root: &Path, own: &str) -> Vec<PathBuf> {
    let parts: Vec<&str> = own.split('/').filter(|p| !p.is_empty() && *p != "..").collect();
    let depth = parts.len().min(DEPTH_MAX);
    (0..=depth)
        .rev()
        .map(|n| parts[..n].iter().fold(root.to_path_buf(), |dir, p| dir.join(p)))
        .collect()
}

/// Reads `cpu.max` as cores; none when there is no limit.
pub fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next().map_or(Some(100_000.0), |p| p.parse().ok())?;
    (quota > 0.0 && period > 0.0).then_some(quota / period).filter(|cores| cores.is_finite())
}

/// Reads `cpu.stat`.
pub fn cpu_use(text: &str) -> CpuUse {
    let value = |name: &str| field(text, name).unwrap_or(0);
    CpuUse { usage_us: value("usage_usec"), throttled: value("nr_throttled") }
}

/// Reads `memory.max` or `memory.current`; none for `max`.
pub fn bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// What of a group's memory are files that nobody used lately, from `memory.stat`.
pub fn inactive_file(text: &str) -> u64 {
    field(text, "inactive_file").unwrap_or(0)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

impl Limits {
    /// The tighter of both, each by itself.
    fn with(self, other: Self) -> Self {
        let cpu = [self.cpu, other.cpu].into_iter().flatten();
        let memory = [self.memory, other.memory].into_iter().flatten();
        let room = |m: &MemoryLimit| m.limit_bytes.saturating_sub(m.used_bytes);
        Self {
            cpu: cpu.min_by(|a, b| a.cores.total_cmp(&b.cores)),
            memory: memory.min_by_key(room),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_told_in_cores_and_max_is_none() {
        assert_eq!(cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(cpu_max("50000\n"), Some(0.5));
        for text in ["max 100000\n", "", "0 100000", "-1 5", "100 0", "x y"] {
            assert_eq!(cpu_max(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_texts_of_a_group_are_read() {
        let stat = "usage_usec 1234\nuser_usec 1000\nnr_periods 9\nnr_throttled 3\n";
        assert_eq!(cpu_use(stat), CpuUse { usage_us: 1234, throttled: 3 });
        assert_eq!((bytes("1048576\n"), bytes("max\n"), bytes("")), (Some(1 << 20), None, None));
        assert_eq!(inactive_file("anon 5\ninactive_file 77\ninactive_file_x 9\n"), 77);
        assert_eq!(own_group("4:memory:/x\n0::/a/b\n"), Some("/a/b"));
        assert_eq!(own_group("4:memory:/x\n"), None);
    }

    #[test]
    fn every_group_from_ours_to_the_root_is_asked() {
        let root = Path::new("/cg");
        assert_eq!(groups(root, "/a/b"), ["/cg/a/b", "/cg/a", "/cg"].map(PathBuf::from));
        assert_eq!(groups(root, "/"), [PathBuf::from("/cg")]);
        assert_eq!(groups(root, "/../x"), ["/cg/x", "/cg"].map(PathBuf::from), "never above it");
    }

    #[test]
    fn the_tightest_limit_counts_and_memory_by_what_is_left_of_it() {
        let cpu = |cores| Some(CpuLimit { cores, used: CpuUse::default() });
        let memory = |limit_bytes, used_bytes| Some(MemoryLimit { limit_bytes, used_bytes });
        let own = Limits { cpu: cpu(2.0), memory: memory(100, 10) };
        let above = Limits { cpu: cpu(1.5), memory: memory(200, 190) };
        let both = own.with(above).with(Limits::default());
        assert_eq!(both, above);
    }
}
