//! Which rungs a source gets, and at which size and rate. Pure.

use common::rendition::{
    LADDER_PRESETS, Ladder, NamedLadder, PRESETS, Rung, RungChoice, SOURCE_ID, preset_named,
};
use serde::{Deserialize, Serialize};

use super::encoder::Effort;
use super::h264::reduce;

/// The picture that a source sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Shape of a pixel, across and down.
    pub pixel_aspect: (u32, u32),
    /// Frames per second, when known.
    pub fps: Option<(u32, u32)>,
    /// Whether it is H.264 that may be passed through.
    pub passable: bool,
}

/// A rung as it will be made: its size fits the source's shape, its rate is not above the
/// source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRung {
    /// What was asked for.
    pub rung: Rung,
    /// Real width, even.
    pub width: u32,
    /// Real height, even.
    pub height: u32,
    /// Real frame rate, when the source's is known.
    pub fps: Option<(u32, u32)>,
    /// The rate to thin the source to; `None` keeps every frame.
    pub thin_to: Option<(u32, u32)>,
}

/// The video renditions to make of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whether the source is passed through.
    pub source: bool,
    /// What to encode, largest first.
    pub rungs: Vec<PlannedRung>,
    /// How much effort the encoders spend.
    pub effort: Effort,
    /// Decisions to tell the operator.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether nothing is encoded: video, and audio with it, go through as they come.
    pub fn passes_only(&self) -> bool {
        self.source && self.rungs.is_empty()
    }
}

/// Whether a ladder asks for the source as it is sent.
pub fn wants_source(ladder: &Ladder) -> bool {
    match ladder {
        Ladder::Named(named) => *named == NamedLadder::Passthrough,
        Ladder::Rungs(choices) => {
            choices.iter().any(|c| matches!(c, RungChoice::Preset(name) if name == SOURCE_ID))
        }
    }
}

/// Whether a ladder needs a trial.
pub fn wants_trial(ladder: &Ladder) -> bool {
    matches!(ladder, Ladder::Named(NamedLadder::Auto))
}

/// Why a ladder cannot be made, in one line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// A name that is no preset.
    #[error("unknown rendition '{0}': use one of {names}, or a rung with id, width, height, fps and video_kbps", names = preset_names())]
    Unknown(String),
    /// Nothing in it.
    #[error("the ladder is empty: name at least one rendition, such as 480p")]
    Empty,
    /// Two rungs of one id.
    #[error("the ladder names '{0}' twice: every rendition needs its own id")]
    Twice(String),
    /// A rung with an impossible number.
    #[error(
        "rendition '{0}' needs a width and height of at least 16, fps of 1 to 240 and video_kbps of at least 1"
    )]
    Rung(String),
    /// Passthrough of something that is not H.264.
    #[error(
        "only H.264 can be passed through and this source is something else: choose a ladder with rungs, such as [\"720p\", \"480p\"]"
    )]
    NotPassable,
}

fn preset_names() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|p| p.id).chain([SOURCE_ID]).collect();
    names.join(", ")
}

/// What a short trial measured on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Processors that this process may use.
    pub cores: u32,
    /// What was measured, per size and effort.
    pub points: Vec<TrialPoint>,
}

/// One measurement of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialPoint {
    /// The preset that was encoded.
    pub preset: String,
    /// With how much effort.
    pub effort: Effort,
    /// How many times faster than real time one core encodes it.
    pub realtime: f64,
}

/// Share of the processors that encoding may use; the rest is for decoding, serving, peers and
/// whatever else the machine does.
const CORES_SHARE: f64 = 0.65;

/// A source this little smaller than a rung still fills it, at the source's size.
const NEARLY: f64 = 1.1;

