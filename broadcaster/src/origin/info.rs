//! `info.json` and the poster: what a page needs to know before it plays.

use bytes::Bytes;
use common::feed::Rendition;
use common::rendition::{Kind, label};
use serde::Serialize;

use super::{Response, headers};

/// What `info.json` says.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// The stream's name.
    pub stream: String,
    /// Its title for people.
    pub title: String,
    /// `waiting`, `live`, `grace`, `failed`, `ended`, or `restarting` while the broadcaster goes
    /// down.
    pub state: &'static str,
    /// The current or last broadcast.
    pub broadcast: u32,
    /// The current or last session.
    pub session: u32,
    /// Ed25519 public key of the feed, in hex.
    pub public_key: String,
    /// The current `Session` record, signed, in base64; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_record: Option<String>,
    /// The renditions of the current session.
    pub renditions: Vec<InfoRendition>,
    /// How far behind the camera viewers should be, in milliseconds.
    pub latency_target_ms: u32,
    /// Length of a part, in milliseconds.
    pub part_ms: u32,
    /// Length of a segment, in milliseconds.
    pub segment_ms: u32,
    /// When the broadcast began, RFC 3339; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Sharing between viewers.
    pub p2p: P2pInfo,
    /// Where viewers find each other; absent without sharing.
    pub signaling: Option<String>,
    /// STUN and TURN servers.
    pub ice_servers: Vec<String>,
}

/// One rendition in `info.json`.
#[derive(Clone, Debug, Serialize)]
pub struct InfoRendition {
    /// Its id.
    pub id: String,
    /// Video or audio.
    pub kind: Kind,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
    /// Frames per second.
    pub fps: f64,
    /// Target bitrate in bit/s.
    pub bitrate: u32,
    /// What a viewer reads in a menu.
    pub label: String,
}

impl From<&Rendition> for InfoRendition {
    fn from(rendition: &Rendition) -> Self {
        Self {
            id: rendition.id.to_string(),
            kind: rendition.kind,
            codec: rendition.codec.clone(),
            width: rendition.width,
            height: rendition.height,
            fps: f64::from(rendition.fps.0) / f64::from(rendition.fps.1.max(1)),
            bitrate: rendition.bitrate,
            label: label(rendition.id.as_str(), rendition.height.into()),
        }
    }
}

/// Sharing between viewers, in `info.json`.
#[derive(Clone, Debug, Serialize)]
pub struct P2pInfo {
    /// `on`, `opt-in` or `off`.
    pub policy: &'static str,
}

/// The answer to `info.json`.
pub(super) fn respond(info: &Info) -> Response {
    headers::json(serde_json::to_vec(info).unwrap_or_default().into())
}

/// The answer to `thumb.jpg`.
pub(super) fn thumb(jpeg: &Bytes) -> Response {
    if jpeg.is_empty() { headers::not_found() } else { headers::jpeg(jpeg.clone()) }
}
