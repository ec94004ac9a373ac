//! The registry with real processes in the place of workers: scripts that read and say nothing.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::rendition::{NamedLadder, RungChoice};

use super::*;
use crate::config::Settings;
use crate::resource::limits::{LimitsChange, StreamLimits};
use crate::store::spool::SpoolThread;
use crate::worker::encoder::Effort;
use crate::worker::ladder::TrialPoint;

const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    dir: tempfile::TempDir,
    registry: Arc<Registry>,
    spool: Spool,
    spool_thread: SpoolThread,
}

impl Rig {
    fn new(per_owner_max: usize, streams_max: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A worker that takes everything and makes nothing.
        let script = "#!/bin/sh\nexec cat > /dev/null\n";
        let program = dir.path().join("worker.sh");
        // Written by another process, or a fork elsewhere in this one could hold it open for
        // writing, which forbids to run it.
        let status = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$1\" > \"$2\"", "sh", script])
            .arg(&program)
            .status()
            .unwrap();
        assert!(status.success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self::open(dir, per_owner_max, streams_max)
    }

    fn open(dir: tempfile::TempDir, per_owner_max: usize, streams_max: usize) -> Self {
        let mut config = Settings::default().resolve(None).unwrap();
        config.limits.streams =
            StreamLimits { per_user_max: per_owner_max, global_max: streams_max };
        let (spool, spool_thread) = Spool::open(dir.path().join("spool"), 1 << 20).unwrap();
        let registry = Registry::open(
            config,
            dir.path().join("worker.sh"),
            Arc::new(Signer::from_seed([7; 32])),
            spool.clone(),
            Arc::new(Origin::default()),
            Store::open(dir.path()).unwrap(),
            Measured::default(),
        )
        .unwrap();
        Self { dir, registry, spool, spool_thread }
    }

    async fn reopened(self, per_owner_max: usize, streams_max: usize) -> Self {
        self.registry.shut_down().await;
        drop(self.registry);
        self.spool_thread.stop(&self.spool);
        Self::open(self.dir, per_owner_max, streams_max)
    }

    async fn add(&self, name: &str, owner: &str) -> Result<StreamKey, RegistryError> {
        self.registry
            .create(NewStream {
                name: self::name(name),
                title: None,
                owner: Some(owner.to_owned()),
                source: SourceSpec::Rtmp,
                ladder: Ladder::Named(NamedLadder::Passthrough),
                repeat: false,
                qualities: Default::default(),
            })
            .await
    }

    async fn publish(&self, key: &StreamKey) -> Result<PublishSlot, Refusal> {
        let peer = "192.0.2.1:5000".parse().unwrap();
        tokio::time::timeout(PATIENCE, self.registry.authorize(key, peer)).await.unwrap()
    }

    fn state(&self, name: &str) -> State {
        self.registry.get(&self::name(name)).unwrap().1.status().state
    }
}

