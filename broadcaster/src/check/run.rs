//! Follows a stream as a player does and hands what it sees to the rules.
//!
//! One task per rendition reloads its playlist (blocking, where the server can); one per rendition
//! fetches media; one looks at the multivariant playlist; one asks the odd questions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::fetch::{Answer, Ask, Fetcher, Outcome};
use super::media::{Sampler, fetch_media};
use super::parse::{MediaPlaylist, Resource, is_media_playlist};
use super::probe::probe;
use super::report::Report;
use super::rules::{Asked, Engine, Limits, Listed, News, Reload};
use crate::say;

/// How long first contact is tried before it is given up.
const FIRST_CONTACT: Duration = Duration::from_secs(10);
/// Between two looks at the multivariant playlist.
const MASTER_EVERY: Duration = Duration::from_secs(5);
/// Between two delta updates of one rendition.
const DELTA_EVERY_MS: u64 = 10_000;
/// Between two attempts to reach a server that refuses.
const RETRY: Duration = Duration::from_millis(200);
/// Media jobs that may wait in one rendition: a window of segments when it is first seen.
const JOBS_MAX: usize = 256;

/// What to check and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) url: String,
    pub(crate) length: Duration,
    /// Of renditions other than the first video and audio, each how many-th segment is read.
    pub(crate) sample: u64,
    pub(crate) limits: Limits,
    /// Whether lines are printed as they come.
    pub(crate) print: bool,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("cannot reach {url}: {why}")]
    Unreachable { url: String, why: String },
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// What all tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fetcher: Fetcher,
    engine: Mutex<Engine>,
    report: Mutex<Report>,
    plan: Plan,
    master: Option<String>,
}

/// Checks for as long as the plan says.
///
/// # Errors
/// When the playlist cannot be reached at all.
pub(crate) async fn run(plan: Plan) -> Result<(Report, u64), RunError> {
    let fetcher = Fetcher::new()?;
    let first = first_contact(&fetcher, &plan).await?;
    let text = first.text();
    let lone = is_media_playlist(&text);
    let length = plan.length;
    let shared = Arc::new(Shared {
        fetcher,
        engine: Mutex::new(Engine::new(plan.limits)),
        report: Mutex::default(),
        master: (!lone).then(|| plan.url.clone()),
        plan,
    });
    let listed = if lone {
        vec![shared.tell(|engine| engine.handle_lone(&shared.plan.url))]
    } else {
        shared.look_at_master(&first).unwrap_or_default()
    };
    let tasks = tokio::spawn(follow_all(shared.clone(), listed));
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tasks.abort();
    let _ended = tasks.await;
    let now_ms = shared.fetcher.now_ms();
    shared.tell(|engine| engine.handle_end(now_ms));
    Ok((std::mem::take(&mut *lock(&shared.report)), now_ms))
}

impl Shared {
    /// Hands something to the engine and prints what it found.
    pub(crate) fn tell<T>(&self, what: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = lock(&self.engine);
        let result = what(&mut engine);
        let findings = engine.take_findings();
        let outages = engine.take_outages();
        drop(engine);
        if !findings.is_empty() || !outages.is_empty() {
            let mut report = lock(&self.report);
            let mut lines: Vec<String> =
                outages.into_iter().map(|o| report.add_outage(o)).collect();
            lines.extend(findings.iter().filter_map(|f| report.add(f)));
            if self.plan.print {
                for line in lines {
                    say::line!("{line}");
                }
            }
        }
        result
    }

    /// Counts what was looked at.
    pub(crate) fn saw(&self, count: impl FnOnce(&mut super::report::Seen)) {
        count(&mut lock(&self.report).seen);
    }

    /// Asks, and tells the engine whether the server was there. `None` when no answer came.
    pub(crate) async fn ask(&self, name: &str, ask: Ask) -> Option<Answer> {
        match self.try_ask(name, ask).await {
            Ok(answer) => Some(answer),
            Err(Failed::TimedOut(url)) => {
                let now_ms = self.fetcher.now_ms();
                self.tell(|engine| engine.handle_slow(now_ms, name, &url));
                None
            }
            Err(Failed::Away) => None,
        }
    }

