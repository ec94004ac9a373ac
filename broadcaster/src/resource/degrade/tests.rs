use proptest::prelude::*;

use super::*;
use crate::resource::quality::QualityChoice;

const BOTH: Switches = Switches { degradation: true, on_demand: true };

/// A model of a machine on which streams are encoded: what it gives, they get.
struct Model {
    controller: Controller,
    streams: Vec<StreamLoad>,
    /// What each quality really costs, in cores.
    costs: BTreeMap<(StreamName, RenditionId), f64>,
    cores: f64,
    /// What others use of it.
    outside: f64,
    now_ms: u64,
    /// When what was ordered takes effect.
    pending: Vec<(u64, Change)>,
    really: BTreeMap<(StreamName, RenditionId), (bool, Lowered)>,
}

fn id(text: &str) -> RenditionId {
    text.parse().expect("an id")
}

fn name(text: &str) -> StreamName {
    text.parse().expect("a name")
}

/// A quality of that height, at 30 frames per second.
fn quality(height: u32, watched: bool) -> QualityLoad {
    let width = height * 16 / 9;
    QualityLoad {
        id: id(&format!("{height}p")),
        quality: QualityChoice::default().decide((width, height)),
        encoded: true,
        pixel_rate: u64::from(width) * u64::from(height) * 30,
        pixels: u64::from(width) * u64::from(height),
        failed: false,
        watched,
        memory_bytes: 1 << 20,
    }
}

fn stream(of: &str, qualities: Vec<QualityLoad>) -> StreamLoad {
    StreamLoad { name: name(of), live: true, speed: Some(1.0), lag_ms: 50, cores: 0.0, qualities }
}

impl Model {
    fn new(cores: f64, streams: Vec<StreamLoad>) -> Self {
        let costs = streams.iter().flat_map(|s| {
            s.qualities.iter().map(|q| {
                let cores = if q.encoded { q.pixel_rate as f64 * CORES_PER_PIXEL } else { 0.0 };
                ((s.name.clone(), q.id.clone()), cores)
            })
        });
        Self {
            controller: Controller::default(),
            costs: costs.collect(),
            streams,
            cores,
            outside: 0.0,
            now_ms: 0,
            pending: Vec::new(),
            really: BTreeMap::new(),
        }
    }

    fn demand(&self, stream: &StreamLoad) -> f64 {
        let of = |q: &QualityLoad| {
            let key = (stream.name.clone(), q.id.clone());
            let (on, lowered) = self.really.get(&key).copied().unwrap_or((true, Lowered::No));
            if on { self.costs[&key] * lowered.factor() } else { 0.0 }
        };
        stream.qualities.iter().map(of).sum()
    }

    /// One second. Gives what was changed.
    fn second(&mut self) -> Vec<Change> {
        self.now_ms += 1_000;
        let now_ms = self.now_ms;
        for (_, change) in self.pending.extract_if(.., |(at, _)| *at <= now_ms) {
            let key = (change.stream, change.rendition);
            self.really.insert(key, (change.on, change.lowered));
        }
        let wanted: f64 = self.streams.iter().map(|s| self.demand(s)).sum();
        // Others get what they want: the worst for us.
        let ours = (self.cores - self.outside).max(0.05).min(wanted);
        let demands: Vec<f64> = self.streams.iter().map(|s| self.demand(s)).collect();
        for (stream, demand) in self.streams.iter_mut().zip(demands) {
            let share = if wanted > 0.0 { ours / wanted } else { 1.0 };
            stream.cores = demand * share;
            stream.speed = Some(share.min(1.0));
        }
        let machine = Machine {
            cores: self.cores,
            free_cores: (self.cores - self.outside - ours).max(0.0),
            memory_bytes: 1 << 30,
            memory_limit_bytes: 8 << 30,
            uploads_behind: false,
        };
        let changes = self.controller.tick(self.now_ms, BOTH, machine, &self.streams);
        for change in &changes {
            self.pending.push((self.now_ms + 2_000, change.clone()));
        }
        for stream in &self.streams {
            assert!(self.controller.made(stream).next().is_some(), "the last quality went");
        }
        changes
    }

    fn seconds(&mut self, n: usize) -> Vec<Change> {
        (0..n).flat_map(|_| self.second()).collect()
    }

    fn is_on(&self, of: &str, quality: &str) -> bool {
        self.controller.ordered(&name(of), &id(quality)).0
    }

