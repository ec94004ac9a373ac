//! Hardware that passes its trial and fails while a stream is on the air: a whole broadcaster whose
//! workers are this program, seen through its API and its playlists.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use super::Machine;
use super::pictures::Pictures;
use super::playlists::Playlist;
use super::rig::{Broadcaster, PATIENCE};

/// Media sequence numbers.
type Range = std::ops::RangeInclusive<u64>;

/// The frame at which a fake fails: 5 s into the session, in the middle of a segment.
const FAILS_AT: u64 = 150;

/// A stream on the air, made by a fake encoder that is about to fail.
struct OnAir {
    shoal: Broadcaster,
    /// What it says of itself, from its start on.
    began: Value,
    /// When its first frame was made.
    began_at: String,
    renditions: Vec<String>,
    check: tokio::task::JoinHandle<std::process::Output>,
    _machine: Machine,
}

impl OnAir {
    async fn start(fault: &str, rungs: &[(&str, u32, u32)]) -> Self {
        let fakes = format!("vah264enc={fault}");
        Self::start_on(Machine::with(&fakes), &fakes, rungs).await
    }

    /// The fakes on the air may be others than those that were tried.
    async fn start_on(machine: Machine, fakes: &str, rungs: &[(&str, u32, u32)]) -> Self {
        let root = machine.dir.path().join("machine");
        let own = std::env::current_exe().unwrap();
        let shoal = Broadcaster::start_program(&own, &machine.finder.data, |command| {
            command.env("SHOAL_FAKE_ENCODERS", fakes).arg("--machine-root").arg(root);
            // What is made is decided by the encoders alone, however busy this machine is.
            command.args(["--admission", "false", "--degradation", "false"]);
        });
        let ladder: Vec<_> = rungs
            .iter()
            .map(|(id, width, height)| {
                json!({"id": id, "width": width, "height": height, "fps": 30, "video_kbps": 400})
            })
            .collect();
        let new = json!({"name": "show", "source": "test", "ladder": ladder});
        let (status, body) = shoal.api.call(Method::POST, "/streams", new).await;
        assert_eq!(status, 201, "{body}");
        let mut renditions: Vec<_> = rungs.iter().map(|(id, ..)| (*id).to_owned()).collect();
        renditions.push("audio".to_owned());
        let master = format!("http://{}/live/show/master.m3u8", shoal.http);
        let began = eventually("the stream", async || {
            let listed = shoal.api.get("/live/show/master.m3u8").await.unwrap().status() == 200;
            Some(show(&shoal).await).filter(|show| listed && show["state"] == "live")
        })
        .await;
        let began_at = eventually("a segment", async || {
            let path = format!("/live/show/{}/media.m3u8", renditions[0]);
            let text = shoal.api.get(&path).await.unwrap().text().await.unwrap();
            let first = Playlist::parse(&text).segments.into_iter().next()?;
            (first.msn == 0).then_some(first.date)
        })
        .await;
        let mut check = Command::new(env!("CARGO_BIN_EXE_broadcaster"));
        check.args(["check-hls", &master, "--for", "12s"]).stdin(Stdio::null()).kill_on_drop(true);
        let check = tokio::spawn(async move { check.output().await.unwrap() });
        Self { shoal, began, began_at, renditions, check, _machine: machine }
    }

    /// Waits until x264 makes these rungs, and gives how long after the failure that was decided.
    async fn replaced(&self, rungs: &[&str]) -> Duration {
        self.replaced_after(rungs, "vah264enc").await
    }