fn name(name: &str) -> StreamName {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_stream_too_many_is_refused_in_the_same_words_by_the_api_and_by_rtmp() {
    let rig = Rig::new(2, 3);
    rig.add("a1", "a").await.unwrap();
    let key = rig.add("a2", "a").await.unwrap();
    let refused = rig.add("a3", "a").await.unwrap_err();
    assert_eq!(refused.to_string(), "Maximum 2 concurrent streams reached");
    assert!(rig.registry.get(&name("a3")).is_err(), "nothing is made");
    rig.registry.stop(&name("a2")).await.unwrap();
    assert_eq!(rig.state("a2"), State::Ended);
    rig.add("b1", "b").await.unwrap();
    rig.add("b2", "b").await.unwrap();
    let refused = rig.publish(&key).await.unwrap_err();
    assert_eq!(refused.to_string(), "Maximum 3 concurrent streams reached");
    assert!(matches!(
        rig.registry.start(&name("a2")).await,
        Err(RegistryError::Limit(LimitReached { max: 3, running: 3 }))
    ));
    rig.registry.remove(&name("b1")).await.unwrap();
    rig.registry.start(&name("a2")).await.unwrap();
    assert_eq!(rig.state("a2"), State::Waiting);
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn a_stream_that_does_not_fit_beside_those_that_run_is_refused_with_numbers() {
    let rig = Rig::new(9, 9);
    let own = |name: &str, rung: &str| NewStream {
        name: self::name(name),
        title: None,
        owner: None,
        source: SourceSpec::Test,
        ladder: Ladder::Rungs(vec![RungChoice::Preset(rung.to_owned())]),
        repeat: false,
        qualities: Default::default(),
    };
    let point = TrialPoint { preset: "720p".into(), effort: Effort::Superfast, realtime: 0.7 };
    let trial = TrialResult { cores: 2, points: vec![point] };
    rig.registry.trial.send_replace(Some(trial));
    rig.registry.create(own("at-start", "720p")).await.unwrap();
    rig.registry.create(own("at-start-too", "720p")).await.unwrap();
    rig.registry.stop(&name("at-start-too")).await.unwrap();
    // No figures of the machine: what is expected of those that run counts.
    rig.registry.heed(Arc::default());
    let refused = rig.registry.create(own("late", "720p")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "needs 1.5 cores, 0.5 of 2.0 are free: stop a stream or choose a smaller ladder"
    );
    assert!(rig.registry.get(&name("late")).is_err(), "nothing is made");
    assert!(matches!(
        rig.registry.start(&name("at-start-too")).await,
        Err(RegistryError::Capacity(_))
    ));
    rig.registry.start(&name("at-start")).await.unwrap();
    assert_eq!(rig.registry.counts().capacity_refusals.get(), 2);

    let mut pushed = own("pushed", "720p");
    pushed.source = SourceSpec::Rtmp;
    let key = rig.registry.create(pushed).await.unwrap();
    let refused = rig.publish(&key).await.unwrap_err().to_string();
    assert!(refused.contains("CAPACITY_EXCEEDED: needs"), "{refused}");
    let passing = rig.add("passing", "a").await.unwrap();
    assert!(rig.publish(&passing).await.is_ok(), "it costs next to nothing");

    let change = LimitsChange { admission: Some(false), ..LimitsChange::default() };
    rig.registry.limits().change(&change).unwrap();
    rig.registry.create(own("late", "720p")).await.unwrap();
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn stopping_and_starting_in_a_hurry_neither_loses_nor_keeps_a_seat() {
    let rig = Rig::new(1, 1);
    rig.add("a", "a").await.unwrap();
    for _ in 0..50 {
        rig.registry.stop(&name("a")).await.unwrap();
        rig.registry.start(&name("a")).await.unwrap();
    }
    assert!(rig.add("b", "b").await.is_err(), "a is on");
    rig.registry.stop(&name("a")).await.unwrap();
    rig.add("b", "b").await.unwrap();
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn a_key_opens_its_own_stream_and_no_other() {
    let rig = Rig::new(5, 20);
    let key = rig.add("show", "a").await.unwrap();
    rig.add("other", "a").await.unwrap();
    let slot = rig.publish(&key).await.unwrap();
    assert_eq!(slot.stream, name("show"));
    let wrong = StreamKey::presented("wrong".to_owned());
    assert_eq!(rig.publish(&wrong).await.unwrap_err(), Refusal::UnknownKey);

    let new_key = rig.registry.renew_key(&name("show")).await.unwrap();
    let mut cancel = slot.cancel.clone();
    tokio::time::timeout(PATIENCE, cancel.changed()).await.unwrap().unwrap();
    assert_eq!(*cancel.borrow(), Some(Refusal::KeyReplaced));
    drop(slot);
    assert_eq!(rig.publish(&key).await.unwrap_err(), Refusal::UnknownKey);
    assert!(rig.publish(&new_key).await.is_ok());
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn once_it_closes_nothing_new_is_taken_and_encoders_are_told_why() {
    let rig = Rig::new(5, 20);
    let key = rig.add("show", "a").await.unwrap();
    rig.registry.close();
    let show = name("show");
    for refused in [
        rig.add("other", "a").await.map(drop),
        rig.registry.start(&show).await,
        rig.registry.renew_key(&show).await.map(drop),
        rig.registry.remove(&show).await,
    ] {
        assert!(matches!(refused, Err(RegistryError::ShuttingDown)), "{refused:?}");
    }
    assert_eq!(rig.publish(&key).await.unwrap_err(), Refusal::Restarting);
    assert_eq!(rig.registry.list().len(), 1, "what there is can be seen to the end");
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn a_removed_stream_ends_its_encoder_and_its_worker_and_frees_its_name() {
    let rig = Rig::new(5, 20);
    let key = rig.add("show", "a").await.unwrap();
    let slot = rig.publish(&key).await.unwrap();
    rig.registry.remove(&name("show")).await.unwrap();
    assert!(slot.media.is_closed(), "its task has ended");
    assert!(matches!(rig.registry.get(&name("show")), Err(RegistryError::Unknown(_))));
    assert_eq!(rig.publish(&key).await.unwrap_err(), Refusal::UnknownKey);
    let other_key = rig.add("show", "b").await.unwrap();
    assert!(rig.publish(&other_key).await.is_ok());
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn a_stream_whose_task_panics_is_taken_up_again_with_its_seat_its_key_and_its_orders() {
    let rig = Rig::new(1, 1);
    let key = rig.add("show", "a").await.unwrap();
    let paused =
        vec![Order { rendition: "source".parse().unwrap(), on: false, lowered: Lowered::No }];
    assert!(rig.registry.get(&name("show")).unwrap().1.order(paused.clone()));
    for panics in 1..=2 {
        let (_, before) = rig.registry.get(&name("show")).unwrap();
        before.asks.send(Ask::Panic).await.unwrap();
        let task = lock(&before.task).take().unwrap();
        tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        let (_, after) = rig.registry.get(&name("show")).unwrap();
        assert!(!Arc::ptr_eq(&before, &after));
        assert_eq!(*lock(&after.orders), paused, "what is paused stays so");
        assert_eq!(
            (rig.state("show"), rig.registry.counts().task_panics.get()),
            (State::Waiting, panics)
        );
        assert!(rig.add("other", "a").await.is_err(), "its seat is taken");
    }
    assert!(rig.publish(&key).await.is_ok());
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn streams_and_whether_they_are_on_survive_a_restart_even_beyond_lowered_limits() {
    let rig = Rig::new(5, 20);
    for name in ["on", "also-on", "off"] {
        rig.add(name, "a").await.unwrap();
    }
    rig.registry.stop(&name("off")).await.unwrap();

    let rig = rig.reopened(1, 1).await;
    assert_eq!(
        ["on", "also-on", "off"].map(|name| rig.state(name)),
        [State::Waiting, State::Waiting, State::Ended]
    );
    assert!(rig.registry.start(&name("off")).await.is_err());
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn a_stream_holds_its_encoders_while_its_source_or_its_worker_is_away() {
    let rig = Rig::new(5, 20);
    rig.add("show", "a").await.unwrap();
    let status = rig.registry.get(&name("show")).unwrap().1.status();
    let made = |id| crate::worker::ipc::MadeRendition {
        encoder: "nvh264enc".into(),
        ..crate::testing::made(id)
    };
    let gone = |rendition, failed| {
        (rendition, crate::worker::ipc::Withdrawn { rendition, note: String::new(), failed })
    };
    let held = |state| {
        let renditions = ["made", "paused", "failed"].map(made).to_vec();
        let withdrawn = [gone(1, false), gone(2, true)].into();
        let held = task::holding(Status { state, renditions, withdrawn, ..status.clone() });
        held.iter().map(|made| made.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(held(State::Live), ["made", "paused"]);
    assert_eq!(held(State::Grace), ["made", "paused"]);
    for over in [State::Waiting, State::Failed, State::Ended] {
        assert!(held(over).is_empty(), "{over:?}: these are of an earlier broadcast");
    }
    rig.registry.shut_down().await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_taken_up_leaves_its_name_free() {
    let rig = Rig::new(5, 20);
    let folder = rig.spool.stream_dir(&name("show"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("numbers.json"), "not numbers").unwrap();
    assert!(matches!(rig.add("show", "a").await, Err(RegistryError::Feed(_))));
    assert!(matches!(rig.registry.get(&name("show")), Err(RegistryError::Unknown(_))));
    fs::remove_file(folder.join("numbers.json")).unwrap();
    rig.add("show", "a").await.unwrap();
    rig.registry.shut_down().await;
}
