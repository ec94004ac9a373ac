//! When a worker uses so much that its operator should know. Pure.

use common::id::StreamName;

/// The stable code of the warning in logs.
pub const RESOURCE_WARNING: &str = "RESOURCE_WARNING";

/// Above which use a worker is warned about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// CPU in percent of one core (`RESOURCE_WARNING_CPU_PERCENT`, default 80).
    pub cpu_percent: u32,
    /// Memory in MB (`RESOURCE_WARNING_MEMORY_MB`, default 500).
    pub memory_mb: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { cpu_percent: 80, memory_mb: 500 }
    }
}

/// The words of the warning that a worker's use deserves; none when it deserves none.
pub fn warning(
    stream: &StreamName,
    cpu_percent: f32,
    memory_bytes: u64,
    thresholds: Thresholds,
) -> Option<String> {
    let memory_mb = memory_bytes >> 20;
    let high = cpu_percent > thresholds.cpu_percent as f32
        || memory_bytes > thresholds.memory_mb.saturating_mul(1 << 20);
    high.then(|| {
        format!(
            "Stream {stream} using high resources: CPU {cpu_percent:.0}%, Memory {memory_mb} MB"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(cpu_percent: f32, memory_mb: u64) -> Option<String> {
        let show = "show".parse().expect("a name");
        warning(&show, cpu_percent, memory_mb << 20, Thresholds::default())
    }

    #[test]
    fn a_worker_is_warned_about_above_either_threshold_and_not_at_it() {
        assert_eq!(judged(80.0, 500), None);
        assert_eq!(
            judged(80.6, 10).as_deref(),
            Some("Stream show using high resources: CPU 81%, Memory 10 MB")
        );
        assert_eq!(
            judged(1.0, 501).as_deref(),
            Some("Stream show using high resources: CPU 1%, Memory 501 MB")
        );
    }
}