    /// The same, where this encoder was the last before x264.
    async fn replaced_after(&self, rungs: &[&str], last: &str) -> Duration {
        for id in rungs {
            assert_eq!(encoder(&self.began, id), "vah264enc", "before it fails");
        }
        let noted_at = eventually("a note for each", async || {
            let show = show(&self.shoal).await;
            let noted = |id: &&&str| {
                let words = format!("'{id}': {last} failed");
                let notes = show["notes"].as_array().unwrap().iter();
                notes
                    .filter_map(Value::as_str)
                    .any(|note| note.starts_with(&words) && note.ends_with("; x264enc goes on"))
            };
            (rungs.iter().filter(noted).count() == rungs.len()).then(SystemTime::now)
        })
        .await;
        eventually("x264", async || {
            let show = show(&self.shoal).await;
            let made = |id: &&&str| encoder(&show, id) == "x264enc" && state(&show, id) == "live";
            (rungs.iter().filter(made).count() == rungs.len()).then_some(())
        })
        .await;
        let failed_us = micros(&self.began_at) + FAILS_AT as i64 * 1_000_000 / 30;
        let noted_us = noted_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64;
        Duration::from_micros((noted_us - failed_us).max(0) as u64)
    }

    /// Every rendition's playlist, once it has whole segments after the replacement.
    async fn playlists(&self) -> BTreeMap<String, Playlist> {
        let mut all = BTreeMap::new();
        for id in &self.renditions {
            let playlist = eventually(&format!("segments of {id}"), async || {
                let path = format!("/live/show/{id}/media.m3u8");
                let answer = self.shoal.api.get(&path).await.unwrap();
                let playlist = Playlist::parse(&answer.text().await.unwrap());
                let newest = playlist.segments.last().map_or(0, |s| s.discontinuity);
                let after = playlist.segments.iter().filter(|s| s.discontinuity == newest).count();
                (newest > first_discontinuity(&self.began) && after >= 2).then_some(playlist)
            })
            .await;
            all.insert(id.clone(), playlist);
        }
        all
    }

    /// No frame is missing in these rungs, in segments up to the one that a change began.
    async fn assert_whole(&self, playlists: &BTreeMap<String, Playlist>, ids: &[&str], msn: Range) {
        for id in ids {
            let mut shown = Vec::new();
            for segment in playlists[*id].segments.iter().filter(|s| msn.contains(&s.msn)) {
                shown.extend(self.shown(id, &segment.map, &segment.uri).await);
            }
            let missing: Vec<_> = shown.windows(2).filter(|w| w[1] != w[0] + 1).collect();
            println!("    {id}: {} frames around it, missing between {missing:?}", shown.len());
            assert!(missing.is_empty(), "{id}: {missing:?}");
        }
    }

    async fn checked(self) {
        let said = self.check.await.unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(
            said.status.success(),
            "check-hls: {text}{}",
            String::from_utf8_lossy(&said.stderr)
        );
    }

    async fn shown(&self, id: &str, map: &str, uri: &str) -> Vec<u32> {
        let mut media = Vec::new();
        for part in [map, uri] {
            let answer = self.shoal.api.get(&format!("/live/show/{id}/{part}")).await.unwrap();
            assert_eq!(answer.status(), 200, "{part} of {id}");
            media.extend_from_slice(&answer.bytes().await.unwrap());
        }
        let shown = Pictures::decode(&media).await.shown;
        shown.into_iter().map(|picture| picture.counter.expect("it can be read")).collect()
    }
}

/// The first session of a stream begins at this discontinuity sequence.
fn first_discontinuity(began: &Value) -> u64 {
    began["session"].as_u64().unwrap()
}

/// The same discontinuity at the same segment everywhere, one for each replacement, and another
/// init segment for the replaced.
fn changed_together(playlists: &BTreeMap<String, Playlist>, replaced: &[&str]) -> u64 {
    let mut places: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
    for (id, playlist) in playlists {
        for segment in &playlist.segments {
            let here = (segment.discontinuity, id.as_str());
            let (there, other) = *places.entry(segment.msn).or_insert(here);
            assert_eq!(segment.discontinuity, there, "{} of {id} and {other}", segment.msn);
        }
        let newest = &playlist.segments.last().unwrap().map;
        assert_eq!(newest.ends_with("init-2.mp4"), replaced.contains(&id.as_str()), "{newest}");
    }
    let newest = places.values().map(|(discontinuity, _)| *discontinuity).max().unwrap();
    *places.iter().find(|(_, (discontinuity, _))| *discontinuity == newest).unwrap().0
}

