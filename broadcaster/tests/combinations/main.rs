//! Every combination of four qualities that are on or off, each with a new session, looked at as a
//! viewer does: what is listed, how it is numbered, and what the pictures say.
//!
//! The source carries a frame counter in its pictures and `--mark-renditions` adds which rendition
//! they belong to, so that two qualities of one size cannot be taken for each other.
#![allow(clippy::unwrap_used)]

mod pictures;
mod playlists;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../serve/rig.rs"]
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use pictures::{FPS, Pictures};
use playlists::{Playlist, Segment};
use rig::{Api, Broadcaster, PATIENCE};

/// Largest first, as the worker numbers them. Only the mark tells the last two apart.
const QUALITIES: [(&str, u32, u32, u32); 4] =
    [("a", 640, 360, 600), ("b", 480, 270, 400), ("c", 426, 240, 300), ("d", 426, 240, 250)];

/// Segments of each session whose pictures are read.
const READ: usize = 2;

#[tokio::test]
async fn every_combination_of_qualities_lists_and_shows_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("clip.mp4");
    pictures::write_clip(&clip, 60);
    let shoal = start(dir.path());
    let try_every = async |first: usize| {
        let mut stream = Stream::add(&shoal, &format!("s{first}"), &clip).await;
        for combination in (first..16).step_by(2) {
            stream.try_combination(combination).await;
        }
    };
    // Two at once keep a small machine busy without making it slow.
    tokio::join!(try_every(0), try_every(1));
}

#[tokio::test]
async fn check_hls_says_nothing_while_qualities_are_switched() {
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("clip.mp4");
    pictures::write_clip(&clip, 40);
    let shoal = start(dir.path());
    let mut stream = Stream::add(&shoal, "show", &clip).await;
    stream.publish();
    stream.is_live(BTreeSet::from(["a", "b", "c", "d"])).await;
    let mut check = Command::new(env!("CARGO_BIN_EXE_broadcaster"));
    let master = format!("http://{}/live/show/master.m3u8", shoal.http);
    check.args(["check-hls", &master, "--for", "20s"]).stdin(Stdio::null()).kill_on_drop(true);
    let mut check = std::pin::pin!(check.output());
    let mut combination = 0;
    let said = loop {
        tokio::select! {
            said = &mut check => break said.unwrap(),
            // `a` stays, so that there is always something to look at.
            () = tokio::time::sleep(Duration::from_millis(2_500)) => {
                combination = (combination + 5) % 8;
                stream.choose(combination << 1 | 1).await;
            }
        }
    };
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{out}\n{err}");
}

fn start(dir: &Path) -> Broadcaster {
    Broadcaster::start(&dir.join("data"), |command| {
        // What is made is decided here alone, however busy this machine is.
        command.args(["--mark-renditions", "--admission", "false", "--degradation", "false"]);
        command.args(["--segment-ms", "1000", "--part-ms", "500"]);
    })
}

/// A stream, its encoder, and what viewers were told so far.
struct Stream {
    name: String,
    api: Api,
    url: String,
    clip: std::path::PathBuf,
    encoder: Option<Child>,
    /// Media sequence number and discontinuity sequence that each rendition began with last.
    numbers: BTreeMap<String, (u64, u64)>,
}

impl Stream {
    async fn add(shoal: &Broadcaster, name: &str, clip: &Path) -> Self {
        let ladder: Vec<_> = QUALITIES
            .iter()
            .map(|(id, width, height, kbps)| {
                json!({"id": id, "width": width, "height": height, "fps": FPS, "video_kbps": kbps})
            })
            .collect();
        let new = json!({"name": name, "source": "rtmp", "ladder": ladder});
        let (status, body) = shoal.api.call(Method::POST, "/streams", new).await;
        assert_eq!(status, 201, "{body}");
        Self {
            name: name.to_owned(),
            api: shoal.api.clone(),
            url: format!("rtmp://{}/live/{}", shoal.rtmp, body["stream_key"].as_str().unwrap()),
            clip: clip.to_owned(),
            encoder: None,
            numbers: BTreeMap::new(),
        }
    }

    /// Sets a combination while the last session is on the air, begins another session, and looks.
    async fn try_combination(&mut self, combination: usize) {
        let began = Instant::now();
        let enabled = names(combination);
        self.choose(combination).await;
        let before = self.show().await["session"].as_u64();
        if let Some(mut encoder) = self.encoder.take() {
            encoder.kill().await.unwrap();
        }
        self.publish();
        self.until("another session", async |s| s.show().await["session"].as_u64() > before).await;
        self.is_live(enabled.clone()).await;
        for (id, ..) in QUALITIES.iter().filter(|(id, ..)| !enabled.contains(id)) {
            let answer = self.api.get(&self.path(id)).await.unwrap();
            assert_eq!(answer.status(), 404, "{id} is off, {combination:04b}");
        }
        let playlists = self.whole_segments(&enabled).await;
        self.are_numbered_alike(&playlists);
        let read = self.are_what_they_say(&playlists, &enabled).await;
        println!(
            "{} {:4}: listed {:13} {read} pictures read, {:.1} s",
            self.name,
            enabled.iter().copied().collect::<String>(),
            enabled.iter().chain(&["audio"]).copied().collect::<Vec<_>>().join(" "),
            began.elapsed().as_secs_f32()
        );
    }

    /// Switches each quality.
    async fn choose(&self, combination: usize) {
        for (id, ..) in QUALITIES {
            let path = format!("/streams/{}/renditions/{id}", self.name);
            let change = json!({"enabled": names(combination).contains(id)});
            let (status, body) = self.api.call(Method::PATCH, &path, change).await;
            assert_eq!(status, 200, "{body}");
        }
    }

