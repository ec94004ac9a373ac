//! The HTTP origin: Low-Latency HLS to any player, from memory that all viewers share.
//!
//! Requests are matched by typed parts of their path; no path of a request ever becomes a path on
//! disk. `serve` owns sockets and their time-outs, the rest answers requests.

pub mod asked;
pub mod body;
pub mod headers;
mod holds;
mod info;
mod media;
mod playlist;
mod sender;
pub mod serve;
mod stall;
pub mod tls;
pub mod viewers;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use common::id::{Msn, RenditionId, SessionNumber, StreamName};
use http::{HeaderMap, Method, StatusCode};

pub use body::Body;
pub use info::{Info, InfoRendition, P2pInfo};

use crate::store::live::{LiveStream, OnCall};
use asked::Asked;
use viewers::Viewers;

/// A response of the origin.
pub type Response = http::Response<Body>;

/// Everything the origin serves. Shared by all connections.
#[derive(Debug, Default)]
pub struct Origin {
    streams: ArcSwap<BTreeMap<StreamName, Arc<Served>>>,
    /// Somebody asks for a quality that sleeps.
    wanted: tokio::sync::Notify,
}

/// One stream as the origin serves it.
#[derive(Debug)]
pub struct Served {
    /// Its media and playlists.
    pub live: Arc<LiveStream>,
    /// Who watches.
    pub viewers: Viewers,
    /// What is watched.
    pub asked: Asked,
    info: ArcSwap<Info>,
    thumb: ArcSwap<bytes::Bytes>,
    bytes_http: AtomicU64,
}

/// What a path below `/live/` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `{stream}/master.m3u8`
    Master(StreamName),
    /// `{stream}/info.json`
    Info(StreamName),
    /// `{stream}/thumb.jpg`
    Thumb(StreamName),
    /// `{stream}/{rendition}/media.m3u8`
    Playlist(StreamName, RenditionId),
    /// `{stream}/{session}/{rendition}/init-{n}.mp4`
    Init(StreamName, SessionNumber, RenditionId, u16),
    /// `{stream}/{session}/{rendition}/{msn}.m4s`
    Segment(StreamName, SessionNumber, RenditionId, Msn),
    /// `{stream}/{session}/{rendition}/{msn}.{part}.m4s`
    Part(StreamName, SessionNumber, RenditionId, Msn, u16),
}

impl Target {
    /// Reads what follows `/live/` in a path. Anything else than the exact names of media is
    /// `None`: there is nothing to normalise and nothing to escape.
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = path.split('/');
        let stream = segments.next()?.parse().ok()?;
        let second = segments.next()?;
        let Some(third) = segments.next() else {
            return match second {
                "master.m3u8" => Some(Self::Master(stream)),
                "info.json" => Some(Self::Info(stream)),
                "thumb.jpg" => Some(Self::Thumb(stream)),
                _ => None,
            };
        };
        let Some(file) = segments.next() else {
            return match third {
                "media.m3u8" => Some(Self::Playlist(stream, second.parse().ok()?)),
                _ => None,
            };
        };
        if segments.next().is_some() {
            return None;
        }
        let session = SessionNumber(number(second)?);
        let rendition = third.parse().ok()?;
        if let Some(init) = file.strip_prefix("init-") {
            let init = number(init.strip_suffix(".mp4")?)?;
            return Some(Self::Init(stream, session, rendition, init));
        }
        let name = file.strip_suffix(".m4s")?;
        Some(match name.split_once('.') {
            Some((msn, part)) => {
                Self::Part(stream, session, rendition, Msn(number(msn)?), number(part)?)
            }
            None => Self::Segment(stream, session, rendition, Msn(number(name)?)),
        })
    }

    /// The stream.
    pub fn stream(&self) -> &StreamName {
        match self {
            Self::Master(stream)
            | Self::Info(stream)
            | Self::Thumb(stream)
            | Self::Playlist(stream, _)
            | Self::Init(stream, ..)
            | Self::Segment(stream, ..)
            | Self::Part(stream, ..) => stream,
        }
    }
}

/// A decimal number written as we write it: no sign, no leading zero.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if canonical && digits { text.parse().ok() } else { None }
}

impl Origin {
    /// Waits until somebody asks for a quality that sleeps.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The stream of that name.
    pub fn stream(&self, name: &StreamName) -> Option<Arc<Served>> {
        self.streams.load().get(name).cloned()
    }

    /// Every stream, in order of names.
    pub fn streams(&self) -> Vec<Arc<Served>> {
        self.streams.load().values().cloned().collect()
    }

    /// Starts to serve a stream.
    pub fn add(&self, served: Arc<Served>) {
        self.streams.rcu(|streams| {
            let mut streams = BTreeMap::clone(streams);
            streams.insert(served.live.name().clone(), served.clone());
            streams
        });
    }

    /// Stops to serve a stream.
    pub fn remove(&self, name: &StreamName) {
        self.streams.rcu(|streams| {
            let mut streams = BTreeMap::clone(streams);
            streams.remove(name);
            streams
        });
    }