    /// As `ask`, where no answer in time means something to the asker.
    pub(crate) async fn probe(&self, name: &str, ask: Ask) -> Option<Answer> {
        self.try_ask(name, ask).await.ok()
    }

    async fn try_ask(&self, name: &str, ask: Ask) -> Result<Answer, Failed> {
        let url = ask.url().to_owned();
        match self.fetcher.get(ask).await {
            Outcome::Answered(answer) => {
                self.tell(|engine| engine.handle_answered(answer.at_ms, answer.sent_ms));
                self.saw(|seen| seen.bytes += answer.body.len() as u64);
                Ok(*answer)
            }
            Outcome::Refused => {
                let now_ms = self.fetcher.now_ms();
                self.tell(|engine| engine.handle_refused(now_ms));
                Err(Failed::Away)
            }
            Outcome::Broken(why) => {
                let now_ms = self.fetcher.now_ms();
                self.tell(|engine| engine.handle_broken(now_ms, name, format!("{url}: {why}")));
                Err(Failed::Away)
            }
            Outcome::TimedOut => Err(Failed::TimedOut(url)),
        }
    }

    fn look_at_master(&self, answer: &Answer) -> Option<Vec<Listed>> {
        let url = self.master.as_ref()?;
        self.tell(|engine| {
            if answer.meta.status != 200 {
                engine.handle_playlist_missing(answer.at_ms, "", &answer.meta);
                return None;
            }
            engine.check_playlist_headers(answer.at_ms, "", &answer.meta, Reload::Plain);
            engine.handle_master(answer.at_ms, answer.sent_ms, url, &answer.text())
        })
    }

    pub(crate) async fn refresh_master(&self) -> Option<Vec<Listed>> {
        let answer = self.ask("", Ask::new(self.master.clone()?)).await?;
        self.look_at_master(&answer)
    }
}

enum Failed {
    Away,
    TimedOut(String),
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The absolute URL of something a playlist names.
pub(crate) fn absolute(base: &str, uri: &str) -> Option<String> {
    Some(reqwest::Url::parse(base).ok()?.join(uri).ok()?.into())
}

async fn first_contact(fetcher: &Fetcher, plan: &Plan) -> Result<Answer, RunError> {
    let patience = FIRST_CONTACT.min(plan.length);
    let mut why = "no answer".to_owned();
    let mut attempt = async || loop {
        match fetcher.get(Ask::new(&plan.url)).await {
            Outcome::Answered(answer) if answer.meta.status == 200 => return *answer,
            Outcome::Answered(answer) => why = format!("answered {}", answer.meta.status),
            Outcome::Refused => why = "connection refused".into(),
            Outcome::Broken(cause) => why = cause,
            Outcome::TimedOut => why = "no answer within 10 s".into(),
        }
        tokio::time::sleep(RETRY).await;
    };
    let reached = tokio::time::timeout(patience, attempt()).await;
    reached.map_err(|_| RunError::Unreachable { url: plan.url.clone(), why })
}

/// Keeps a task for every listed rendition, and looks at the multivariant playlist.
async fn follow_all(shared: Arc<Shared>, mut listed: Vec<Listed>) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut running: BTreeMap<String, tokio::task::AbortHandle> = BTreeMap::new();
    let mut probing = false;
    loop {
        running.retain(|_, task| !task.is_finished());
        for (index, one) in listed.iter().enumerate() {
            if running.contains_key(&one.name) {
                continue;
            }
            // The first of each kind is looked at in full.
            let full = listed.iter().position(|l| l.video == one.video) == Some(index);
            shared.saw(|seen| seen.renditions += 1);
            let task = tasks.spawn(follow(shared.clone(), one.clone(), full));
            running.insert(one.name.clone(), task);
        }
        if !probing && !listed.is_empty() {
            probing = true;
            let mut probed: Vec<Listed> = Vec::new();
            for video in [true, false] {
                probed.extend(listed.iter().find(|l| l.video == video).cloned());
            }
            tasks.spawn(probe(shared.clone(), probed));
        }
        tokio::time::sleep(MASTER_EVERY).await;
        let now_ms = shared.fetcher.now_ms();
        shared.tell(|engine| engine.handle_time(now_ms));
        if let Some(now_listed) = shared.refresh_master().await {
            listed = now_listed;
        }
    }
}

