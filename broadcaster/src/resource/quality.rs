//! What the operator wants of one quality, and what it is worth.

use std::collections::BTreeMap;

use common::id::RenditionId;
use serde::{Deserialize, Serialize};

/// Settings of a stream's qualities; one that is not named has the defaults of its size.
pub type QualitySettings = BTreeMap<RenditionId, QualityChoice>;

/// What the operator chose for one quality. What is not given has the default of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QualityChoice {
    /// Whether it is made (default true).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// When it is made (default always).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode: Option<Encode>,
    /// Who gets resources when there are not enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Memory that it may take in all, in MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
}

/// When a quality is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// All the time.
    #[default]
    Always,
    /// While somebody watches it.
    OnDemand,
}

/// Who gets resources when there are not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Goes first. The default below 720p.
    Low,
    /// The default of 720p.
    Medium,
    /// Stays longest. The default above 720p, and of `source`, which costs nothing.
    High,
}

/// What is decided for one quality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Whether the operator wants it made.
    pub enabled: bool,
    /// When it is made.
    pub encode: Encode,
    /// Who gets resources when there are not enough.
    pub priority: Priority,
    /// Memory that it may take in all, in bytes.
    pub memory_bytes_max: u64,
}

impl QualityChoice {
    /// With what `change` names.
    pub fn with(self, change: Self) -> Self {
        Self {
            enabled: change.enabled.or(self.enabled),
            encode: change.encode.or(self.encode),
            priority: change.priority.or(self.priority),
            memory_mb: change.memory_mb.or(self.memory_mb),
        }
    }

    /// The choice, or the defaults of a picture of that size: 480p 100 MB, 720p 200 MB, 1080p
    /// 300 MB, and as much more as there are more pixels.
    pub fn decide(self, (width, height): (u32, u32)) -> Quality {
        let pixels = u64::from(width) * u64::from(height);
        let (priority, memory_mb) = match pixels {
            0..=500_000 => (Priority::Low, 100),
            500_001..=1_000_000 => (Priority::Medium, 200),
            1_000_001..=2_100_000 => (Priority::High, 300),
            more => (Priority::High, 300 * more / 2_073_600),
        };
        Quality {
            enabled: self.enabled.unwrap_or(true),
            encode: self.encode.unwrap_or_default(),
            priority: self.priority.unwrap_or(priority),
            memory_bytes_max: self.memory_mb.unwrap_or(memory_mb).max(1).saturating_mul(1 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quality_has_the_defaults_of_its_size_and_keeps_what_was_chosen() {
        let of = |size| QualityChoice::default().decide(size);
        assert_eq!(
            (of((854, 480)).priority, of((854, 480)).memory_bytes_max >> 20),
            (Priority::Low, 100)
        );
        assert_eq!(
            (of((1280, 720)).priority, of((1280, 720)).memory_bytes_max >> 20),
            (Priority::Medium, 200)
        );
        assert_eq!(
            (of((1920, 1080)).priority, of((1920, 1080)).memory_bytes_max >> 20),
            (Priority::High, 300)
        );
        assert_eq!(of((3840, 2160)).memory_bytes_max >> 20, 1200);
        let chosen = QualityChoice { priority: Some(Priority::High), ..Default::default() };
        let changed = chosen.with(QualityChoice { enabled: Some(false), ..Default::default() });
        let quality = changed.decide((640, 360));
        assert_eq!((quality.priority, quality.enabled), (Priority::High, false));
    }
}
