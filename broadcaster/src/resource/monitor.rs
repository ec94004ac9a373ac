//! Watches CPU, memory, threads and file handles of the broadcaster and its workers, and the
//! machine under them.
//!
//! A quick look every few seconds (CPU and memory) serves pages, the memory limit of workers and
//! whoever asks for the [`Host`]; a full one every `RESOURCE_MONITOR_INTERVAL_MS` also counts
//! threads and handles and judges warnings. Looks run on a thread that may wait, and what they
//! cost is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use common::id::StreamName;
use rustix::time::{ClockId, clock_gettime};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::host::{Host, Look, disk_free_bytes};
use super::limits::SharedLimits;
use super::proc;
use super::warning::{RESOURCE_WARNING, warning};

/// How often processes are looked at: often enough for a page that is being watched, and for a
/// worker that leaks.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// What one process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time over the last seconds; 100 is one core.
    pub cpu_percent: f32,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Threads, at the last full look.
    pub threads: u32,
    /// Open file handles, at the last full look.
    pub handles: u32,
    /// When the last full look was, in microseconds since the Unix epoch; 0 before the first.
    pub checked_us: i64,
}

/// Who is watched.
pub trait Watched: Send + Sync + 'static {
    /// Every stream's worker: its process id.
    fn workers(&self) -> Vec<(StreamName, u32)>;
    /// Whether there still is such a stream.
    fn is_stream(&self, stream: &StreamName) -> bool;
    /// That worker uses more memory than it may.
    fn over_memory(&self, stream: &StreamName, pid: u32, used_bytes: u64, limit_bytes: u64);
}

/// The newest figures.
#[derive(Debug, Default)]
pub struct Monitor {
    newest: Mutex<BTreeMap<u32, Usage>>,
    host: Mutex<Option<Host>>,
    /// Per stream, as long as there is that stream.
    warnings: Mutex<BTreeMap<StreamName, u64>>,
    warnings_total: AtomicU64,
    cost_us: AtomicU64,
}

impl Monitor {
    /// What that process used when it was last looked at; nothing when it is not watched.
    pub fn usage(&self, pid: u32) -> Usage {
        lock(&self.newest).get(&pid).copied().unwrap_or_default()
    }

    /// The machine as it was at the last quick look; none before the second, or when switched off.
    pub fn host(&self) -> Option<Host> {
        *lock(&self.host)
    }

    /// Warnings about the workers of a stream since the broadcaster started.
    pub fn warnings(&self, stream: &StreamName) -> u64 {
        lock(&self.warnings).get(stream).copied().unwrap_or(0)
    }

    /// Warnings about any stream.
    pub fn warnings_total(&self) -> u64 {
        self.warnings_total.load(Ordering::Relaxed)
    }

    /// CPU time that watching took.
    pub fn cost(&self) -> Duration {
        Duration::from_micros(self.cost_us.load(Ordering::Relaxed))
    }

    /// Looks at our own process, those of `watched` and the disk of `data`, for as long as it is
    /// polled. Warnings are judged every `interval`.
    pub async fn run(
        self: Arc<Self>,
        watched: Arc<impl Watched>,
        limits: SharedLimits,
        interval: Duration,
        data: PathBuf,
    ) {
        let mut looker = match System::new() {
            Ok(system) => Looker::new(system),
            Err(error) => {
                tracing::warn!(%error, "processes cannot be watched on this machine");
                return;
            }
        };
        // A task of its own: a disk that hangs holds up nothing else.
        let mut disk = tokio::task::spawn_blocking(|| None);
        let mut judged = Instant::now();
        loop {
            let mut disk_free = None;
            if disk.is_finished() {
                disk_free = (&mut disk).await.unwrap_or_default();
                let data = data.clone();
                disk = tokio::task::spawn_blocking(move || disk_free_bytes(&data));
            }
            let judges = judged.elapsed() >= interval;
            if judges {
                judged = Instant::now();
            }
            let (monitor, watched, limits) = (self.clone(), watched.clone(), limits.clone());
            let look = tokio::task::spawn_blocking(move || {
                let before = thread_time();
                looker.look(&monitor, &*watched, &limits, judges, disk_free);
                let spent = thread_time().saturating_sub(before);
                monitor.cost_us.fetch_add(spent.as_micros() as u64, Ordering::Relaxed);
                looker
            });
            looker = match look.await {
                Ok(looker) => looker,
                Err(error) => {
                    // Only when the runtime ends, or by a bug in here.
                    tracing::error!(%error, "watching has ended");
                    return;
                }
            };
            tokio::time::sleep(LOOK_EVERY.min(interval)).await;
        }
    }