/// Follows one rendition until the multivariant playlist no longer lists it.
async fn follow(shared: Arc<Shared>, listed: Listed, full: bool) {
    let (jobs, queue) = mpsc::channel(JOBS_MAX);
    let mut side = JoinSet::new();
    side.spawn(fetch_media(shared.clone(), listed.clone(), queue));
    let name = listed.name.as_str();
    let mut sampler = Sampler::new(full, shared.plan.sample, jobs);
    let mut hint: Option<Hint> = None;
    let mut delta_ms = 0;
    let mut was_away = false;
    loop {
        let now = shared.tell(|engine| engine.playlist(name).cloned());
        let position = now.as_ref().filter(|p| !p.ended).and_then(next_position);
        if let (Some(now), Some((msn, part))) = (&now, position)
            && shared.fetcher.now_ms() >= delta_ms
            && now.control.as_ref().is_some_and(|c| c.can_skip_until_us.is_some())
        {
            delta_ms = shared.fetcher.now_ms() + DELTA_EVERY_MS;
            side.spawn(ask_delta(shared.clone(), listed.clone(), now.clone(), msn, part));
        }
        let target_us = now.as_ref().map_or(0, |p| p.target_us);
        let url = match position {
            Some((msn, Some(part))) => {
                with_query(&listed.url, &format!("_HLS_msn={msn}&_HLS_part={part}"))
            }
            Some((msn, None)) => with_query(&listed.url, &format!("_HLS_msn={msn}")),
            None => listed.url.clone(),
        };
        // A second more than the server may take.
        let patience = Duration::from_micros(3 * target_us) + Duration::from_secs(1);
        let ask = Ask::new(url);
        let ask = if position.is_some() { ask.within(patience) } else { ask };
        let asked = Asked { position, sent_ms: shared.fetcher.now_ms() };
        let answer = match shared.try_ask(name, ask).await {
            Ok(answer) => answer,
            Err(Failed::TimedOut(_)) => {
                let now_ms = shared.fetcher.now_ms();
                shared.tell(|engine| engine.handle_reload_timeout(now_ms, name, asked));
                continue;
            }
            Err(Failed::Away) => {
                was_away = true;
                hint = None;
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if answer.meta.status != 200 {
            if matches!(answer.meta.status, 404 | 410) {
                shared.refresh_master().await;
            }
            let still_listed = shared.tell(|engine| {
                if now.is_some() {
                    engine.handle_reload_refused(answer.at_ms, name, asked, &answer.meta);
                } else {
                    engine.handle_playlist_missing(answer.at_ms, name, &answer.meta);
                }
                engine.is_listed(name)
            });
            if !still_listed {
                return;
            }
            tokio::time::sleep(RETRY).await;
            continue;
        }
        let news = take_playlist(&shared, name, asked, &answer);
        if let Some(news) = news {
            let playlist = shared.tell(|engine| engine.playlist(name).cloned());
            if let Some(playlist) = &playlist {
                let hinted = hint
                    .take_if(|h| news.parts.iter().any(|(_, part)| part.resource == h.resource));
                sampler.take(&news, playlist, hinted, answer.at_ms, was_away);
                was_away = false;
                if full && hint.as_ref().map(|h| &h.resource) != playlist.part_hint.as_ref() {
                    hint = playlist.part_hint.clone().and_then(|resource| {
                        let url = absolute(&listed.url, &resource.uri)?;
                        Some(Hint::fetch(&shared, url, resource))
                    });
                }
            }
        }
        if !shared.tell(|engine| engine.is_listed(name)) {
            return;
        }
        let answered_at_once = answer.at_ms.saturating_sub(answer.sent_ms) < 20;
        if position.is_none() && now.is_some() {
            let half = now.as_ref().map_or(1_000_000, |p| p.target_us) / 2;
            tokio::time::sleep(Duration::from_micros(half)).await;
        } else if answered_at_once && now.is_some() {
            // Never a busy loop, whatever the server does; too short to miss a part.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn take_playlist(shared: &Shared, name: &str, asked: Asked, answer: &Answer) -> Option<News> {
    shared.saw(|seen| seen.playlists += 1);
    let wall = wall_us();
    let wall_us = answer.date_s.filter(|d| (wall / 1_000_000 - d).abs() <= 1).map(|_| wall);
    let text = answer.text();
    let news = shared.tell(|engine| {
        let news = engine.handle_playlist(answer.at_ms, name, asked, wall_us, &text);
        let playlist = engine.playlist(name);
        let answered = asked.position.zip(playlist).filter(|((m, p), now)| now.has(*m, *p));
        if let Some((_, playlist)) = answered.filter(|(_, now)| !now.ended) {
            let reload = Reload::Blocking { target_us: playlist.target_us };
            engine.check_playlist_headers(answer.at_ms, name, &answer.meta, reload);
        }
        news
    });
    if let Some(news) = &news {
        shared.saw(|seen| {
            seen.segments += news.segments.len() as u64;
            seen.parts += news.parts.len() as u64;
        });
    }
    news
}

async fn ask_delta(
    shared: Arc<Shared>,
    listed: Listed,
    base: MediaPlaylist,
    msn: u64,
    part: Option<u64>,
) {
    let part = part.map_or(String::new(), |p| format!("&_HLS_part={p}"));
    let url = with_query(&listed.url, &format!("_HLS_msn={msn}{part}&_HLS_skip=YES"));
    let patience = Duration::from_micros(3 * base.target_us) + Duration::from_secs(1);
    // What goes wrong here goes wrong for the plain reload beside it, which reports it.
    if let Outcome::Answered(answer) = shared.fetcher.get(Ask::new(url).within(patience)).await
        && answer.meta.status == 200
    {
        let text = answer.text();
        shared.tell(|engine| engine.handle_delta(answer.at_ms, &listed.name, &base, &text));
    }
}

/// The request for a hinted part, under way before the part exists.
#[derive(Debug)]
pub(crate) struct Hint {
    pub(crate) resource: Resource,
    pub(crate) request: Option<JoinHandle<Outcome>>,
}

impl Hint {
    fn fetch(shared: &Arc<Shared>, url: String, resource: Resource) -> Self {
        let shared = shared.clone();
        let mut ask = Ask::new(url).within(Duration::from_secs(120));
        if let Some((offset, length)) = resource.range {
            ask = ask.bytes(offset, offset.saturating_add(length).saturating_sub(1));
        }
        let request = tokio::spawn(async move { shared.fetcher.get(ask).await });
        Self { resource, request: Some(request) }
    }
}

impl Drop for Hint {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            request.abort();
        }
    }
}

/// What a blocking reload asks for next; `None` when the server cannot block.
fn next_position(now: &MediaPlaylist) -> Option<(u64, Option<u64>)> {
    if !now.control.as_ref()?.can_block_reload {
        return None;
    }
    let part = now.part_target_us.map(|_| now.open.parts.len() as u64);
    Some((now.open_msn(), part))
}

pub(crate) fn with_query(url: &str, query: &str) -> String {
    format!("{url}{}{query}", if url.contains('?') { '&' } else { '?' })
}

fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