    fn is_real_time(&self) -> bool {
        self.streams.iter().all(|s| s.speed.is_none_or(|speed| speed >= 0.999))
    }
}

fn ladder(watched: &[u32]) -> Vec<QualityLoad> {
    [1080, 720, 480, 360].into_iter().map(|h| quality(h, watched.contains(&h))).collect()
}

#[test]
fn a_ladder_twice_too_heavy_runs_at_real_time_within_15_seconds() {
    for watched in [&[][..], &[1080], &[360], &[1080, 720, 480, 360]] {
        let mut model = Model::new(0.7, vec![stream("a", ladder(watched))]);
        model.seconds(15);
        assert!(model.is_real_time(), "{watched:?}: {:?}", model.streams[0].speed);
        assert!(model.seconds(300).is_empty(), "{watched:?}: it stays so");
    }
}

#[test]
fn what_nobody_watches_goes_first_and_low_priority_next() {
    let mut model = Model::new(1.0, vec![stream("a", ladder(&[360]))]);
    model.seconds(15);
    assert!(model.is_on("a", "360p"), "somebody watches it");
    assert!(!model.is_on("a", "480p"));
    let mut model = Model::new(1.1, vec![stream("a", ladder(&[1080, 720, 480, 360]))]);
    model.seconds(15);
    assert!(model.is_on("a", "1080p"), "it has the highest priority");
    assert!(!model.is_on("a", "720p"), "it does not fit beside");
}

#[test]
fn when_the_load_ends_everything_is_back_within_a_minute() {
    let mut model = Model::new(2.0, vec![stream("a", ladder(&[720]))]);
    assert!(model.seconds(30).is_empty(), "all fits");
    model.outside = 1.6;
    let gone = model.seconds(60);
    assert!(!gone.is_empty() && model.is_real_time());
    assert!(gone[0].reason.contains("× real time"), "{}", gone[0].reason);
    model.outside = 0.0;
    model.seconds(60);
    assert!(ladder(&[]).iter().all(|q| model.is_on("a", q.id.as_str())));
    assert!(model.is_real_time());
}

#[test]
fn the_last_quality_is_lowered_and_raised_again() {
    let mut model = Model::new(2.0, vec![stream("a", vec![quality(1080, true)])]);
    model.seconds(10);
    model.outside = 1.5;
    let changes = model.seconds(20);
    assert!(changes.iter().all(|c| c.on) && model.is_real_time(), "{changes:?}");
    assert_ne!(model.controller.ordered(&name("a"), &id("1080p")).1, Lowered::No);
    model.outside = 0.0;
    model.seconds(120);
    assert_eq!(model.controller.ordered(&name("a"), &id("1080p")), (true, Lowered::No));
}

#[test]
fn with_source_passing_through_everything_encoded_may_go() {
    let source = QualityLoad { id: id("source"), encoded: false, ..quality(1080, true) };
    let mut model = Model::new(2.0, vec![stream("a", vec![source, quality(720, true)])]);
    model.outside = 1.99;
    model.seconds(15);
    assert!(model.is_on("a", "source") && !model.is_on("a", "720p"));
}

#[test]
fn a_short_pause_of_the_machine_changes_nothing() {
    let mut model = Model::new(2.0, vec![stream("a", ladder(&[720]))]);
    for _ in 0..50 {
        model.outside = 1.9;
        assert!(model.seconds(2).is_empty());
        model.outside = 0.0;
        assert!(model.seconds(2).is_empty());
    }
}

#[test]
fn on_demand_qualities_are_made_while_somebody_watches() {
    let mut qualities = ladder(&[720]);
    for quality in &mut qualities {
        quality.quality.encode = Encode::OnDemand;
    }
    let mut model = Model::new(8.0, vec![stream("a", qualities)]);
    let changes = model.seconds(25);
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(changes.iter().all(|c| !c.on && !c.by_load));
    model.streams[0].qualities[0].watched = true;
    assert_eq!(model.second().len(), 1, "1080p is asked for");
    model.streams[0].qualities[1].watched = false;
    model.seconds(25);
    assert!(model.is_on("a", "1080p") && !model.is_on("a", "720p"));
    model.streams[0].qualities[0].watched = false;
    model.seconds(60);
    assert!(model.is_on("a", "1080p"), "one stays");
}