pub(super) async fn the_only_rung_goes_on_when_its_encoder_dies() {
    let stream = OnAir::start(&format!("dies@{FAILS_AT}"), &[("only", 320, 180)]).await;
    stream.replaced(&["only"]).await;
    let playlists = stream.playlists().await;
    changed_together(&playlists, &["only"]);
    stream.checked().await;
}

pub(super) async fn one_of_several_rungs_goes_on_when_its_encoder_dies() {
    let rungs = [("large", 640, 360), ("middle", 426, 240), ("small", 320, 180)];
    let stream = OnAir::start(&format!("dies@{FAILS_AT}/240"), &rungs).await;
    stream.replaced(&["middle"]).await;
    let show = show(&stream.shoal).await;
    assert_eq!((encoder(&show, "large"), encoder(&show, "small")), ("vah264enc", "vah264enc"));
    let playlists = stream.playlists().await;
    changed_together(&playlists, &["middle"]);
    stream.checked().await;
}

pub(super) async fn all_rungs_go_on_when_their_device_dies() {
    let rungs = [("large", 640, 360), ("small", 320, 180)];
    let stream = OnAir::start(&format!("dies@{FAILS_AT}"), &rungs).await;
    stream.replaced(&["large", "small"]).await;
    let playlists = stream.playlists().await;
    changed_together(&playlists, &["large", "small"]);
    stream.checked().await;
}

pub(super) async fn an_encoder_that_hangs_is_replaced_within_a_second() {
    let rungs = [("large", 640, 360), ("middle", 426, 240), ("small", 320, 180)];
    let stream = OnAir::start(&format!("hangs@{FAILS_AT}/240"), &rungs).await;
    let after = stream.replaced(&["middle"]).await;
    println!("    replaced {} ms after its last frame", after.as_millis());
    assert!(after < Duration::from_secs(1), "{after:?}");
    let playlists = stream.playlists().await;
    let change = changed_together(&playlists, &["middle"]);
    stream.assert_whole(&playlists, &["large", "small"], change - 1..=change).await;
    stream.checked().await;
}

pub(super) async fn an_encoder_that_hangs_while_it_opens_gives_way_to_the_next() {
    let rungs = [("large", 640, 360), ("middle", 426, 240), ("small", 320, 180)];
    let machine = Machine::with("vah264enc=none,vaapih264enc=none");
    machine.finder.for_workers(super::DEFAULT).await;
    let fakes = format!("vah264enc=dies@{FAILS_AT}/240,vaapih264enc=open-hangs");
    let stream = OnAir::start_on(machine, &fakes, &rungs).await;
    stream.replaced_after(&["middle"], "vaapih264enc").await;
    let notes = show(&stream.shoal).await["notes"].to_string();
    assert!(notes.contains("'middle': vaapih264enc failed: it hangs: it was not open"), "{notes}");
    let playlists = stream.playlists().await;
    let change = changed_together(&playlists, &["middle"]);
    // The first encoder dies in segment 2.
    stream.assert_whole(&playlists, &["large", "small"], 2..=change).await;
    stream.checked().await;
}

async fn show(shoal: &Broadcaster) -> Value {
    shoal.api.call(Method::GET, "/streams/show", Value::Null).await.1
}

fn of<'a>(show: &'a Value, id: &str, field: &str) -> &'a str {
    let renditions = show["renditions"].as_array().unwrap();
    let rendition = renditions.iter().find(|r| r["id"] == id).unwrap();
    rendition[field].as_str().unwrap_or_default()
}

fn encoder<'a>(show: &'a Value, id: &str) -> &'a str {
    of(show, id, "encoder")
}

fn state<'a>(show: &'a Value, id: &str) -> &'a str {
    of(show, id, "state")
}

/// Microseconds since the Unix epoch of a date in a playlist's form.
fn micros(date: &str) -> i64 {
    let format = time::format_description::well_known::Rfc3339;
    let date = time::OffsetDateTime::parse(date, &format).unwrap();
    (date.unix_timestamp_nanos() / 1000) as i64
}

/// Asks until there is an answer.
async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: it never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