/// Plans the renditions of a source.
///
/// # Errors
/// When the ladder cannot be made of any source or not of this one.
pub fn plan(
    ladder: &Ladder,
    picture: Picture,
    trial: Option<&TrialResult>,
) -> Result<Plan, LadderError> {
    let mut notes = Vec::new();
    let mut effort = Effort::default();
    let (mut source, rungs) = match ladder {
        Ladder::Named(NamedLadder::Passthrough) => (true, Vec::new()),
        Ladder::Named(NamedLadder::Auto) => {
            let (picked, pick_effort, note) = pick(picture, trial);
            effort = pick_effort;
            notes.push(note);
            (false, picked)
        }
        Ladder::Rungs(choices) => resolve(choices)?,
    };
    if source && !picture.passable {
        if rungs.is_empty() {
            return Err(LadderError::NotPassable);
        }
        source = false;
        notes.push("'source' is left out: only H.264 can be passed through".to_owned());
    }
    let (fit, too_large): (Vec<Rung>, Vec<Rung>) =
        rungs.into_iter().partition(|rung| scale(rung, picture) <= NEARLY);
    let mut rungs: Vec<PlannedRung> = fit.into_iter().map(|r| planned(r, picture)).collect();
    for rung in &too_large {
        notes.push(format!(
            "'{}' is left out: {}x{} is larger than the source's {}x{}",
            rung.id, rung.width, rung.height, picture.width, picture.height
        ));
    }
    if rungs.is_empty() && !source {
        // Better one rendition at the source's size than none.
        let smallest =
            too_large.into_iter().min_by_key(|r| u64::from(r.width) * u64::from(r.height));
        let rung = smallest.ok_or(LadderError::Empty)?;
        notes.push(format!("'{}' is made at the source's size, since no rung is smaller", rung.id));
        rungs.push(planned(rung, picture));
    }
    rungs.sort_by_key(|r| {
        std::cmp::Reverse((u64::from(r.width) * u64::from(r.height), r.rung.video_kbps))
    });
    Ok(Plan { source, rungs, effort, notes })
}

fn resolve(choices: &[RungChoice]) -> Result<(bool, Vec<Rung>), LadderError> {
    let (mut source, mut rungs) = (false, Vec::<Rung>::new());
    for choice in choices {
        let rung = match choice {
            RungChoice::Preset(name) if name == SOURCE_ID => {
                source = true;
                continue;
            }
            RungChoice::Preset(name) => {
                preset_named(name).ok_or_else(|| LadderError::Unknown(name.clone()))?.rung()
            }
            RungChoice::Own(rung) => rung.clone(),
        };
        let sides = rung.width.min(rung.height) >= 16 && rung.width.max(rung.height) <= 16_384;
        if !sides || !(1..=240).contains(&rung.fps) || !(1..=500_000).contains(&rung.video_kbps) {
            return Err(LadderError::Rung(rung.id.to_string()));
        }
        if rung.id.as_str() == SOURCE_ID || rungs.iter().any(|r| r.id == rung.id) {
            return Err(LadderError::Twice(rung.id.to_string()));
        }
        rungs.push(rung);
    }
    if !source && rungs.is_empty() {
        return Err(LadderError::Empty);
    }
    Ok((source, rungs))
}

/// The source as displayed: pixels made square by widening or narrowing it.
fn display(picture: Picture) -> (f64, f64) {
    let aspect = f64::from(picture.pixel_aspect.0) / f64::from(picture.pixel_aspect.1.max(1));
    (f64::from(picture.width) * aspect, f64::from(picture.height))
}

/// A rung's box, turned when the source is portrait: `720p` of a phone held upright is 720x1280.
fn turned(rung: &Rung, picture: Picture) -> (f64, f64) {
    let (width, height) = display(picture);
    let (w, h) = (f64::from(rung.width), f64::from(rung.height));
    if height > width { (w.min(h), w.max(h)) } else { (w, h) }
}

/// How much the source must grow to touch the rung's box from inside.
fn scale(rung: &Rung, picture: Picture) -> f64 {
    let ((width, height), (w, h)) = (display(picture), turned(rung, picture));
    (w / width.max(1.0)).min(h / height.max(1.0))
}

