//! Limits that may change while the broadcaster runs. Settings fill them at the start, the API
//! changes them until the next one.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::warning::Thresholds;

/// Least limit of a worker's memory, in MB: every worker that only passes through needs about
/// 40 MB, and with less each would be ended at its start.
pub const WORKER_MEMORY_MIN_MB: u64 = 64;

/// How many streams may run at once; 0 means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Of one owner (`MAX_CONCURRENT_STREAMS_PER_USER`, default 5).
    pub per_user_max: usize,
    /// In all (`MAX_CONCURRENT_STREAMS_GLOBAL`, default 20).
    pub global_max: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { per_user_max: 5, global_max: 20 }
    }
}

/// Everything that can be limited without a restart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Streams at once.
    pub streams: StreamLimits,
    /// When a worker is warned about.
    pub warning: Thresholds,
    /// A worker above it is ended and started again, in MB; 0: never.
    pub worker_memory_limit_mb: u64,
    /// Whether a stream that does not fit beside those that run is refused.
    pub admission: bool,
    /// Whether qualities are taken away when there is not enough for all.
    pub degradation: bool,
    /// Whether qualities may be made on demand.
    pub on_demand: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: StreamLimits::default(),
            warning: Thresholds::default(),
            worker_memory_limit_mb: 0,
            admission: true,
            degradation: true,
            on_demand: true,
        }
    }
}

/// A change of some of them, by the names of the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsChange {
    /// Streams of one owner.
    pub max_concurrent_streams_per_user: Option<usize>,
    /// Streams in all.
    pub max_concurrent_streams_global: Option<usize>,
    /// Percent of one core.
    pub resource_warning_cpu_percent: Option<u32>,
    /// MB.
    pub resource_warning_memory_mb: Option<u64>,
    /// MB; 0 for none.
    pub worker_memory_limit_mb: Option<u64>,
    /// Whether streams that do not fit are refused.
    pub admission: Option<bool>,
    /// Whether qualities are taken away when there is not enough for all.
    pub degradation: Option<bool>,
    /// Whether qualities may be made on demand.
    pub on_demand: Option<bool>,
}

/// A limit that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "worker_memory_limit_mb = {0} cannot be used: give 0 for none, or at least {WORKER_MEMORY_MIN_MB}"
)]
pub struct LimitsError(pub u64);

impl Limits {
    /// With what `change` names.
    ///
    /// # Errors
    /// When a limit cannot be used.
    pub fn changed(self, change: &LimitsChange) -> Result<Self, LimitsError> {
        let worker_memory_limit_mb =
            change.worker_memory_limit_mb.unwrap_or(self.worker_memory_limit_mb);
        if (1..WORKER_MEMORY_MIN_MB).contains(&worker_memory_limit_mb) {
            return Err(LimitsError(worker_memory_limit_mb));
        }
        Ok(Self {
            streams: StreamLimits {
                per_user_max: change
                    .max_concurrent_streams_per_user
                    .unwrap_or(self.streams.per_user_max),
                global_max: change.max_concurrent_streams_global.unwrap_or(self.streams.global_max),
            },
            warning: Thresholds {
                cpu_percent: change
                    .resource_warning_cpu_percent
                    .unwrap_or(self.warning.cpu_percent),
                memory_mb: change.resource_warning_memory_mb.unwrap_or(self.warning.memory_mb),
            },
            worker_memory_limit_mb,
            admission: change.admission.unwrap_or(self.admission),
            degradation: change.degradation.unwrap_or(self.degradation),
            on_demand: change.on_demand.unwrap_or(self.on_demand),
        })
    }

    /// All of them, by the names of the settings.
    pub fn named(&self) -> LimitsChange {
        LimitsChange {
            max_concurrent_streams_per_user: Some(self.streams.per_user_max),
            max_concurrent_streams_global: Some(self.streams.global_max),
            resource_warning_cpu_percent: Some(self.warning.cpu_percent),
            resource_warning_memory_mb: Some(self.warning.memory_mb),
            worker_memory_limit_mb: Some(self.worker_memory_limit_mb),
            admission: Some(self.admission),
            degradation: Some(self.degradation),
            on_demand: Some(self.on_demand),
        }
    }

    /// Bytes of memory above which a worker is ended.
    pub fn worker_memory_bytes_max(&self) -> Option<u64> {
        (self.worker_memory_limit_mb > 0)
            .then(|| self.worker_memory_limit_mb.saturating_mul(1 << 20))
    }
}

/// The limits of now, for everyone who keeps them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SharedLimits(Arc<RwLock<Limits>>);

impl SharedLimits {
    /// As they are now.
    pub fn get(&self) -> Limits {
        // A change is one assignment, so a panic elsewhere spoils nothing.
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes some. What runs beyond a lowered limit goes on.
    ///
    /// # Errors
    /// When a limit cannot be used; nothing has changed then.
    pub fn change(&self, change: &LimitsChange) -> Result<Limits, LimitsError> {
        let mut limits = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *limits = limits.changed(change)?;
        Ok(*limits)
    }
}

impl From<Limits> for SharedLimits {
    fn from(limits: Limits) -> Self {
        Self(Arc::new(RwLock::new(limits)))
    }
}

impl From<StreamLimits> for SharedLimits {
    fn from(streams: StreamLimits) -> Self {
        Limits { streams, ..Limits::default() }.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_only_what_it_names_and_everyone_sees_it() {
        let limits = SharedLimits::default();
        let elsewhere = limits.clone();
        let change = LimitsChange { max_concurrent_streams_global: Some(2), ..Default::default() };
        limits.change(&change).expect("good");
        let streams = StreamLimits { per_user_max: 5, global_max: 2 };
        assert_eq!(elsewhere.get(), Limits { streams, ..Limits::default() });
    }

    #[test]
    fn a_memory_limit_in_which_no_worker_lives_is_refused_and_changes_nothing() {
        let limits = SharedLimits::default();
        let change = |mb| LimitsChange {
            worker_memory_limit_mb: Some(mb),
            admission: Some(false),
            ..Default::default()
        };
        assert_eq!(limits.change(&change(63)), Err(LimitsError(63)));
        assert_eq!(limits.get(), Limits::default());
        limits.change(&change(64)).expect("good");
        assert_eq!(limits.get().worker_memory_bytes_max(), Some(64 << 20));
        limits.change(&change(0)).expect("none");
        assert_eq!(limits.get().worker_memory_bytes_max(), None);
    }

    #[test]
    fn what_is_shown_is_what_can_be_sent_back() {
        let limits = Limits::default();
        assert_eq!(limits.changed(&limits.named()), Ok(limits));
    }
}
