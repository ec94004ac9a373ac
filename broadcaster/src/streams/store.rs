//! The list of streams, kept in `streams.json` in the data directory.
//!
//! Every change is on the disk before it is true in memory: a change that cannot be written is
//! refused and nothing has happened. One broadcaster owns the file; others change streams through
//! its API.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use common::id::{RenditionId, StreamName};
use common::limit::RENDITIONS_MAX;
use common::rendition::{Ladder, NamedLadder, RungChoice, SOURCE_ID, default_audio, preset_named};
use serde::{Deserialize, Serialize};

use super::key::{KeyHash, KeySecret, StreamKey};
use super::source::{SourceError, SourceSpec};
use super::{choice, file};
use crate::disk;
use crate::resource::quality::{QualityChoice, QualitySettings};
use crate::secret::SecretError;

/// The file's name in the data directory.
pub const STREAMS_FILE: &str = "streams.json";

/// Streams in one store: a lookup by key compares with each, and every change writes them all
/// (about 300 kB).
pub const STREAMS_MAX: usize = 1000;

/// Longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 200;

/// Longest owner name, in characters.
pub const OWNER_CHARS_MAX: usize = 64;

/// The owner of streams that name none.
pub const DEFAULT_OWNER: &str = "default";

/// One stream as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamEntry {
    /// Its name, unique here.
    pub name: StreamName,
    /// What viewers read; its name unless given.
    pub title: String,
    /// Whose limit it counts for.
    pub owner: String,
    /// Where its media comes from.
    pub source: SourceSpec,
    /// Which video renditions it has.
    pub ladder: Ladder,
    /// Whether a file starts again at its end.
    #[serde(default)]
    pub repeat: bool,
    /// What the operator chose for single qualities.
    #[serde(default, skip_serializing_if = "QualitySettings::is_empty")]
    pub qualities: QualitySettings,
    /// The hash of its stream key.
    pub key_hash: KeyHash,
    /// When it was made, in seconds since the Unix epoch.
    pub created_at_s: u64,
}

/// A stream to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewStream {
    /// Its name.
    pub name: StreamName,
    /// What viewers read (default: the name).
    #[serde(default)]
    pub title: Option<String>,
    /// Whose limit it counts for (default [`DEFAULT_OWNER`]).
    #[serde(default)]
    pub owner: Option<String>,
    /// Where its media comes from (default `rtmp`).
    #[serde(default = "default_source")]
    pub source: SourceSpec,
    /// Which video renditions it has (default `auto`).
    #[serde(default = "default_ladder")]
    pub ladder: Ladder,
    /// Whether a file starts again at its end (default: no).
    #[serde(default)]
    pub repeat: bool,
    /// What is chosen for single qualities (default: nothing).
    #[serde(default)]
    pub qualities: QualitySettings,
}

/// Why the store cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a list of streams.
    #[error("{path} is damaged ({why}): repair it, or move it away to start with no streams")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        why: String,
    },
    /// The secret of the keys cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A field that cannot be accepted.
    #[error("{field}: {why}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// No key can be made.
    #[error("this system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    /// The name is taken.
    #[error("there is a stream named {0} already")]
    Exists(StreamName),
    /// No stream has that name.
    #[error("there is no stream named {0}")]
    Unknown(StreamName),
    /// What was chosen for a quality cannot be.
    #[error(transparent)]
    Choice(#[from] choice::ChoiceError),
    /// As many streams as a store holds.
    #[error("there are {STREAMS_MAX} streams, which is the most: delete one first")]
    Full,
}

/// Every stream, in order of name.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    secret: KeySecret,
    streams: BTreeMap<StreamName, StreamEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile<E> {
    /// Of this layout.
    version: u32,
    streams: Vec<E>,
}

/// The layout that this code reads and writes.
const VERSION: u32 = 1;