    fn publish(&mut self) {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-loglevel", "fatal", "-re", "-i"]).arg(&self.clip);
        ffmpeg.args(["-c", "copy", "-f", "flv", &self.url]).kill_on_drop(true);
        self.encoder = Some(ffmpeg.stdin(Stdio::null()).spawn().unwrap());
    }

    /// Waits until exactly these qualities are listed, and audio.
    async fn is_live(&self, enabled: BTreeSet<&str>) {
        let wanted: BTreeSet<String> =
            enabled.iter().map(|id| (*id).to_owned()).chain(["audio".to_owned()]).collect();
        self.until("the master playlist", async |s| {
            s.show().await["state"] == "live" && s.listed().await == wanted
        })
        .await;
    }

    /// What the master playlist lists.
    async fn listed(&self) -> BTreeSet<String> {
        let master = self.api.get(&format!("/live/{}/master.m3u8", self.name)).await.unwrap();
        if !master.status().is_success() {
            return BTreeSet::new();
        }
        playlists::listed(&master.text().await.unwrap())
    }

    /// The playlists of the qualities and of audio, once each has whole segments of this session.
    async fn whole_segments(&self, enabled: &BTreeSet<&str>) -> BTreeMap<String, Playlist> {
        let session = self.show().await["session"].as_u64().unwrap();
        let mut all = BTreeMap::new();
        for id in enabled.iter().chain(&["audio"]) {
            let playlist = self
                .until_some(&format!("{READ} segments of {id}"), async |s| {
                    let answer = s.api.get(&s.path(id)).await.unwrap();
                    let playlist = Playlist::parse(&answer.text().await.unwrap());
                    (playlist.of_session(session).len() >= READ).then_some(playlist)
                })
                .await;
            all.insert((*id).to_owned(), playlist);
        }
        all
    }

    /// Numbers never go back, and a segment has one number and one place everywhere, and the same
    /// time in every quality. Audio begins with a frame of its own.
    fn are_numbered_alike(&mut self, playlists: &BTreeMap<String, Playlist>) {
        let mut places: BTreeMap<u64, (&str, u64)> = BTreeMap::new();
        let mut times: BTreeMap<u64, (&str, &str)> = BTreeMap::new();
        for (id, playlist) in playlists {
            let now = (playlist.first_msn, playlist.first_discontinuity);
            let before = self.numbers.insert(id.clone(), now).unwrap_or_default();
            assert!(now.0 >= before.0 && now.1 >= before.1, "{id}: {before:?} -> {now:?}");
            for segment in &playlist.segments {
                let Segment { msn, discontinuity, date, .. } = segment;
                let (other, there) = *places.entry(*msn).or_insert((id, *discontinuity));
                assert_eq!(*discontinuity, there, "{msn} of {id} and {other}");
                if id != "audio" {
                    let (other, there) = *times.entry(*msn).or_insert((id, date));
                    assert_eq!(date, there, "{msn} of {id} and {other}");
                }
            }
        }
    }

    /// The newest segments show their own rendition, each frame once, and the same at the same time.
    async fn are_what_they_say(
        &self,
        playlists: &BTreeMap<String, Playlist>,
        enabled: &BTreeSet<&str>,
    ) -> usize {
        let session = self.show().await;
        let number = |id: &str| {
            session["renditions"].as_array().unwrap().iter().position(|r| r["id"] == id).unwrap()
        };
        let mut at: BTreeMap<u64, (&str, u32)> = BTreeMap::new();
        let mut read = 0;
        for id in enabled {
            let segments = playlists[*id].of_session(session["session"].as_u64().unwrap());
            for segment in &segments[segments.len() - READ..] {
                let mut media = self.fetch(id, &segment.map).await;
                media.extend(self.fetch(id, &segment.uri).await);
                let pictures = Pictures::decode(&media).await;
                assert!(!pictures.shown.is_empty(), "{} of {id} shows nothing", segment.uri);
                for (i, picture) in pictures.shown.iter().enumerate() {
                    let place = format!("picture {i} of {} of {id}", segment.uri);
                    assert_eq!(picture.mark, Some(number(id) as u8), "{place}");
                    let counter = picture.counter.unwrap_or_else(|| panic!("unread: {place}"));
                    if i > 0 {
                        let before = pictures.shown[i - 1].counter.unwrap();
                        assert_eq!(counter, before + 1, "{place}");
                    }
                    let (other, there) = *at.entry(picture.pts_ms).or_insert((id, counter));
                    assert_eq!(counter, there, "{place} and {other}");
                }
                read += pictures.shown.len();
            }
        }
        read
    }

    async fn fetch(&self, id: &str, uri: &str) -> Vec<u8> {
        let answer = self.api.get(&format!("/live/{}/{id}/{uri}", self.name)).await.unwrap();
        assert_eq!(answer.status(), 200, "{uri} of {id}");
        answer.bytes().await.unwrap().to_vec()
    }

    fn path(&self, id: &str) -> String {
        format!("/live/{}/{id}/media.m3u8", self.name)
    }

    async fn show(&self) -> Value {
        self.api.call(Method::GET, &format!("/streams/{}", self.name), Value::Null).await.1
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        self.until_some(what, async |s| is_so(s).await.then_some(())).await;
    }

    /// Asks until there is an answer.
    async fn until_some<T>(&self, what: &str, ask: impl AsyncFn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask(self).await {
                return answer;
            }
            if Instant::now() >= deadline {
                panic!("{}: {what}: never came: {:#}", self.name, self.show().await);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The qualities that are on in a combination.
fn names(combination: usize) -> BTreeSet<&'static str> {
    let on = |i: &usize| combination >> i & 1 == 1;
    (0..QUALITIES.len()).filter(on).map(|i| QUALITIES[i].0).collect()
}