#[test]
fn the_operator_is_obeyed_at_once() {
    let mut model = Model::new(8.0, vec![stream("a", ladder(&[]))]);
    model.streams[0].qualities[1].quality.enabled = false;
    let changes = model.second();
    assert!(matches!(&changes[..], [c] if c.rendition == id("720p") && !c.on && !c.by_load));
    model.streams[0].qualities[1].quality.enabled = true;
    assert!(matches!(&model.second()[..], [c] if c.on));
}

#[test]
fn what_was_paused_for_load_stays_so_when_the_operator_switches_it_off_and_on() {
    let mut model = Model::new(0.7, vec![stream("a", ladder(&[]))]);
    model.seconds(15);
    let paused = (0..4).find(|i| {
        let id = model.streams[0].qualities[*i].id.clone();
        !model.is_on("a", id.as_str())
    });
    let i = paused.expect("one had to go");
    let id = model.streams[0].qualities[i].id.clone();
    let why = model.controller.reason(&name("a"), &id);
    model.streams[0].qualities[i].quality.enabled = false;
    model.seconds(30);
    assert!(model.controller.reason(&name("a"), &id).is_some_and(|r| r.contains("operator")));
    model.streams[0].qualities[i].quality.enabled = true;
    let changes = model.seconds(30);
    assert!(!model.is_on("a", id.as_str()) && changes.is_empty(), "{changes:?}");
    assert_eq!(model.controller.reason(&name("a"), &id), why);
    assert!(model.is_real_time());
    model.cores = 8.0;
    model.seconds(120);
    assert!(model.is_on("a", id.as_str()), "with room for it, it comes back");
}

#[test]
fn with_free_cores_only_the_stream_that_is_slow_by_itself_is_stripped() {
    let mut streams = vec![stream("fine", ladder(&[])), stream("slow", ladder(&[]))];
    for stream in &mut streams {
        stream.cores = 1.0;
    }
    let machine = Machine { cores: 16.0, free_cores: 14.0, ..Machine::default() };
    let mut controller = Controller::default();
    let mut changes = Vec::new();
    for second in 1..=60 {
        streams[1].speed = Some(0.6);
        changes.extend(controller.tick(second * 1_000, BOTH, machine, &streams));
    }
    assert!(!changes.is_empty() && changes.iter().all(|c| c.stream == name("slow")), "{changes:?}");
    assert!(controller.made(&streams[0]).count() == 4 && controller.made(&streams[1]).count() >= 1);
}

/// Runs a stream whose qualities hold `media_mb` each while they are made, with `other_mb` used
/// beside, for ten minutes. Gives what changed by load.
fn ten_minutes_of_memory(media_mb: u64, other_mb: u64, limit_mb: u64) -> Vec<Change> {
    let mut streams = vec![stream("a", ladder(&[1080]))];
    let mut controller = Controller::default();
    let mut changes = Vec::new();
    for second in 1..=600 {
        for i in 0..streams[0].qualities.len() {
            let id = streams[0].qualities[i].id.clone();
            let on = controller.ordered(&name("a"), &id).0;
            let held = &mut streams[0].qualities[i].memory_bytes;
            // Ten seconds to fill and to drain.
            let step = (media_mb << 20) / 10;
            *held = if on { (*held + step).min(step * 10) } else { held.saturating_sub(step) };
        }
        let held: u64 = streams[0].qualities.iter().map(|q| q.memory_bytes).sum();
        let machine = Machine {
            cores: 8.0,
            free_cores: 6.0,
            memory_bytes: held + (other_mb << 20),
            memory_limit_bytes: limit_mb << 20,
            uploads_behind: false,
        };
        changes.extend(controller.tick(second * 1_000, BOTH, machine, &streams));
    }
    changes
}

#[test]
fn a_quality_just_above_its_budget_is_paused_once_and_not_tried_over_and_over() {
    // 360p may hold 100 MB; the others more.
    let changes = ten_minutes_of_memory(101, 0, 64_000);
    let of = |c: &Change| (c.rendition.to_string(), c.on);
    let over: Vec<_> = changes.iter().map(of).collect();
    assert_eq!(over, [("480p".to_owned(), false), ("360p".to_owned(), false)]);
}

