//! The rule engine: it is told what a client saw and when, and says which rules that breaks.
//!
//! Pure: times are arguments (`at_ms`, milliseconds since the check began, and wall clock
//! microseconds where dates are compared), and nothing here fetches anything. What a shell should
//! fetch next follows from the [`News`] that each playlist brings.

mod across;
mod alone;
mod contact;
mod history;
mod master;
mod media;
mod response;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::catalog::Rule;
use super::mp4::Init;
use super::parse::{MasterPlaylist, MediaPlaylist, Part, Position, Resource, Segment};

pub(crate) use contact::Outage;
pub(crate) use response::{Meta, Probe, Reload, is_strong_etag};

/// One broken rule, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) at_ms: u64,
    pub(crate) rule: Rule,
    /// The rendition it concerns; empty for the stream as a whole.
    pub(crate) rendition: String,
    pub(crate) detail: String,
}

/// What the checker allows for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a playlist may stand still before it must end: the server's grace period.
    pub(crate) grace_ms: u64,
    /// What scheduling and the network may add to a measured delay.
    pub(crate) slack_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // 120 s is the broadcaster's default grace; 300 ms is well above a busy machine's
        // scheduling delay and below a part.
        Self { grace_ms: 120_000, slack_ms: 300 }
    }
}

/// A rendition as the multivariant playlist names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// Absolute URL of its media playlist.
    pub(crate) url: String,
    pub(crate) video: bool,
}

/// What was asked for when a playlist came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `_HLS_msn` and `_HLS_part`; `None` for a plain request.
    pub(crate) position: Option<(u64, Option<u64>)>,
    /// When the request was sent.
    pub(crate) sent_ms: u64,
}

/// What a playlist brought that was not known before.
#[derive(Debug, Clone, Default)]
pub(crate) struct News {
    /// Whether this is the first playlist of the rendition that was seen, or the first after the
    /// server had been away.
    pub(crate) afresh: bool,
    pub(crate) segments: Vec<Segment>,
    pub(crate) parts: Vec<(Position, Part)>,
    pub(crate) dropped: Vec<Dropped>,
}

/// A segment whose line has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) msn: u64,
    pub(crate) resource: Resource,
    /// Until when it must still be served.
    pub(crate) fetchable_until_ms: u64,
}

/// Names of resources remembered per rendition: an hour of 2 s segments with 4 parts each.
const NAMES_MAX: usize = 10_000;
/// Segments whose facts are kept for comparison between renditions: twice a 60 s window.
const FACTS_MAX: usize = 64;
/// Keys of what was already reported once: bounds memory against a server that breaks
/// everything in every playlist.
const NOTED_MAX: usize = 10_000;
/// One frame where the frame rate is not known: 1/24 s, the slowest that is usual.
const FRAME_US: u64 = 41_667;
/// Dates have milliseconds, so two of them may be off by one together.
const DATE_ROUNDING_US: u64 = 1_001;

/// Everything seen so far of one stream.
#[derive(Debug)]
pub(crate) struct Engine {
    limits: Limits,
    findings: Vec<Finding>,
    noted: BTreeSet<(Rule, String)>,
    master: Option<MasterPlaylist>,
    /// When that was asked for.
    master_asked_ms: u64,
    renditions: BTreeMap<String, Rendition>,
    /// The first video rendition, which audio is compared with.
    lead: Option<String>,
    /// By media sequence number, then rendition.
    facts: BTreeMap<u64, BTreeMap<String, Fact>>,
    claims: VecDeque<across::Claim>,
    /// Discontinuities at which no map has changed so far, and when that was seen.
    maps_kept: BTreeMap<u64, u64>,
    /// What the last multivariant playlist said that the media did not bear out.
    mismatches: Vec<(Rule, String, String)>,
    /// Variants whose average is above what the multivariant playlist says, and since when.
    exceeded: BTreeMap<String, u64>,
    contact: contact::Contact,
}

/// Everything seen of one rendition.
#[derive(Debug, Default)]
struct Rendition {
    url: String,
    video: bool,
    /// Whether the last multivariant playlist lists it.
    listed: bool,
    /// Whether it was not listed at some time since its last playlist.
    was_away: bool,
    playlist: Option<MediaPlaylist>,
    /// The last few versions, for delta updates that arrive beside them.
    versions: VecDeque<MediaPlaylist>,
    waiting_deltas: VecDeque<response::Delta>,
    changed_ms: u64,
    /// When which place was first listed.
    positions: VecDeque<(u64, Position)>,
    names: BTreeMap<Resource, Position>,
    longest_us: u64,
    behind_since_ms: Option<u64>,
    report_missing_since_ms: BTreeMap<String, u64>,
    hints: history::Hints,
    pace: history::Pace,
    media: media::Media,
    inits: BTreeMap<Resource, Init>,
}