    /// Answers a request for something below `/live/`. `path` is what follows that.
    pub async fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Response {
        if *method == Method::OPTIONS {
            return headers::preflight();
        }
        if *method != Method::GET && *method != Method::HEAD {
            return headers::refused(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here");
        }
        let Some(target) = Target::parse(path) else { return headers::not_found() };
        let Some(served) = self.stream(target.stream()) else { return headers::not_found() };
        let is_media = matches!(target, Target::Init(..) | Target::Segment(..) | Target::Part(..));
        let mut response = match target {
            Target::Master(_) => playlist::master(&served.live, headers),
            Target::Info(_) => info::respond(&served.info.load()),
            Target::Thumb(_) => info::thumb(&served.thumb.load()),
            Target::Playlist(_, id) => {
                served.viewers.seen(peer, headers);
                let is_there = served.live.rendition(&id).is_some();
                let on_call = served.live.on_call(&id).filter(|_| !is_there);
                if is_there || on_call.is_some() {
                    served.asked.note(&id);
                }
                // Once it is awake nobody need look again. Not by when it was asked for last: it may
                // have fallen asleep since.
                if on_call == Some(OnCall::Asleep) {
                    self.wanted.notify_one();
                }
                playlist::media(&served.live, &id, query, headers).await
            }
            Target::Init(_, session, id, n) => media::init(&served.live, session, &id, n, headers),
            Target::Segment(_, session, id, msn) => {
                media::segment(&served.live, session, &id, msn, headers)
            }
            Target::Part(_, session, id, msn, part) => {
                media::part(&served.live, session, &id, msn, part, headers).await
            }
        };
        if *method == Method::HEAD {
            headers::without_body(&mut response);
        } else if is_media {
            let len = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
            served.bytes_http.fetch_add(len, Ordering::Relaxed);
        }
        response
    }
}

impl Served {
    /// A stream to serve, of which nothing is known yet.
    pub fn new(live: Arc<LiveStream>, info: Info) -> Self {
        Self {
            live,
            viewers: Viewers::default(),
            asked: Asked::default(),
            info: ArcSwap::from_pointee(info),
            thumb: ArcSwap::default(),
            bytes_http: AtomicU64::new(0),
        }
    }

    /// Bytes of media answered with.
    pub fn bytes_http(&self) -> u64 {
        self.bytes_http.load(Ordering::Relaxed)
    }

    /// What `info.json` says.
    pub fn info(&self) -> Arc<Info> {
        self.info.load_full()
    }

    /// Changes what `info.json` says.
    pub fn set_info(&self, info: Info) {
        self.info.store(Arc::new(info));
    }

    /// Changes the poster, a JPEG; empty for none.
    pub fn set_thumb(&self, jpeg: bytes::Bytes) {
        self.thumb.store(Arc::new(jpeg));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_who_asks_for_what_sleeps_wakes_it_and_those_who_wait_with_him_do_not() {
        let (origin, id): (_, RenditionId) = (Origin::default(), "720p".parse().unwrap());
        let live = Arc::new(LiveStream::new("show".parse().unwrap()));
        origin.add(Arc::new(Served::new(live.clone(), crate::testing::info())));
        let wakes = async |is: OnCall| {
            live.set_on_call([(id.clone(), is)].into());
            let (path, peer) = ("show/720p/media.m3u8", [192, 0, 2, 1].into());
            let answer = origin.answer(&Method::GET, path, "", &HeaderMap::new(), peer).await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "nobody makes it");
            let wanted = tokio::time::timeout(std::time::Duration::from_secs(1), origin.wanted());
            wanted.await.is_ok()
        };
        assert!(wakes(OnCall::Asleep).await);
        assert!(!wakes(OnCall::Woken).await);
        assert!(wakes(OnCall::Asleep).await, "it fell asleep right after it was asked for");
    }

    #[test]
    fn only_the_exact_names_of_media_are_paths() {
        let parse = Target::parse;
        assert!(matches!(parse("demo/master.m3u8"), Some(Target::Master(_))));
        assert!(matches!(parse("demo/480p/media.m3u8"), Some(Target::Playlist(..))));
        assert!(matches!(parse("demo/3/480p/17.m4s"), Some(Target::Segment(..))));
        assert!(matches!(parse("demo/3/480p/17.2.m4s"), Some(Target::Part(..))));
        assert!(matches!(parse("demo/3/480p/init-1.mp4"), Some(Target::Init(..))));
        for bad in [
            "",
            "demo",
            "demo/",
            "demo/../key",
            "demo/%2e%2e/key",
            "demo/3/480p/..",
            "demo/3/480p/017.m4s",
            "demo/3/480p/+1.m4s",
            "demo/3/480p/1.2.3.m4s",
            "demo/3/480p/99999999999999999999.m4s",
            "demo/3/480p/17.m4s/x",
            "demo/3/480p/17.m4s\0",
            "demo//480p/17.m4s",
            "demo\\3\\480p\\17.m4s",
        ] {
            assert_eq!(parse(bad), None, "{bad:?} names something");
        }
    }
}
