//! Fetches media: which of it is chosen by [`Sampler`], one after the other by [`fetch_media`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::fetch::{Answer, Ask, Outcome};
use super::parse::{MediaPlaylist, Position, Resource};
use super::rules::{Dropped, Listed, News};
use super::run::{Hint, Shared, absolute};

/// Whole segments read when a rendition is first seen; the older ones are only touched.
const FIRST_WHOLE: usize = 3;
/// How long before it may go a dropped segment is asked for: timers on both sides differ.
const EVICTED_MARGIN_MS: u64 = 2_000;

/// Something to fetch.
#[derive(Debug)]
pub(crate) enum Job {
    Init(Resource),
    /// The whole of a segment.
    Segment(u64, Resource),
    /// Only whether it is there, and how large it is.
    Touch(Option<u64>, Resource),
    Part(Position, Resource),
    /// A part that was asked for when it was hinted, and when it was listed.
    Hinted(Position, Hint, u64),
    /// A segment whose line has gone.
    Dropped(Dropped),
}

/// Chooses what to fetch of one rendition.
#[derive(Debug)]
pub(crate) struct Sampler {
    full: bool,
    every: u64,
    jobs: mpsc::Sender<Job>,
    inits: std::collections::BTreeSet<Resource>,
    /// Until when the dropped segment that is being watched must be served.
    watching_until_ms: u64,
}

impl Sampler {
    /// `full` asks for every part and segment; otherwise for each `every`-th segment.
    pub(crate) fn new(full: bool, every: u64, jobs: mpsc::Sender<Job>) -> Self {
        let inits = std::collections::BTreeSet::new();
        Self { full, every: every.max(1), jobs, inits, watching_until_ms: 0 }
    }

    /// Queues what a playlist's news call for.
    pub(crate) fn take(
        &mut self,
        news: &News,
        playlist: &MediaPlaylist,
        mut hinted: Option<Hint>,
        at_ms: u64,
        was_away: bool,
    ) {
        let maps = playlist.segments.iter().map(|s| &s.map).chain([&playlist.open.map]);
        for map in maps.flatten() {
            if self.inits.insert(map.clone()) {
                self.queue(Job::Init(map.clone()));
            }
        }
        if self.inits.len() > 64 {
            self.inits.clear(); // They are fetched once more; better than growing for ever.
        }
        for (place, part) in &news.parts {
            if part.gap || news.afresh {
                continue;
            }
            if let Some(hint) = hinted.take_if(|h| h.resource == part.resource) {
                self.queue(Job::Hinted(*place, hint, at_ms));
            } else if self.full {
                self.queue(Job::Part(*place, part.resource.clone()));
            } else if place.part == Some(place.msn % 4) {
                self.queue(Job::Touch(None, part.resource.clone()));
            }
        }
        if was_away {
            // What a server lists after it was away must be there, however old.
            for segment in playlist.segments.iter().filter(|s| !s.gap) {
                self.queue(Job::Touch(None, segment.resource.clone()));
                for part in segment.parts.iter().filter(|p| !p.gap) {
                    self.queue(Job::Touch(None, part.resource.clone()));
                }
            }
        }
        let recent = news.segments.len().saturating_sub(FIRST_WHOLE);
        for (index, segment) in news.segments.iter().enumerate().filter(|(_, s)| !s.gap) {
            let wanted = self.full || segment.msn % self.every == 0;
            let resource = segment.resource.clone();
            if wanted && (!news.afresh || index >= recent) {
                self.queue(Job::Segment(segment.msn, resource));
            } else {
                self.queue(Job::Touch(Some(segment.msn), resource));
            }
        }
        if at_ms >= self.watching_until_ms
            && let Some(dropped) = news.dropped.last()
        {
            self.watching_until_ms = dropped.fetchable_until_ms;
            self.queue(Job::Dropped(dropped.clone()));
        }
    }

    fn queue(&self, job: Job) {
        // A queue that is full belongs to a server slower than real time; the sample is smaller.
        let _full = self.jobs.try_send(job);
    }
}

/// Does jobs in their order, so that segments are read one after the other.
pub(crate) async fn fetch_media(
    shared: Arc<Shared>,
    listed: Listed,
    mut queue: mpsc::Receiver<Job>,
) {
    let mut later = tokio::task::JoinSet::new();
    while let Some(job) = queue.recv().await {
        let one = Fetching { shared: &shared, listed: &listed };
        match job {
            Job::Init(resource) => one.init(&resource).await,
            Job::Segment(msn, resource) => one.segment(msn, &resource).await,
            Job::Touch(msn, resource) => one.touch(msn, &resource).await,
            Job::Part(place, resource) => one.part(place, &resource).await,
            Job::Hinted(place, hint, listed_ms) => one.hinted(place, hint, listed_ms).await,
            Job::Dropped(dropped) => {
                later.spawn(watch_dropped(shared.clone(), listed.clone(), dropped));
            }
        }
    }
}

struct Fetching<'a> {
    shared: &'a Shared,
    listed: &'a Listed,
}