fn planned(rung: Rung, picture: Picture) -> PlannedRung {
    let (width, height) = display(picture);
    let (w, h) = turned(&rung, picture);
    let factor = scale(&rung, picture).min(1.0);
    let even = |side: f64, most: f64| {
        let side = ((side * factor / 2.0).round() * 2.0).min((most / 2.0).floor() * 2.0);
        side.max(2.0) as u32
    };
    let (w, h) = (w.max(width.min(w * NEARLY)), h.max(height.min(h * NEARLY)));
    let thin_to = picture.fps.map_or(Some((rung.fps, 1)), |fps| thinned(fps, rung.fps));
    PlannedRung {
        width: even(width, w),
        height: even(height, h),
        fps: thin_to.filter(|_| picture.fps.is_some()).or(picture.fps),
        thin_to,
        rung,
    }
}

/// The rate a source is thinned to for a rung of at most `cap` frames per second: every second
/// or third frame where that comes near the cap, since even steps look smooth. `None` keeps all.
fn thinned(fps: (u32, u32), cap: u32) -> Option<(u32, u32)> {
    let rate = f64::from(fps.0) / f64::from(fps.1.max(1));
    let cap_rate = f64::from(cap) * 1.01;
    if rate <= cap_rate {
        return None;
    }
    let step = (rate / cap_rate).ceil() as u32;
    if rate / f64::from(step) >= 0.75 * f64::from(cap) {
        return reduce(fps.0.into(), u64::from(fps.1) * u64::from(step));
    }
    Some((cap, 1))
}

/// Picks rungs for `auto`: from the smallest up, as many as the measured speed carries.
fn pick(picture: Picture, trial: Option<&TrialResult>) -> (Vec<Rung>, Effort, String) {
    let source_fps = picture.fps.map_or(30.0, |(n, d)| f64::from(n) / f64::from(d.max(1)));
    let candidates: Vec<Rung> = PRESETS[..LADDER_PRESETS]
        .iter()
        .filter(|p| p.id != "240p" || picture.height < 360)
        // One rung per size: the 60 fps one where the source has the frames for it.
        .filter(|p| match p.id {
            "720p" | "1080p" => source_fps <= 31.0,
            "720p60" | "1080p60" => source_fps > 31.0,
            _ => true,
        })
        .map(|p| p.rung())
        .filter(|rung| scale(rung, picture) <= NEARLY)
        .collect();
    let Some(trial) = trial else {
        return (
            candidates.into_iter().take(1).collect(),
            Effort::Ultrafast,
            "'auto' has no trial to go by".into(),
        );
    };
    let budget = f64::from(trial.cores.max(1)) * CORES_SHARE;
    let within = |effort: Effort| {
        let (mut used, mut picked) = (0.0, Vec::new());
        for rung in &candidates {
            let fps = source_fps.min(f64::from(rung.fps));
            let cost = trial.cores_for(rung, fps, effort);
            if used + cost > budget {
                break;
            }
            used += cost;
            picked.push(rung.clone());
        }
        (used, picked)
    };
    let (mut effort, (mut used, mut picked)) = (Effort::Superfast, within(Effort::Superfast));
    // Below 720p the loss of quality by less effort is worth a further rung.
    if picked.last().is_none_or(|r| r.height < 720) {
        let faster = within(Effort::Ultrafast);
        if faster.1.len() > picked.len() {
            (effort, (used, picked)) = (Effort::Ultrafast, faster);
        }
    }
    if picked.is_empty() {
        effort = Effort::Ultrafast;
        picked.extend(candidates.first().cloned());
        used = budget;
    }
    let names: Vec<&str> = picked.iter().rev().map(|r| r.id.as_str()).collect();
    let left = candidates.get(picked.len()).map_or(String::new(), |next| {
        let fps = source_fps.min(f64::from(next.fps));
        format!("; {} would need {:.2} more", next.id, trial.cores_for(next, fps, effort))
    });
    let note = format!(
        "'auto' picked {} ({effort:?}): {used:.2} of the {budget:.2} cores that encoding may use of {}{left}",
        names.join(", "),
        trial.cores,
    );
    (picked, effort, note)
}

