//! What the controller is told about the machine and its streams, and what it answers.

use common::id::{RenditionId, StreamName};
use serde::Serialize;

use crate::resource::quality::Quality;
use crate::worker::ipc::Lowered;

/// What the machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Cores that we may use.
    pub cores: f64,
    /// Cores that nobody uses.
    pub free_cores: f64,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// Memory that there is, in bytes; 0 when unknown.
    pub memory_limit_bytes: u64,
    /// Whether uploads are behind: the seam for uploads, which do not exist yet, so never now.
    pub uploads_behind: bool,
}

/// What one stream does.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamLoad {
    /// Its name.
    pub name: StreamName,
    /// Whether a worker makes it.
    pub live: bool,
    /// Encoding against real time over the last second; `None` when nothing is encoded.
    pub speed: Option<f64>,
    /// How far its slowest rendition is behind the source, in milliseconds.
    pub lag_ms: u64,
    /// Cores that its worker used over the last second.
    pub cores: f64,
    /// Its video renditions.
    pub qualities: Vec<QualityLoad>,
}

/// What one quality does.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityLoad {
    /// Its id.
    pub id: RenditionId,
    /// What the operator wants of it.
    pub quality: Quality,
    /// Whether it is encoded; `source` passes through and costs nothing.
    pub encoded: bool,
    /// Pixels per second.
    pub pixel_rate: u64,
    /// Pixels of a picture.
    pub pixels: u64,
    /// Whether its encoder failed for good.
    pub failed: bool,
    /// Whether somebody asked for it lately.
    pub watched: bool,
    /// Memory of its media, in bytes.
    pub memory_bytes: u64,
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Whether qualities are taken away at all when there is not enough.
    pub degradation: bool,
    /// Whether qualities are made on demand.
    pub on_demand: bool,
}

/// What is decided for one quality.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The stream.
    pub stream: StreamName,
    /// The quality.
    pub rendition: RenditionId,
    /// Whether it is made.
    pub on: bool,
    /// What is spared on it.
    pub lowered: Lowered,
    /// Why, such as "encoding at 0.8 × real time".
    pub reason: String,
    /// Whether it was decided for lack of something or its return, and not by the operator or by
    /// demand.
    pub by_load: bool,
}
