//! What readers share of one live stream: each rendition's newest playlist, rendered once, and
//! the media it names. Media is in the ring before the playlist that names it is published.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use common::feed::Rendition;
use common::id::{RenditionId, StreamName};
use common::playlist::{Media, Report, Variant, multivariant};
use common::window::{RenditionWindow, StreamWindow};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write as _;
use tokio::sync::watch;

use super::ring::Ring;

/// A rendition that is this many segments behind is not waited for.
const WAIT_SEGMENTS: usize = 3;

/// One live stream as its readers see it.
#[derive(Debug)]
pub struct LiveStream {
    name: StreamName,
    /// Its media.
    pub ring: Ring,
    renditions: ArcSwap<BTreeMap<RenditionId, Arc<LiveRendition>>>,
    master: ArcSwapOption<Text>,
    grace: std::sync::atomic::AtomicBool,
    /// Renditions that are made as soon as somebody asks for them.
    on_call: ArcSwap<BTreeMap<RenditionId, OnCall>>,
    /// What renditions were when they could last be played.
    seen: Mutex<BTreeMap<RenditionId, Variant>>,
    /// Goes up when a rendition appears, and when others are on call than before.
    appeared: watch::Sender<u64>,
    /// Whether nobody is to wait any more.
    released: watch::Sender<bool>,
}

/// How a rendition that is made for whoever asks is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCall {
    /// Nobody watches it: the next one who asks wakes it.
    Asleep,
    /// It is wanted: made already, or begun with the next segment.
    Woken,
}

/// One rendition as its readers see it.
#[derive(Debug)]
pub struct LiveRendition {
    newest: watch::Sender<Arc<Snapshot>>,
}

/// One version of a rendition's playlist.
#[derive(Debug)]
pub struct Snapshot {
    /// The window it was rendered from.
    pub window: RenditionWindow,
    /// Longest duration of a part, in microseconds.
    pub part_target_us: u32,
    /// Longest duration of a segment, in seconds.
    pub target_duration_s: u16,
    /// The playlist.
    pub full: Text,
    delta: OnceLock<Option<Text>>,
    reports: Vec<Report>,
}

/// A text that is sent to many: compressed at most once.
#[derive(Debug, Default)]
pub struct Text {
    plain: Bytes,
    gzip: OnceLock<Bytes>,
}

impl LiveStream {
    /// A stream that nothing is known of yet.
    pub fn new(name: StreamName) -> Self {
        Self {
            name,
            ring: Ring::default(),
            renditions: ArcSwap::default(),
            master: ArcSwapOption::empty(),
            grace: false.into(),
            on_call: ArcSwap::default(),
            seen: Mutex::default(),
            appeared: watch::Sender::new(0),
            released: watch::Sender::new(false),
        }
    }

    /// Its name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The multivariant playlist, once something can be played.
    pub fn master(&self) -> Option<Arc<Text>> {
        self.master.load_full()
    }

    /// One rendition.
    pub fn rendition(&self, id: &RenditionId) -> Option<Arc<LiveRendition>> {
        self.renditions.load().get(id).cloned()
    }