#[test]
fn memory_just_above_its_limit_pauses_once_and_not_over_and_over() {
    // Four qualities of 95 MB beside 545 MB are 925 of 1000: one too many. Without it there is some
    // room, but not for the media that it would hold again.
    let changes = ten_minutes_of_memory(95, 545, 1_000);
    assert!(!changes.is_empty() && changes.iter().all(|c| !c.on), "{changes:?}");
}

#[test]
fn too_little_memory_takes_the_least_and_gives_it_back() {
    let streams = vec![stream("a", ladder(&[1080]))];
    let mut controller = Controller::default();
    let machine = |used_mb: u64| Machine {
        cores: 8.0,
        free_cores: 6.0,
        memory_bytes: used_mb << 20,
        memory_limit_bytes: 1000 << 20,
        uploads_behind: false,
    };
    assert!(controller.tick(1_000, BOTH, machine(950), &streams).is_empty(), "once is no reason");
    let changes = controller.tick(2_000, BOTH, machine(950), &streams);
    assert!(!changes.is_empty() && changes.iter().all(|c| c.rendition != id("1080p")));
    assert!(changes[0].reason.contains("950 of 1000 MB"), "{}", changes[0].reason);
    assert!(controller.background_paused(2_000, machine(950)));
    let back: Vec<_> =
        (3..70).flat_map(|s| controller.tick(s * 1_000, BOTH, machine(500), &streams)).collect();
    assert!(!back.is_empty() && back.iter().all(|c| c.on));
}

#[test]
fn a_quality_above_its_own_budget_goes_unless_it_is_the_last() {
    let mut qualities = ladder(&[]);
    qualities[3].memory_bytes = 200 << 20;
    let mut model = Model::new(8.0, vec![stream("a", qualities)]);
    let changes = model.seconds(15);
    assert!(
        matches!(&changes[..], [c] if c.rendition == id("360p") && c.reason.contains("budget"))
    );
    let alone = QualityLoad { memory_bytes: 200 << 20, ..quality(360, true) };
    assert!(Model::new(8.0, vec![stream("a", vec![alone])]).seconds(30).is_empty());
}

#[test]
fn switching_degradation_off_gives_everything_back() {
    let mut model = Model::new(0.7, vec![stream("a", ladder(&[]))]);
    model.seconds(15);
    let off = Switches { degradation: false, ..BOTH };
    let machine = Machine { cores: 0.7, ..Machine::default() };
    let changes = model.controller.tick(99_000, off, machine, &model.streams);
    assert!(!changes.is_empty() && changes.iter().all(|c| c.on));
    assert!(model.controller.tick(100_000, off, machine, &model.streams).is_empty());
}

proptest! {
    #[test]
    fn noise_never_makes_more_than_a_change_a_minute(
        bursts in proptest::collection::vec((1usize..90, 1usize..90, 0.3f64..2.0), 40),
        watched in proptest::collection::vec(any::<bool>(), 4),
    ) {
        let mut qualities = ladder(&[]);
        for (quality, watched) in qualities.iter_mut().zip(watched) {
            quality.watched = watched;
        }
        let mut model = Model::new(2.0, vec![stream("a", qualities)]);
        let (mut changes, mut left) = (0usize, 20 * 60usize);
        'noise: for (calm, load, outside) in bursts {
            for (level, seconds) in [(0.0, calm), (outside, load)] {
                model.outside = level;
                for _ in 0..seconds {
                    changes += usize::from(model.second().iter().any(|c| c.by_load));
                    left -= 1;
                    if left == 0 {
                        break 'noise;
                    }
                }
            }
        }
        prop_assert!(changes <= 20, "{changes} changes");
        prop_assert_eq!(model.controller.changes_total(), changes as u64);
        model.outside = 0.0;
        model.seconds(700);
        for quality in &model.streams[0].qualities {
            prop_assert!(model.is_on("a", quality.id.as_str()), "{} is back", quality.id);
        }
    }

    #[test]
    fn several_streams_each_keep_one_and_run_at_real_time(
        cores in 0.4f64..3.0, watched in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let mut streams: Vec<_> = ["a", "b", "c"].map(|n| stream(n, ladder(&[]))).into();
        let all = streams.iter_mut().flat_map(|s| &mut s.qualities);
        for (quality, watched) in all.zip(watched) {
            quality.watched = watched;
        }
        let mut model = Model::new(cores, streams);
        model.seconds(60);
        prop_assert!(model.is_real_time());
    }
}