/// What is compared between renditions for one segment.
#[derive(Debug, Clone, Default)]
struct Fact {
    date_us: Option<i64>,
    discontinuity_number: u64,
    discontinuity: bool,
    gap: bool,
    /// Whether the map differs from that of the segment before; `None` when that is not known.
    new_map: Option<bool>,
    /// First presentation time of its media.
    start_us: Option<i64>,
}

impl Engine {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            findings: Vec::new(),
            noted: BTreeSet::new(),
            master: None,
            renditions: BTreeMap::new(),
            lead: None,
            facts: BTreeMap::new(),
            claims: VecDeque::new(),
            maps_kept: BTreeMap::new(),
            mismatches: Vec::new(),
            exceeded: BTreeMap::new(),
            master_asked_ms: 0,
            contact: contact::Contact::default(),
        }
    }

    /// What was found since the last call.
    pub(crate) fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    fn find(&mut self, at_ms: u64, rule: Rule, rendition: &str, detail: String) {
        self.findings.push(Finding { at_ms, rule, rendition: rendition.to_owned(), detail });
    }

    /// As `find`, once for each `key`.
    fn find_once(&mut self, at_ms: u64, rule: Rule, rendition: &str, key: &str, detail: String) {
        if self.noted.len() < NOTED_MAX && self.noted.insert((rule, format!("{rendition} {key}"))) {
            self.find(at_ms, rule, rendition, detail);
        }
    }

    /// A media playlist arrived by the one client that follows this rendition; playlists of one
    /// rendition must be handed in in the order they were asked for.
    ///
    /// `wall_us` is this machine's wall clock when its difference to the server's is below 1 s.
    pub(crate) fn handle_playlist(
        &mut self,
        at_ms: u64,
        name: &str,
        asked: Asked,
        wall_us: Option<i64>,
        text: &str,
    ) -> Option<News> {
        let playlist = match super::parse::parse_media(text) {
            Ok(playlist) => playlist,
            Err(error) => {
                self.find(at_ms, Rule::PlaylistSyntax, name, error.to_string());
                return None;
            }
        };
        if playlist.skipped > 0 {
            let detail = "EXT-X-SKIP in an answer to a request without _HLS_skip".to_owned();
            self.find(at_ms, Rule::PlaylistSyntax, name, detail);
            return None;
        }
        self.check_answers(at_ms, name, asked, &playlist);
        let rendition = self.renditions.entry(name.to_owned()).or_default();
        if rendition.playlist.as_ref() == Some(&playlist) {
            self.check_stuck(at_ms, name);
            return Some(News::default());
        }
        let before = rendition.playlist.clone();
        self.check_alone(at_ms, name, before.as_ref(), &playlist);
        let news = self.follow(at_ms, name, before.as_ref(), &playlist, wall_us);
        self.compare(at_ms, name, before.as_ref(), &playlist);
        let rendition = self.renditions.entry(name.to_owned()).or_default();
        rendition.was_away = false;
        rendition.playlist = Some(playlist.clone());
        rendition.changed_ms = at_ms;
        rendition.versions.push_back(playlist);
        if rendition.versions.len() > 4 {
            rendition.versions.pop_front();
        }
        self.match_deltas(at_ms, name);
        Some(news)
    }

    /// The last playlist of a rendition.
    pub(crate) fn playlist(&self, name: &str) -> Option<&MediaPlaylist> {
        self.renditions.get(name)?.playlist.as_ref()
    }

    /// The map in force for a segment or part of that number.
    pub(crate) fn map_of(&self, name: &str, msn: u64) -> Option<Resource> {
        let playlist = self.playlist(name)?;
        match playlist.segment(msn) {
            Some(segment) => segment.map.clone(),
            None => playlist.open.map.clone(),
        }
    }

    fn rendition(&mut self, name: &str) -> &mut Rendition {
        self.renditions.entry(name.to_owned()).or_default()
    }

    /// How long one frame of a rendition lasts.
    fn frame_us(&self, name: &str) -> u64 {
        let measured = self.renditions.get(name).and_then(|r| r.media.frame_us);
        measured.unwrap_or(FRAME_US)
    }

    fn is_video(&self, name: &str) -> bool {
        self.renditions.get(name).is_some_and(|r| r.video)
    }
}

/// Microseconds as seconds, for people.
fn seconds(us: u64) -> String {
    format!("{:.3} s", us as f64 / 1e6)
}

#[cfg(test)]
mod tests;
