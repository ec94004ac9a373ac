//! What is known of one quality from one look to the next.

use super::{Change, QualityLoad, StreamLoad, Why};
use crate::worker::ipc::Lowered;

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) off: Option<Why>,
    /// What was lacking when the operator switched it off, which holds when it is on again: room
    /// for it was not found meanwhile, and it would take what others were given.
    pub(super) lacked: Option<Why>,
    pub(super) lowered: Lowered,
    pub(super) lowered_why: Option<Why>,
    /// Size of its pictures, and pixels per second when nothing is spared.
    pub(super) pixels: u64,
    pub(super) pixel_rate: u64,
    /// Cores that it takes as planned; 0 before it was measured.
    pub(super) cores: f64,
    pub(super) unwatched_since_ms: Option<u64>,
    pub(super) over_budget: u32,
    /// The most that its media took while it was made, in bytes: what is paused holds none, and
    /// would look as if it cost none.
    pub(super) media_bytes: u64,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            off: None,
            lacked: None,
            lowered: Lowered::No,
            lowered_why: None,
            pixels: 0,
            pixel_rate: 0,
            cores: 0.0,
            unwatched_since_ms: None,
            over_budget: 0,
            media_bytes: 0,
        }
    }

    pub(super) fn see(&mut self, load: &QualityLoad) {
        if self.pixels != load.pixels {
            (self.pixels, self.pixel_rate, self.cores) = (load.pixels, 0, 0.0);
            self.media_bytes = 0;
        }
        self.media_bytes = self.media_bytes.max(load.memory_bytes);
        // What is made at half its rate would be made at more.
        self.pixel_rate = self.pixel_rate.max(load.pixel_rate);
    }

    pub(super) fn change(
        &self,
        stream: &StreamLoad,
        load: &QualityLoad,
        why: Option<Why>,
        by_load: bool,
    ) -> Change {
        Change {
            stream: stream.name.clone(),
            rendition: load.id.clone(),
            on: self.off.is_none(),
            lowered: self.lowered,
            reason: why.map(|why| why.to_string()).unwrap_or_default(),
            by_load,
        }
    }
}

impl Lowered {
    /// What a quality costs with this spared, of what it costs without.
    pub(super) fn factor(self) -> f64 {
        match self {
            Self::No => 1.0,
            Self::Effort => 0.65,
            Self::FrameRate => 0.38,
        }
    }

    pub(super) fn raised(self) -> Self {
        match self {
            Self::FrameRate => Self::Effort,
            Self::No | Self::Effort => Self::No,
        }
    }
}