    fn warn(&self, stream: &StreamName, words: &str) {
        tracing::warn!(code = RESOURCE_WARNING, stream = %stream, "{words}");
        *lock(&self.warnings).entry(stream.clone()).or_default() += 1;
        self.warnings_total.fetch_add(1, Ordering::Relaxed);
    }
}

/// What looking needs to remember.
struct Looker {
    system: System,
    zero: Instant,
    /// The last look at the machine.
    before: Option<Look>,
    /// Per process that is watched.
    seen: BTreeMap<u32, Seen>,
}

/// A process's CPU time at a moment.
#[derive(Clone, Copy, Debug)]
struct Spent {
    at_us: u64,
    cpu_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// At the last look.
    last: Spent,
    /// At the last judgement.
    judged: Spent,
    usage: Usage,
}

impl Looker {
    fn new(system: System) -> Self {
        Self { system, zero: Instant::now(), before: None, seen: BTreeMap::new() }
    }

    fn look(
        &mut self,
        monitor: &Monitor,
        watched: &impl Watched,
        limits: &SharedLimits,
        judges: bool,
        disk_free: Option<u64>,
    ) {
        let at_us = self.zero.elapsed().as_micros() as u64;
        let machine = Look::now(at_us);
        if let Some(before) = &self.before {
            *lock(&monitor.host) = Some(Host::between(before, &machine, disk_free));
        }
        self.before = Some(machine);

        let workers = watched.workers();
        // Each once: a process named twice is taken for one that ended.
        let pids: BTreeSet<u32> = workers.iter().map(|w| w.1).chain([std::process::id()]).collect();
        let averages = self.refresh(&pids, at_us, judges);
        *lock(&monitor.newest) = self.seen.iter().map(|(pid, seen)| (*pid, seen.usage)).collect();

        let limits = limits.get();
        for (stream, pid) in &workers {
            let Some(seen) = self.seen.get(pid) else { continue };
            let used = seen.usage.memory_bytes;
            if let Some(limit) = limits.worker_memory_bytes_max().filter(|limit| used > *limit) {
                watched.over_memory(stream, *pid, used, limit);
            }
            if let Some(cpu_percent) = averages.get(pid)
                && let Some(words) = warning(stream, *cpu_percent, used, limits.warning)
            {
                monitor.warn(stream, &words);
            }
        }
        if judges {
            lock(&monitor.warnings).retain(|stream, _| watched.is_stream(stream));
        }
    }

    /// Reads every process. Gives what each took of CPU since the last judgement, when this is one.
    fn refresh(&mut self, pids: &BTreeSet<u32>, at_us: u64, judges: bool) -> BTreeMap<u32, f32> {
        let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
        let wanted: Vec<_> = pids.iter().map(|pid| Pid::from_u32(*pid)).collect();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&wanted), true, kind);
        let mut averages = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for pid in pids {
            let Some(process) = self.system.process(Pid::from_u32(*pid)) else { continue };
            let now = Spent { at_us, cpu_ms: process.accumulated_cpu_time() };
            let known = self.seen.get(pid).copied();
            let mut next =
                known.unwrap_or(Seen { last: now, judged: now, usage: Usage::default() });
            if known.is_some() {
                next.usage.cpu_percent = percent(next.last, now);
            }
            next.usage.memory_bytes = process.memory();
            next.last = now;
            if judges || known.is_none() {
                // The machine's load is judged over the whole interval, not its last seconds.
                if known.is_some() {
                    averages.insert(*pid, percent(next.judged, now));
                }
                next.judged = now;
                next.usage.threads = threads_of(*pid);
                next.usage.handles = handles_of(*pid);
                next.usage.checked_us = unix_us();
            }
            seen.insert(*pid, next);
        }
        self.seen = seen;
        averages
    }
}

/// Percent of one core between two moments.
fn percent(before: Spent, after: Spent) -> f32 {
    let elapsed_ms = after.at_us.saturating_sub(before.at_us) as f64 / 1000.0;
    let spent_ms = after.cpu_ms.saturating_sub(before.cpu_ms) as f64;
    if elapsed_ms <= 0.0 { 0.0 } else { (100.0 * spent_ms / elapsed_ms) as f32 }
}

