//! Watches CPU and memory of the broadcaster and its workers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// How often processes are looked at: often enough for a page that is being watched.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What one process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time over the last seconds; 100 is one core.
    pub cpu_percent: f32,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
}

/// The newest figures.
#[derive(Debug, Default)]
pub struct Monitor {
    newest: Mutex<BTreeMap<u32, Usage>>,
}

impl Monitor {
    /// What that process used when it was last looked at; nothing when it is not watched.
    pub fn usage(&self, pid: u32) -> Usage {
        self.lock().get(&pid).copied().unwrap_or_default()
    }

    /// Looks at our own process and those that `workers` names, for as long as it is polled.
    pub async fn run(&self, workers: impl Fn() -> Vec<u32>) {
        let mut system = match System::new() {
            Ok(system) => system,
            Err(error) => {
                tracing::warn!(%error, "processes cannot be watched on this machine");
                return;
            }
        };
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
        loop {
            let mut pids = workers();
            pids.push(std::process::id());
            let watched: Vec<_> = pids.iter().map(|pid| Pid::from_u32(*pid)).collect();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&watched), true, kind);
            let usage = |pid: &u32| {
                let process = system.process(Pid::from_u32(*pid))?;
                let (cpu_percent, memory_bytes) = (process.cpu_usage(), process.memory());
                Some((*pid, Usage { cpu_percent, memory_bytes }))
            };
            *self.lock() = pids.iter().filter_map(usage).collect();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Usage>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