impl Fetching<'_> {
    /// Fetches something that is listed; a missing one is told.
    async fn fetch(&self, resource: &Resource) -> Option<Answer> {
        let name = &self.listed.name;
        let mut ask = Ask::new(absolute(&self.listed.url, &resource.uri)?);
        if let Some((offset, length)) = resource.range {
            ask = ask.bytes(offset, offset.saturating_add(length).saturating_sub(1));
        }
        let answer = self.shared.ask(name, ask).await?;
        let expected = if resource.range.is_some() { 206 } else { 200 };
        if answer.meta.status == expected {
            return Some(answer);
        }
        self.missing(resource, &answer);
        None
    }

    fn missing(&self, resource: &Resource, answer: &Answer) {
        self.shared.tell(|engine| {
            engine.handle_missing(answer.at_ms, &self.listed.name, &resource.uri, &answer.meta);
        });
    }

    async fn init(&self, resource: &Resource) {
        let Some(answer) = self.fetch(resource).await else { return };
        let name = &self.listed.name;
        self.shared.tell(|engine| {
            engine.check_media_headers(answer.at_ms, name, &resource.uri, &answer.meta);
            engine.handle_init(answer.at_ms, name, resource, &answer.body);
        });
    }

    async fn segment(&self, msn: u64, resource: &Resource) {
        let Some(answer) = self.fetch(resource).await else { return };
        let name = &self.listed.name;
        self.shared.tell(|engine| {
            engine.check_media_headers(answer.at_ms, name, &resource.uri, &answer.meta);
            engine.handle_size(answer.at_ms, name, msn, answer.body.len() as u64);
            engine.handle_segment(answer.at_ms, name, msn, resource, &answer.body);
        });
    }

    async fn part(&self, place: Position, resource: &Resource) {
        let Some(answer) = self.fetch(resource).await else { return };
        self.shared.tell(|engine| {
            let name = &self.listed.name;
            engine.check_media_headers(answer.at_ms, name, &resource.uri, &answer.meta);
            engine.handle_part(answer.at_ms, name, place, resource, &answer.body);
        });
    }

    async fn hinted(&self, place: Position, mut hint: Hint, listed_ms: u64) {
        let Some(request) = hint.request.take() else { return };
        // It was listed, so its bytes exist; a request that hangs on is as good as unanswered.
        let outcome = tokio::time::timeout(Duration::from_secs(5), request).await;
        let name = &self.listed.name;
        match outcome {
            Ok(Ok(Outcome::Answered(answer))) if matches!(answer.meta.status, 200 | 206) => {
                self.shared.saw(|seen| seen.bytes += answer.body.len() as u64);
                self.shared.tell(|engine| {
                    let uri = &hint.resource.uri;
                    engine.check_media_headers(answer.at_ms, name, uri, &answer.meta);
                    engine.handle_listed(name, uri, answer.at_ms, listed_ms);
                    engine.handle_part(answer.at_ms, name, place, &hint.resource, &answer.body);
                });
                return;
            }
            Ok(Ok(Outcome::Answered(answer))) => self.shared.tell(|engine| {
                engine.handle_hint_failed(answer.at_ms, name, &hint.resource, &answer.meta);
            }),
            // Broken or refused: the server went away, which the reloads tell.
            Ok(_) => {}
            Err(_) => {
                let now_ms = self.shared.fetcher.now_ms();
                self.shared.tell(|engine| engine.handle_slow(now_ms, name, &hint.resource.uri));
            }
        }
        self.part(place, &hint.resource.clone()).await;
    }

    async fn touch(&self, msn: Option<u64>, resource: &Resource) {
        let Some(url) = absolute(&self.listed.url, &resource.uri) else { return };
        let offset = resource.range.map_or(0, |(offset, _)| offset);
        let ask = Ask::new(url).bytes(offset, offset);
        let name = &self.listed.name;
        let Some(answer) = self.shared.ask(name, ask).await else { return };
        if !matches!(answer.meta.status, 200 | 206) {
            self.missing(resource, &answer);
            return;
        }
        let bytes = resource.range.map(|(_, length)| length).or(answer.whole_bytes());
        if let (Some(msn), Some(bytes)) = (msn, bytes) {
            self.shared.tell(|engine| engine.handle_size(answer.at_ms, name, msn, bytes));
        }
    }
}

/// Asks for a dropped segment shortly before it may go.
async fn watch_dropped(shared: Arc<Shared>, listed: Listed, dropped: Dropped) {
    let ask_at_ms = dropped.fetchable_until_ms.saturating_sub(EVICTED_MARGIN_MS);
    let wait_ms = ask_at_ms.saturating_sub(shared.fetcher.now_ms());
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    let Some(url) = absolute(&listed.url, &dropped.resource.uri) else { return };
    let mut ask = Ask::new(url);
    if let Some((offset, length)) = dropped.resource.range {
        ask = ask.bytes(offset, offset.saturating_add(length).saturating_sub(1));
    }
    let Some(answer) = shared.ask(&listed.name, ask).await else { return };
    shared.tell(|engine| {
        if matches!(answer.meta.status, 200 | 206) {
            engine.check_content(answer.at_ms, &listed.name, &dropped.resource, &answer.body);
        }
        engine.handle_evicted(answer.at_ms, &listed.name, &dropped, &answer.meta);
    });
}