impl Store {
    /// Opens the store in `data_dir`, which must exist; a first start makes an empty one.
    ///
    /// # Errors
    /// When the file or the secret cannot be read, or is damaged.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let secret = KeySecret::load_or_create(data_dir)?;
        let path = data_dir.join(STREAMS_FILE);
        let entries = match std::fs::read(&path) {
            Ok(text) => {
                let damaged = |why: String| StoreError::Damaged { path: path.clone(), why };
                let stored: StoredFile<StreamEntry> =
                    serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
                if stored.version != VERSION {
                    return Err(damaged(format!("it has the unknown version {}", stored.version)));
                }
                let mut seen = BTreeSet::new();
                for entry in &stored.streams {
                    if !seen.insert(&entry.name) {
                        return Err(damaged(format!("it has the stream {} twice", entry.name)));
                    }
                    check(&entry.title, &entry.owner, &entry.ladder)
                        .map_err(|error| damaged(format!("stream {}: {error}", entry.name)))?;
                }
                stored.streams
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let streams = entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        Ok(Self { path, secret, streams })
    }

    /// The stream of that name.
    pub fn get(&self, name: &StreamName) -> Option<&StreamEntry> {
        self.streams.get(name)
    }

    /// Every stream, in order of name.
    pub fn list(&self) -> impl Iterator<Item = &StreamEntry> {
        self.streams.values()
    }

    /// The stream that `key` may publish. Takes the same time for every key: it is compared with
    /// that of each stream.
    pub fn by_key(&self, key: &StreamKey) -> Option<&StreamEntry> {
        let hash = self.secret.hash(key);
        let mut found = None;
        for entry in self.streams.values() {
            if entry.key_hash.matches(&hash) {
                found = Some(entry);
            }
        }
        found
    }

    /// Adds a stream made at `now_s` (seconds since the Unix epoch). Gives its key, which is
    /// shown once and cannot be read again.
    ///
    /// # Errors
    /// When a field is bad, the name is taken, the store is full, or it cannot be written.
    pub fn add(&mut self, new: NewStream, now_s: u64) -> Result<StreamKey, StoreError> {
        let title = new.title.unwrap_or_else(|| new.name.to_string());
        let owner = new.owner.unwrap_or_else(|| DEFAULT_OWNER.to_owned());
        check(&title, &owner, &new.ladder)?;
        choice::check_all(&new.ladder, &new.qualities)
            .map_err(|error| StoreError::Field { field: "qualities", why: error.to_string() })?;
        // Only here, not in every reading of the list: files come and go.
        new.source.check()?;
        if self.streams.contains_key(&new.name) {
            return Err(StoreError::Exists(new.name));
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(StoreError::Full);
        }
        let key = StreamKey::random()?;
        let entry = StreamEntry {
            name: new.name.clone(),
            title,
            owner,
            source: new.source,
            ladder: new.ladder,
            repeat: new.repeat,
            qualities: new.qualities,
            key_hash: self.secret.hash(&key),
            created_at_s: now_s,
        };
        self.change(new.name, Some(entry))?;
        Ok(key)
    }

    /// Gives a stream a new key; the old one is worthless from now on. Whoever publishes with it
    /// is still connected: ending that is the caller's.
    ///
    /// # Errors
    /// When there is no such stream, or the store cannot be written.
    pub fn renew_key(&mut self, name: &StreamName) -> Result<StreamKey, StoreError> {
        let mut entry = self.known(name)?.clone();
        let key = StreamKey::random()?;
        entry.key_hash = self.secret.hash(&key);
        self.change(name.clone(), Some(entry))?;
        Ok(key)
    }

    /// Changes what was chosen for one quality of a stream whose session makes `made`. Checked here,
    /// where nobody else changes the store meanwhile: two changes may each be allowed and not both.
    ///
    /// # Errors
    /// When there is no such stream, the choice cannot be, or the store cannot be written.
    pub fn choose(
        &mut self,
        name: &StreamName,
        rendition: &RenditionId,
        change: QualityChoice,
        made: &[choice::Made],
    ) -> Result<(), StoreError> {
        let mut entry = self.known(name)?.clone();
        choice::Qualities { ladder: &entry.ladder, chosen: &entry.qualities, made }
            .check(rendition, change)?;
        let choice = entry.qualities.entry(rendition.clone()).or_default();
        *choice = choice.with(change);
        self.change(name.clone(), Some(entry))
    }

    /// Forgets a stream and its key.
    ///
    /// # Errors
    /// When there is no such stream, or the store cannot be written.
    pub fn remove(&mut self, name: &StreamName) -> Result<(), StoreError> {
        self.known(name)?;
        self.change(name.clone(), None)
    }

    fn known(&self, name: &StreamName) -> Result<&StreamEntry, StoreError> {
        self.streams.get(name).ok_or_else(|| StoreError::Unknown(name.clone()))
    }

    /// Puts `entry` in the place of `name`, on the disk and then in memory.
    fn change(&mut self, name: StreamName, entry: Option<StreamEntry>) -> Result<(), StoreError> {
        let mut streams = self.streams.clone();
        match entry {
            Some(entry) => streams.insert(name, entry),
            None => streams.remove(&name),
        };
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        let stored = StoredFile { version: VERSION, streams: streams.values().collect() };
        let mut text = serde_json::to_vec_pretty(&stored).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        disk::waiting(|| file::write_atomically(&self.path, &text)).map_err(io)?;
        self.streams = streams;
        Ok(())
    }
}

impl From<SourceError> for StoreError {
    fn from(error: SourceError) -> Self {
        Self::Field { field: "source", why: error.to_string() }
    }
}

fn default_source() -> SourceSpec {
    SourceSpec::Rtmp
}

fn default_ladder() -> Ladder {
    Ladder::Named(NamedLadder::Auto)
}

fn check(title: &str, owner: &str, ladder: &Ladder) -> Result<(), StoreError> {
    let text = |field, text: &str, max: usize| {
        let len = text.chars().count();
        let why = match len {
            0 => "it is empty".to_owned(),
            _ if len > max => format!("it has {len} characters, at most {max} are allowed"),
            _ if text.chars().any(char::is_control) => "it has control characters".to_owned(),
            _ => return Ok(()),
        };
        Err(StoreError::Field { field, why })
    };
    text("title", title, TITLE_CHARS_MAX)?;
    text("owner", owner, OWNER_CHARS_MAX)?;
    check_ladder(ladder).map_err(|why| StoreError::Field { field: "ladder", why })
}

fn check_ladder(ladder: &Ladder) -> Result<(), String> {
    let Ladder::Rungs(rungs) = ladder else { return Ok(()) };
    // Audio is a rendition as well: its ids are taken, and it counts.
    let audio = default_audio();
    let rungs_max = RENDITIONS_MAX - audio.len();
    if rungs.is_empty() || rungs.len() > rungs_max {
        return Err(format!("it has {} rungs, 1 to {rungs_max} are allowed", rungs.len()));
    }
    let mut ids = BTreeSet::new();
    for rung in rungs {
        let id = match rung {
            RungChoice::Preset(name) if name == SOURCE_ID => name.as_str(),
            RungChoice::Preset(name) => match preset_named(name) {
                Some(preset) => preset.id,
                None => return Err(format!("there is no preset named {name:?}")),
            },
            RungChoice::Own(rung) => {
                let even = rung.width % 2 == 0 && rung.height % 2 == 0;
                // The largest picture and rate that H.264 level 6.2 names.
                let size = (16..=8192).contains(&rung.width) && (16..=4320).contains(&rung.height);
                if !even || !size {
                    return Err(format!("{}: width and height are even, 16 to 8192x4320", rung.id));
                }
                if !(1..=120).contains(&rung.fps) || !(20..=240_000).contains(&rung.video_kbps) {
                    return Err(format!("{}: fps is 1 to 120, video_kbps 20 to 240000", rung.id));
                }
                rung.id.as_str()
            }
        };
        if audio.iter().any(|tier| tier.id.as_str() == id) {
            return Err(format!("the id {id} is taken by the sound: choose another"));
        }
        if !ids.insert(id) {
            return Err(format!("it has {id} twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn new(name: &str) -> NewStream {
        serde_json::from_str(&format!(r#"{{"name":"{name}"}}"#)).expect("a stream")
    }

    fn opened() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("an empty store");
        (dir, store)
    }

    #[test]
    fn streams_and_their_keys_survive_a_restart_and_the_key_is_not_in_the_file() {
        let (dir, mut store) = opened();
        let key = store.add(new("show"), 1_700_000_000).expect("added");
        let other = store.add(new("other"), 1_700_000_001).expect("added");
        let text = std::fs::read_to_string(dir.path().join(STREAMS_FILE)).expect("written");
        assert!(!text.contains(key.reveal()), "only a hash is stored");
        let store = Store::open(dir.path()).expect("read again");
        assert_eq!(store.by_key(&key).map(|e| e.name.as_str()), Some("show"));
        assert_eq!(store.by_key(&other).map(|e| e.name.as_str()), Some("other"));
        assert_eq!(store.by_key(&StreamKey::presented(String::new())), None);
        let entry = store.get(&"show".parse().expect("a name")).expect("there");
        assert_eq!((entry.owner.as_str(), entry.title.as_str()), (DEFAULT_OWNER, "show"));
        assert_eq!(entry.ladder, Ladder::Named(NamedLadder::Auto));
    }

    #[test]
    fn of_two_choices_that_may_not_both_be_the_second_is_refused_whatever_its_caller_saw() {
        let (_dir, mut store) = opened();
        let name: StreamName = "show".parse().expect("a name");
        store.add(new("show"), 0).expect("added");
        let id = |id: &str| id.parse::<RenditionId>().expect("an id");
        let made = |of: &str| choice::Made {
            id: id(of),
            kind: common::rendition::Kind::Video,
            failed: false,
        };
        // Both callers looked before either changed anything.
        let made = [made("720p"), made("480p")];
        let off = QualityChoice { enabled: Some(false), ..QualityChoice::default() };
        store.choose(&name, &id("720p"), off, &made).expect("another is left");
        let refused = store.choose(&name, &id("480p"), off, &made);
        assert!(
            matches!(refused, Err(StoreError::Choice(choice::ChoiceError::Last(_)))),
            "{refused:?}"
        );
        assert_eq!(store.get(&name).map(|entry| entry.qualities.len()), Some(1));
    }

    #[test]
    fn a_renewed_key_replaces_the_old_one_and_a_removed_stream_has_none() {
        let (_dir, mut store) = opened();
        let name: StreamName = "show".parse().expect("a name");
        let old = store.add(new("show"), 0).expect("added");
        let renewed = store.renew_key(&name).expect("there");
        assert!(store.by_key(&old).is_none());
        assert!(store.by_key(&renewed).is_some());
        store.remove(&name).expect("there");
        assert!(store.by_key(&renewed).is_none());
        assert!(matches!(store.remove(&name), Err(StoreError::Unknown(_))));
    }

    #[test]
    fn a_change_that_cannot_be_written_has_not_happened() {
        let (dir, mut store) = opened();
        store.add(new("first"), 0).expect("added");
        // A directory in the file's place makes the rename fail, for root as well.
        let path = dir.path().join(STREAMS_FILE);
        std::fs::remove_file(&path).expect("there");
        std::fs::create_dir(&path).expect("made");
        assert!(matches!(store.add(new("second"), 0), Err(StoreError::Io { .. })));
        assert_eq!(store.list().count(), 1);
        assert!(!dir.path().join("streams.json.new").exists(), "nothing is left behind");
    }

    #[test]
    fn a_damaged_file_is_one_clear_line() {
        let (dir, mut store) = opened();
        store.add(new("show"), 0).expect("added");
        let path = dir.path().join(STREAMS_FILE);
        let good = std::fs::read_to_string(&path).expect("written");
        let bad = [
            good[..good.len() / 2].to_owned(),
            String::new(),
            "[]".to_owned(),
            good.replace("\"show\"", "\"../show\""),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("\"auto\"", "[\"481p\"]"),
        ];
        for text in bad {
            std::fs::write(&path, &text).expect("ours");
            let line = Store::open(dir.path()).expect_err(&text).to_string();
            assert!(line.contains("streams.json is damaged"), "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn bad_fields_are_named() {
        let (_dir, mut store) = opened();
        let field = |store: &mut Store, json: &str| {
            let new: NewStream = serde_json::from_str(json).expect("its form is right");
            match store.add(new, 0) {
                Err(StoreError::Field { field, .. }) => field,
                other => panic!("{json}: {other:?}"),
            }
        };
        assert_eq!(field(&mut store, r#"{"name":"a","title":""}"#), "title");
        assert_eq!(field(&mut store, r#"{"name":"a","owner":"a\nb"}"#), "owner");
        for ladder in [r#"[]"#, r#"["481p"]"#, r#"["480p","480p"]"#, r#"["2160p60","4k60"]"#] {
            let json = format!(r#"{{"name":"a","ladder":{ladder}}}"#);
            assert_eq!(field(&mut store, &json), "ladder", "{ladder}");
        }
        let odd =
            r#"{"name":"a","ladder":[{"id":"x","width":65,"height":36,"fps":1,"video_kbps":50}]}"#;
        assert_eq!(field(&mut store, odd), "ladder");
        assert!(serde_json::from_str::<NewStream>(r#"{"name":"a","source":"http://x"}"#).is_err());
        assert!(serde_json::from_str::<NewStream>(r#"{"name":"a","colour":1}"#).is_err());
    }

    /// A stream with rungs of its own, of these ids.
    fn with_rungs(ids: impl Iterator<Item = String>) -> NewStream {
        let rung =
            |id| format!(r#"{{"id":"{id}","width":64,"height":36,"fps":10,"video_kbps":50}}"#);
        let rungs: Vec<_> = ids.map(rung).collect();
        let json = format!(r#"{{"name":"a","ladder":[{}]}}"#, rungs.join(","));
        serde_json::from_str(&json).expect("its form is right")
    }

    #[test]
    fn a_ladder_leaves_room_for_the_sound_and_its_id() {
        let (_dir, mut store) = opened();
        let refused = |store: &mut Store, new| store.add(new, 0).expect_err("refused").to_string();
        let taken = refused(&mut store, with_rungs(["audio".to_owned()].into_iter()));
        assert!(taken.starts_with("ladder: ") && taken.contains("audio"), "{taken}");
        let ids = |n: usize| with_rungs((0..n).map(|i| format!("r{i}")));
        let many = refused(&mut store, ids(RENDITIONS_MAX));
        assert!(many.starts_with("ladder: "), "{many}");
        store.add(ids(RENDITIONS_MAX - 1), 0).expect("with the sound it is as many as allowed");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_and_one_that_has_gone_spoils_no_start() {
        let (dir, mut store) = opened();
        let from = |path: &str| -> NewStream {
            serde_json::from_str(&format!(r#"{{"name":"a","source":"file:{path}"}}"#))
                .expect("its form is right")
        };
        for bad in ["show.mp4", "/dev/null", "/none/show.mp4"] {
            let line = store.add(from(bad), 0).expect_err(bad).to_string();
            assert!(line.starts_with("source: "), "{line}");
        }
        let show = dir.path().join("show.mp4");
        std::fs::write(&show, "x").expect("written");
        store.add(from(&show.display().to_string()), 0).expect("it is there");
        std::fs::remove_file(&show).expect("there");
        assert_eq!(Store::open(dir.path()).expect("opens").list().count(), 1);
    }

    #[test]
    fn names_are_taken_once_and_the_file_is_for_this_user_only() {
        let (dir, mut store) = opened();
        store.add(new("show"), 0).expect("added");
        assert!(matches!(store.add(new("show"), 0), Err(StoreError::Exists(_))));
        let file = std::fs::metadata(dir.path().join(STREAMS_FILE)).expect("written");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