    /// Every rendition's newest version.
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.renditions.load().values().map(|r| r.newest()).collect()
    }

    /// Whether the encoder is away and may return: blocked readers are then told "unchanged".
    pub fn in_grace(&self) -> bool {
        self.grace.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Says whether the encoder is away.
    pub fn set_grace(&self, grace: bool) {
        self.grace.store(grace, std::sync::atomic::Ordering::Relaxed);
    }

    /// Says which renditions are made as soon as somebody asks for them, or have been asked for.
    pub fn set_on_call(&self, on_call: BTreeMap<RenditionId, OnCall>) {
        if **self.on_call.load() != on_call {
            self.on_call.store(Arc::new(on_call));
            self.appeared.send_modify(|n| *n += 1);
        }
    }

    /// That rendition cannot be made any more.
    pub fn give_up(&self, id: &RenditionId) {
        self.on_call.rcu(|on_call| {
            let mut on_call = BTreeMap::clone(on_call);
            on_call.remove(id);
            on_call
        });
        self.appeared.send_modify(|n| *n += 1);
    }

    /// How that rendition is there for whoever asks, if it is.
    pub fn on_call(&self, id: &RenditionId) -> Option<OnCall> {
        self.on_call.load().get(id).copied()
    }

    /// That rendition, once it is there; none when it does not come any more.
    pub async fn appearance(&self, id: &RenditionId) -> Option<Arc<LiveRendition>> {
        let mut appeared = self.appeared.subscribe();
        loop {
            if let Some(rendition) = self.rendition(id) {
                return Some(rendition);
            }
            self.on_call(id)?;
            appeared.changed().await.ok()?;
        }
    }

    /// Answers everyone who waits, and who would wait, with what there is: the broadcaster goes
    /// down.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// Waits until nobody is to wait any more.
    pub async fn released(&self) {
        // The sender is ours, so it is there.
        let _ = self.released.subscribe().wait_for(|released| *released).await;
    }

    /// Publishes the renditions in `changed` as the window has them now.
    pub fn publish(&self, window: &StreamWindow, changed: &[RenditionId]) {
        let Some(session) = window.session() else { return };
        let reports: Vec<_> = window.renditions().filter_map(report).collect();
        for id in changed {
            let Some(rendition) = window.rendition(id) else {
                self.remove(id);
                continue;
            };
            let others = reports.iter().filter(|r| r.id != *id).cloned().collect();
            let snapshot = Arc::new(Snapshot::new(
                rendition.clone(),
                session.part_target_us,
                session.target_duration_s,
                others,
            ));
            match self.rendition(id) {
                Some(live) => {
                    live.newest.send_replace(snapshot);
                }
                None => self.insert(id.clone(), snapshot),
            }
        }
    }

    /// Writes the multivariant playlist anew from what is playable now. The first one waits until
    /// every rendition is, since players read it only once; but not for one that stays behind, and
    /// what sleeps makes up for none.
    pub fn publish_master(&self, window: &StreamWindow) {
        let playable = playable(window);
        let wanted = window.offered().count();
        let foremost = window.renditions().map(whole_segments).max().unwrap_or(0);
        let complete = playable.len() >= wanted || foremost >= WAIT_SEGMENTS;
        let first = !playable.is_empty() && complete;
        let variants = self.with_on_call(window, playable);
        let known = self.master.load().is_some();
        let listed = !variants.is_empty() && (known || first);
        self.master.store(listed.then(|| Arc::new(Text::from(multivariant(&variants)))));
    }

    /// Adds what sleeps or wakes up as it was when it was made, or else as the session describes
    /// it, which may never have made it: a quality that is not listed is never asked for, and one
    /// that left the list while it wakes would be taken for paused.
    fn with_on_call(&self, window: &StreamWindow, mut variants: Vec<Variant>) -> Vec<Variant> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for variant in &variants {
            seen.insert(variant.id.clone(), variant.clone());
        }
        seen.retain(|id, variant| {
            window.description(id).is_some_and(|now| {
                let size = (u32::from(now.width), u32::from(now.height));
                now.codec == variant.codec && size == (variant.width, variant.height)
            })
        });
        for id in self.on_call.load().keys() {
            if variants.iter().any(|v| v.id == *id) {
                continue;
            }
            // Its target bitrate stands in for what was measured.
            let described = || window.description(id).map(|now| variant(now, 0, 0));
            variants.extend(seen.get(id).cloned().or_else(described));
        }
        variants
    }

    /// Forgets everything: the stream is free.
    pub fn clear(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.on_call.store(Arc::default());
        self.master.store(None);
        self.renditions.store(Arc::default());
    }

    fn insert(&self, id: RenditionId, snapshot: Arc<Snapshot>) {
        let mut renditions = BTreeMap::clone(&self.renditions.load());
        renditions.insert(id, Arc::new(LiveRendition { newest: watch::Sender::new(snapshot) }));
        self.renditions.store(Arc::new(renditions));
        self.appeared.send_modify(|n| *n += 1);
    }

    fn remove(&self, id: &RenditionId) {
        let mut renditions = BTreeMap::clone(&self.renditions.load());
        renditions.remove(id);
        self.renditions.store(Arc::new(renditions));
    }
}

impl LiveRendition {
    /// The newest version.
    pub fn newest(&self) -> Arc<Snapshot> {
        self.newest.borrow().clone()
    }

    /// How many follow it now.
    pub fn followers(&self) -> usize {
        self.newest.receiver_count()
    }

    /// Follows the versions from now on.
    pub fn follow(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.newest.subscribe()
    }
}

impl Snapshot {
    fn new(
        window: RenditionWindow,
        part_target_us: u32,
        target_duration_s: u16,
        reports: Vec<Report>,
    ) -> Self {
        let media =
            Media { rendition: &window, part_target_us, target_duration_s, reports: &reports };
        let full = Text::from(media.full());
        Self { window, part_target_us, target_duration_s, full, delta: OnceLock::new(), reports }
    }

    /// The delta update, or the whole playlist when there is nothing to skip.
    pub fn delta(&self) -> &Text {
        let delta = self.delta.get_or_init(|| {
            let media = Media {
                rendition: &self.window,
                part_target_us: self.part_target_us,
                target_duration_s: self.target_duration_s,
                reports: &self.reports,
            };
            media.delta().map(Text::from)
        });
        delta.as_ref().unwrap_or(&self.full)
    }
}

impl Text {
    /// As it is.
    pub fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    /// Compressed with gzip.
    pub fn gzip(&self) -> Bytes {
        // Fast: a playlist is rendered several times a second and is nearly all repetition.
        self.gzip.get_or_init(|| gzip(&self.plain, Compression::fast())).clone()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { plain: text.into(), gzip: OnceLock::new() }
    }
}

/// Compresses a text.
pub fn gzip(plain: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), level);
    // Writing to memory cannot fail.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default().into()
}

fn report(rendition: &RenditionWindow) -> Option<Report> {
    let (last_msn, last_part) = rendition.last_part()?;
    Some(Report { id: rendition.id().clone(), last_msn, last_part })
}

fn whole_segments(rendition: &RenditionWindow) -> usize {
    rendition.segments().iter().filter(|s| s.complete && !s.gap).count()
}

/// What of the window can be played, as the multivariant playlist describes it.
fn playable(window: &StreamWindow) -> Vec<Variant> {
    let playable = window.renditions().filter(|r| r.playable());
    let measured = |r: &RenditionWindow| {
        Some(variant(window.description(r.id())?, r.peak_bps(), r.mean_bps()))
    };
    playable.filter_map(measured).collect()
}

fn variant(described: &Rendition, peak_bps: u64, mean_bps: u64) -> Variant {
    Variant {
        id: described.id.clone(),
        kind: described.kind,
        codec: described.codec.clone(),
        width: described.width.into(),
        height: described.height.into(),
        fps: f64::from(described.fps.0) / f64::from(described.fps.1.max(1)),
        channels: described.channels.into(),
        bitrate: described.bitrate.into(),
        peak_bps,
        mean_bps,
    }
}