impl TrialResult {
    /// Cores that a rung takes in real time, from the measured size nearest to it.
    pub fn cores_for(&self, rung: &Rung, fps: f64, effort: Effort) -> f64 {
        let pixels = f64::from(rung.width) * f64::from(rung.height);
        let nearest = (self.points.iter().filter(|p| p.effort == effort && p.realtime > 0.0))
            .filter_map(|p| Some((p, preset_named(&p.preset)?)))
            .min_by_key(|(_, preset)| (preset.width * preset.height).abs_diff(pixels as u32));
        let Some((point, preset)) = nearest else { return f64::INFINITY };
        let measured = f64::from(preset.width * preset.height) * f64::from(preset.fps);
        pixels * fps / measured / point.realtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(width: u32, height: u32, fps: u32) -> Picture {
        Picture { width, height, pixel_aspect: (1, 1), fps: Some((fps, 1)), passable: true }
    }

    fn ladder(names: &[&str]) -> Ladder {
        Ladder::Rungs(names.iter().map(|n| RungChoice::Preset((*n).to_owned())).collect())
    }

    fn sizes(plan: &Plan) -> Vec<(u32, u32)> {
        plan.rungs.iter().map(|r| (r.width, r.height)).collect()
    }

    #[test]
    fn the_demo_ladder_of_a_720p_source_has_its_three_sizes() {
        let plan =
            plan(&ladder(&["360p", "720p", "480p"]), picture(1280, 720, 30), None).expect("a plan");
        assert_eq!(sizes(&plan), [(1280, 720), (854, 480), (640, 360)]);
        assert!(plan.notes.is_empty() && !plan.source);
        assert!(plan.rungs.iter().all(|r| r.fps == Some((30, 1)) && r.thin_to.is_none()));
    }

    #[test]
    fn nothing_is_upscaled_and_the_operator_is_told() {
        let full = plan(&ladder(&["1080p", "480p"]), picture(1280, 720, 30), None).expect("a plan");
        assert_eq!(sizes(&full), [(854, 480)]);
        assert!(full.notes[0].contains("'1080p' is left out"), "{:?}", full.notes);
        let small = plan(&ladder(&["1080p", "480p"]), picture(320, 240, 30), None).expect("a plan");
        assert_eq!(sizes(&small), [(320, 240)]);
        assert_eq!(small.rungs[0].rung.id.as_str(), "480p");
    }

    #[test]
    fn the_shape_of_the_source_is_kept() {
        let of = |p| sizes(&plan(&ladder(&["720p"]), p, None).expect("a plan"));
        assert_eq!(of(picture(1440, 1080, 30)), [(960, 720)]);
        assert_eq!(of(picture(1080, 1920, 30)), [(720, 1280)], "a phone held upright");
        assert_eq!(of(picture(2560, 1080, 30)), [(1280, 540)]);
        let anamorphic = Picture { pixel_aspect: (4, 3), ..picture(1440, 1080, 30) };
        assert_eq!(of(anamorphic), [(1280, 720)]);
        assert_eq!(of(picture(1276, 718, 30)), [(1276, 718)], "nearly as large as the rung");
    }

    #[test]
    fn a_faster_source_is_thinned_in_even_steps_where_possible() {
        let fps = |from: (u32, u32), cap| thinned(from, cap);
        assert_eq!(fps((60, 1), 30), Some((30, 1)));
        assert_eq!(fps((60_000, 1001), 30), Some((30_000, 1001)));
        assert_eq!(fps((50, 1), 30), Some((25, 1)));
        assert_eq!(fps((30, 1), 24), Some((24, 1)));
        assert_eq!(fps((30_000, 1001), 30), None);
        assert_eq!(fps((25, 1), 60), None);
    }

    #[test]
    fn a_ladder_that_makes_no_sense_is_refused_in_one_line() {
        let error = |l| {
            plan(&l, Picture { passable: false, ..picture(1280, 720, 30) }, None)
                .expect_err("refused")
                .to_string()
        };
        assert!(error(ladder(&["721p"])).contains("'721p'"));
        assert!(error(ladder(&["720p", "720p"])).contains("twice"));
        assert!(error(ladder(&["source"])).contains("H.264"));
        assert!(error(ladder(&[])).contains("empty"));
    }

    #[test]
    fn source_is_left_out_of_a_ladder_with_rungs_when_it_cannot_pass() {
        let picture = Picture { passable: false, ..picture(1280, 720, 30) };
        let plan = plan(&ladder(&["source", "480p"]), picture, None).expect("a plan");
        assert!(!plan.source && plan.notes[0].contains("'source' is left out"));
    }

    fn trial(cores: u32, realtime: f64) -> TrialResult {
        let point =
            |preset: &str, effort, realtime| TrialPoint { preset: preset.into(), effort, realtime };
        TrialResult {
            cores,
            points: vec![
                point("720p", Effort::Superfast, realtime),
                point("720p", Effort::Ultrafast, realtime * 1.6),
            ],
        }
    }

    #[test]
    fn auto_takes_what_fits_into_the_budget_and_says_why() {
        let auto = Ladder::Named(NamedLadder::Auto);
        let ids = |t: &TrialResult, p| {
            let plan = plan(&auto, p, Some(t)).expect("a plan");
            (
                plan.rungs.iter().map(|r| r.rung.id.to_string()).collect::<Vec<_>>(),
                plan.effort,
                plan.notes,
            )
        };
        let (names, effort, notes) = ids(&trial(2, 2.0), picture(1920, 1080, 30));
        assert_eq!(
            (names, effort),
            (vec!["720p".into(), "480p".into(), "360p".into()], Effort::Superfast)
        );
        assert!(notes[0].contains("1080p would need 1.12 more"), "{notes:?}");
        let (names, effort, _) = ids(&trial(1, 1.0), picture(1920, 1080, 30));
        assert_eq!((names, effort), (vec!["480p".into(), "360p".into()], Effort::Ultrafast));
        let (names, ..) = ids(&trial(1, 0.01), picture(1920, 1080, 30));
        assert_eq!(names, ["360p"]);
        let (names, ..) = ids(&trial(64, 4.0), picture(3840, 2160, 60));
        assert_eq!(names, ["2160p60", "1440p60", "1080p60", "720p60", "480p", "360p"]);
    }

    proptest! {
        #[test]
        fn every_plan_has_even_sizes_within_the_source(
            width in 16u32..4096, height in 16u32..4096, aspect in 1u32..4, fps in 1u32..120,
        ) {
            let picture = Picture { pixel_aspect: (aspect, 2), ..picture(width, height, fps) };
            let plan = plan(&ladder(&["source", "1080p60", "720p", "480p", "240p", "low-500"]), picture, None).expect("a plan");
            prop_assert!(plan.source || !plan.rungs.is_empty());
            for rung in &plan.rungs {
                prop_assert!(rung.width % 2 == 0 && rung.height % 2 == 0);
                prop_assert!(rung.width >= 2 && rung.height >= 2);
                prop_assert!(f64::from(rung.width) <= display(picture).0 + 1.0);
                prop_assert!(rung.height <= height + 1);
                let (num, den) = rung.fps.expect("known");
                prop_assert!(num <= fps * den && f64::from(num) <= f64::from(rung.rung.fps * den) * 1.01);
            }
        }
    }
}
