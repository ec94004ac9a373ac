//! The odd questions: what a player never asks, but a server must answer well.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header;

use super::fetch::{Answer, Ask};
use super::parse::{MediaPlaylist, Segment};
use super::rules::{Listed, Meta, Probe, Reload, is_strong_etag};
use super::run::{Shared, absolute, with_query};

/// Between two rounds of questions.
const EVERY: Duration = Duration::from_secs(60);
/// What must be answered at once is waited for this long.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Asks them of one video and one audio rendition, at the start and then each minute.
pub(crate) async fn probe(shared: Arc<Shared>, renditions: Vec<Listed>) {
    loop {
        for listed in &renditions {
            let one = Probing { shared: &shared, listed };
            // Before the first playlist there is nothing to ask about.
            let mut playlist = one.playlist();
            while playlist.is_none() {
                tokio::time::sleep(Duration::from_millis(200)).await;
                playlist = one.playlist();
            }
            if let Some(playlist) = playlist {
                one.round(&playlist).await;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

struct Probing<'a> {
    shared: &'a Shared,
    listed: &'a Listed,
}

impl Probing<'_> {
    fn playlist(&self) -> Option<MediaPlaylist> {
        self.shared.tell(|engine| engine.playlist(&self.listed.name).cloned())
    }

    async fn round(&self, playlist: &MediaPlaylist) {
        self.plain().await;
        if playlist.control.as_ref().is_some_and(|c| c.can_block_reload) && !playlist.ended {
            for probe in queries(playlist) {
                self.question(probe).await;
            }
        }
        let Some(segment) = playlist.segments.iter().rev().find(|s| !s.gap) else { return };
        for uri in unknown_uris(segment) {
            if let Some(url) = absolute(&self.listed.url, &uri) {
                self.question(Probe::UnknownUrl(url)).await;
            }
        }
        self.media(&segment.resource.uri).await;
        if let Some(map) = &segment.map {
            self.media(&map.uri).await;
        }
    }

    async fn plain(&self) {
        let name = &self.listed.name;
        if let Some(answer) = self.shared.ask(name, Ask::new(&self.listed.url)).await
            && answer.meta.status == 200
        {
            self.shared.tell(|engine| {
                engine.check_playlist_headers(answer.at_ms, name, &answer.meta, Reload::Plain);
            });
        }
        let ask = Ask::new(&self.listed.url).with(header::ACCEPT_ENCODING, "gzip");
        if let Some(answer) = self.shared.ask(name, ask).await
            && answer.meta.status == 200
        {
            let readable = gunzip(&answer.body).is_some_and(|t| t.starts_with("#EXTM3U"));
            self.shared
                .tell(|engine| engine.check_gzip(answer.at_ms, name, &answer.meta, readable));
        }
    }

    async fn question(&self, probe: Probe) {
        let url = match &probe {
            Probe::UnknownUrl(url) => url.clone(),
            Probe::BadQuery(q) | Probe::OldMsn(q) | Probe::PartOverflow(q) => {
                with_query(&self.listed.url, q)
            }
        };
        let name = &self.listed.name;
        let patience = if matches!(probe, Probe::PartOverflow(_)) { AT_ONCE * 5 } else { AT_ONCE };
        let asked_ms = self.shared.fetcher.now_ms();
        let answer = self.shared.probe(name, Ask::new(url).within(patience)).await;
        let now_ms = self.shared.fetcher.now_ms();
        let waited = Duration::from_millis(now_ms.saturating_sub(asked_ms)) >= patience;
        if answer.as_ref().is_some_and(|a| matches!(a.meta.status, 404 | 410)) {
            // One that has just left the multivariant playlist answers nothing else.
            self.shared.refresh_master().await;
            if !self.shared.tell(|engine| engine.is_listed(name)) {
                return;
            }
        }
        match answer {
            Some(answer) => self.shared.tell(|engine| {
                engine.handle_probe(answer.at_ms, name, &probe, &answer.meta, &answer.text());
            }),
            // It waits for something that never comes, which is no answer either.
            None if waited => self.shared.tell(|engine| {
                engine.handle_probe(now_ms, name, &probe, &Meta::default(), "");
            }),
            None => {}
        }
    }

    async fn media(&self, uri: &str) {
        let name = &self.listed.name;
        let Some(url) = absolute(&self.listed.url, uri) else { return };
        let get = |ask: Ask| async { self.shared.ask(name, ask).await };
        let Some(whole) = get(Ask::new(&url)).await.filter(|a| a.meta.status == 200) else {
            return;
        };
        self.shared.tell(|engine| engine.check_media_headers(whole.at_ms, name, uri, &whole.meta));
        let bytes = whole.body.len() as u64;
        if let Some(etag) = whole.meta.etag.clone().filter(|_| is_strong_etag(&whole.meta))
            && let Some(again) = get(Ask::new(&url).with(header::IF_NONE_MATCH, etag)).await
        {
            self.shared
                .tell(|engine| engine.check_not_modified(again.at_ms, name, uri, &again.meta));
        }
        let wanted = (bytes / 3, bytes / 2);
        if let Some(range) = get(Ask::new(&url).bytes(wanted.0, wanted.1)).await {
            let mut meta = range.meta.clone();
            if !is_slice(&whole, &range, wanted) {
                meta.content_range = Some("of other bytes".into());
            }
            let got = (&meta, range.body.len() as u64);
            self.shared.tell(|engine| engine.check_range(range.at_ms, name, uri, wanted, got));
        }
        if let Some(past) = get(Ask::new(&url).bytes(bytes + 1000, bytes + 2000)).await {
            self.shared
                .tell(|engine| engine.check_unsatisfiable(past.at_ms, name, uri, &past.meta));
        }
    }
}

/// Queries, each with what it should lead to.
fn queries(playlist: &MediaPlaylist) -> Vec<Probe> {
    let open = playlist.open_msn();
    let bad = |q: String| Probe::BadQuery(q);
    let mut all = vec![
        bad("_HLS_part=0".into()),
        bad("_HLS_msn=x".into()),
        bad("_HLS_msn=".into()),
        bad("_HLS_msn=-1".into()),
        bad("_HLS_msn=1.5".into()),
        bad("_HLS_msn=9223372036854775809".into()),
        bad(format!("_HLS_msn={open}&_HLS_part=x")),
        bad(format!("_HLS_msn={open}&_HLS_part=-1")),
        bad(format!("_HLS_msn={}", open.saturating_add(10))),
        // Of the segment after the one in progress, which may become the one in progress now.
        bad(format!("_HLS_msn={}&_HLS_part=1000", open.saturating_add(1))),
        Probe::OldMsn("_HLS_msn=0".into()),
        Probe::OldMsn(format!("_HLS_msn={}", playlist.media_sequence)),
        Probe::OldMsn(format!("_HLS_msn={}&_HLS_part=0", playlist.media_sequence)),
    ];
    // The segment before the last one: what follows it exists already.
    if let [.., before, _] = playlist.segments.as_slice()
        && !before.parts.is_empty()
    {
        let query = format!("_HLS_msn={}&_HLS_part={}", before.msn, before.parts.len());
        all.push(Probe::PartOverflow(query));
    }
    all
}

/// Media URIs beside a real one that nothing names: another file, and a number far ahead.
fn unknown_uris(segment: &Segment) -> Vec<String> {
    let uri = segment.resource.uri.split(['?', '#']).next().unwrap_or_default();
    let (folder, file) = uri.rsplit_once('/').map_or(("", uri), |(f, n)| (f, n));
    let slash = if folder.is_empty() { "" } else { "/" };
    let mut all = vec![format!("{folder}{slash}no-such-file.m4s")];
    let number = segment.msn.to_string();
    if file.contains(&number) {
        let ahead = segment.msn.saturating_add(100_000).to_string();
        all.push(format!("{folder}{slash}{}", file.replacen(&number, &ahead, 1)));
    }
    all
}

fn is_slice(whole: &Answer, range: &Answer, (first, last): (u64, u64)) -> bool {
    let bounds = usize::try_from(first).ok().zip(usize::try_from(last).ok());
    let expected = bounds.and_then(|(f, l)| whole.body.get(f..=l));
    expected == Some(&range.body[..])
}

fn gunzip(body: &[u8]) -> Option<String> {
    let mut text = String::new();
    let limit = super::parse::PLAYLIST_BYTES_MAX as u64;
    flate2::read::GzDecoder::new(body).take(limit).read_to_string(&mut text).ok()?;
    Some(text)
}