fn threads_of(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status.ok().and_then(|text| proc::threads(&text)).unwrap_or(0)
}

fn handles_of(pid: u32) -> u32 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |handles| handles.count() as u32)
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.max(0) as u64, now.tv_nsec.clamp(0, 999_999_999) as u32)
}

fn unix_us() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |d| d.as_micros() as i64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single step, so a poisoned one still holds sense.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Limits, LimitsChange};
    use super::super::warning::Thresholds;
    use super::*;

    /// This process in the place of a worker, and what was said about it.
    #[derive(Default)]
    struct Us {
        over: Mutex<Vec<(u64, u64)>>,
        gone: bool,
    }

    impl Watched for Us {
        fn workers(&self) -> Vec<(StreamName, u32)> {
            vec![(show(), std::process::id())]
        }

        fn is_stream(&self, _: &StreamName) -> bool {
            !self.gone
        }

        fn over_memory(&self, _: &StreamName, _: u32, used_bytes: u64, limit_bytes: u64) {
            lock(&self.over).push((used_bytes, limit_bytes));
        }
    }

    fn show() -> StreamName {
        "show".parse().expect("a name")
    }

    fn looked(looks: &[bool], limits: Limits, us: &Us) -> Monitor {
        let monitor = Monitor::default();
        let mut looker = Looker::new(System::new().expect("a system"));
        for judges in looks {
            looker.look(&monitor, us, &limits.into(), *judges, None);
        }
        monitor
    }

    #[test]
    fn a_look_tells_memory_threads_and_handles_and_the_second_one_the_machine() {
        let monitor = looked(&[false], Limits::default(), &Us::default());
        let usage = monitor.usage(std::process::id());
        assert!(usage.memory_bytes > 0 && usage.threads > 0 && usage.handles > 0);
        assert!(usage.checked_us > 0 && monitor.host().is_none());
        let monitor = looked(&[false, false], Limits::default(), &Us::default());
        assert!(monitor.host().is_some_and(|host| host.cores > 0.0));
        assert_eq!(monitor.usage(1), Usage::default(), "not watched");
    }

    #[test]
    fn only_a_full_look_warns_and_warnings_are_forgotten_with_their_stream() {
        let warning = Thresholds { cpu_percent: 1000, memory_mb: 0 };
        let limits = Limits { warning, ..Limits::default() };
        let monitor = looked(&[false, false, false], limits, &Us::default());
        assert_eq!((monitor.warnings(&show()), monitor.warnings_total()), (0, 0));
        let monitor = looked(&[false, true, false, true], limits, &Us::default());
        assert_eq!((monitor.warnings(&show()), monitor.warnings_total()), (2, 2));
        let gone = Us { gone: true, ..Us::default() };
        let monitor = looked(&[false, true], limits, &gone);
        assert_eq!((monitor.warnings(&show()), monitor.warnings_total()), (0, 1));
    }

    #[test]
    fn a_worker_above_its_memory_limit_is_told_of_at_every_look() {
        let us = Us::default();
        looked(&[false, false], Limits::default(), &us);
        assert!(lock(&us.over).is_empty(), "there is no limit");
        // Smaller than a limit that may be set, so that this process is above it.
        let limits = Limits { worker_memory_limit_mb: 1, ..Limits::default() };
        looked(&[false, false], limits, &us);
        let over = lock(&us.over);
        assert_eq!(over.len(), 2);
        assert!(over.iter().all(|(used, limit)| *limit == 1 << 20 && used > limit));
    }

    #[test]
    fn limits_that_change_count_from_the_next_look_on() {
        let (monitor, us) = (Monitor::default(), Us::default());
        let limits = SharedLimits::default();
        let mut looker = Looker::new(System::new().expect("a system"));
        looker.look(&monitor, &us, &limits, false, None);
        let change = LimitsChange { resource_warning_memory_mb: Some(0), ..Default::default() };
        limits.change(&change).expect("good");
        looker.look(&monitor, &us, &limits, true, None);
        assert_eq!(monitor.warnings_total(), 1);
    }

    #[test]
    fn cpu_is_told_in_percent_of_one_core() {
        let at = |at_us, cpu_ms| Spent { at_us, cpu_ms };
        assert_eq!(percent(at(0, 0), at(3_000_000, 4_500)), 150.0);
        assert_eq!(percent(at(5, 9), at(5, 9)), 0.0);
        assert_eq!(percent(at(0, 9), at(1_000, 0)), 0.0, "another process with the same number");
    }
}
