//! Whether a stream fits beside those that run. Pure.
//!
//! Only a machine that is busy with other streams refuses: a ladder that is too heavy for an empty
//! one is let in, since degradation finds out what of it can be made.

use common::rendition::Ladder;

use super::host::Host;
use crate::worker::ladder::{Picture, TrialResult, plan};

/// The stable code of a refusal, in the API and in logs.
pub const CAPACITY_EXCEEDED: &str = "CAPACITY_EXCEEDED";

/// What a stream takes that only passes through, and every stream beside its encoders, in cores
/// (docs/BENCHMARKS.md, row 6).
pub const PASSTHROUGH_CORES: f64 = 0.03;

/// What a source is taken for that has not been seen yet: the largest that is common.
pub const LIKELY_PICTURE: Picture =
    Picture { width: 1920, height: 1080, pixel_aspect: (1, 1), fps: Some((30, 1)), passable: true };

/// Why a stream was not let in.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "needs {needed:.1} cores, {free:.1} of {cores:.1} are free: stop a stream or choose a smaller \
     ladder"
)]
pub struct CapacityExceeded {
    /// What it needs, in cores.
    pub needed: f64,
    /// What is left.
    pub free: f64,
    /// What there is.
    pub cores: f64,
}

/// Cores that a stream takes in real time; only passing through where its ladder cannot be made.
pub fn cores_needed(ladder: &Ladder, picture: Picture, trial: &TrialResult) -> f64 {
    let Ok(plan) = plan(ladder, picture, Some(trial)) else { return PASSTHROUGH_CORES };
    let source_fps = picture.fps.map_or(30.0, |(n, d)| f64::from(n) / f64::from(d.max(1)));
    let rungs = plan.rungs.iter().map(|planned| {
        let fps = source_fps.min(f64::from(planned.rung.fps));
        trial.cores_for(&planned.rung, fps, plan.effort)
    });
    // A size of which the trial says nothing must not refuse anyone.
    PASSTHROUGH_CORES + rungs.filter(|cores| cores.is_finite()).sum::<f64>()
}

/// Whether a stream that needs so many cores fits beside those that make media now, which are
/// expected to take each of `running`. What was measured misses streams that only just began, so
/// the larger of both counts.
///
/// # Errors
/// When it does not, with the numbers.
pub fn admit(
    needed: f64,
    running: &[f64],
    host: Option<&Host>,
    trial: &TrialResult,
) -> Result<(), CapacityExceeded> {
    // Passing through costs less than what the measure may be wrong by.
    if running.is_empty() || needed <= PASSTHROUGH_CORES {
        return Ok(());
    }
    let cores = host.map_or(f64::from(trial.cores.max(1)), |host| host.cores);
    let expected: f64 = running.iter().sum();
    let busy = host.map_or(0.0, |host| host.cpu_busy).max(expected);
    let free = (cores - busy).max(0.0);
    if needed <= free { Ok(()) } else { Err(CapacityExceeded { needed, free, cores }) }
}

#[cfg(test)]
mod tests {
    use common::rendition::{NamedLadder, RungChoice};

    use super::*;
    use crate::worker::encoder::Effort;
    use crate::worker::ladder::TrialPoint;

    /// Two cores, each of which makes 720p30 three times as fast as it comes.
    fn trial() -> TrialResult {
        let point = |effort| TrialPoint { preset: "720p".into(), effort, realtime: 3.0 };
        TrialResult { cores: 2, points: [Effort::Superfast, Effort::Ultrafast].map(point).into() }
    }

    fn ladder(names: &[&str]) -> Ladder {
        Ladder::Rungs(names.iter().map(|n| RungChoice::Preset((*n).to_owned())).collect())
    }

    fn needed(ladder: &Ladder) -> f64 {
        cores_needed(ladder, LIKELY_PICTURE, &trial())
    }

    #[test]
    fn a_ladder_costs_what_its_rungs_do_and_passing_through_next_to_nothing() {
        let one = needed(&ladder(&["720p"]));
        assert!((one - PASSTHROUGH_CORES - 1.0 / 3.0).abs() < 1e-9, "{one}");
        assert_eq!(needed(&Ladder::Named(NamedLadder::Passthrough)), PASSTHROUGH_CORES);
        assert_eq!(needed(&ladder(&["source"])), PASSTHROUGH_CORES);
        assert!(needed(&ladder(&["1080p", "720p", "480p"])) > 2.0 * one);
        assert_eq!(needed(&ladder(&["no-such"])), PASSTHROUGH_CORES, "its worker will say so");
    }

    #[test]
    fn rungs_above_the_source_are_not_made_and_cost_nothing() {
        let small = Picture { width: 1280, height: 720, ..LIKELY_PICTURE };
        let of = |names| cores_needed(&ladder(names), small, &trial());
        assert_eq!(of(&["1080p", "720p"]), of(&["720p"]));
    }

    #[test]
    fn an_empty_machine_takes_any_ladder_and_a_busy_one_what_is_free() {
        let busy = |cpu_busy| Host { cores: 2.0, cpu_busy, ..Host::default() };
        let (trial, heavy) = (trial(), 5.0);
        assert_eq!(admit(heavy, &[], Some(&busy(1.9)), &trial), Ok(()), "nothing of ours runs");
        let refused = admit(1.9, &[0.5], Some(&busy(1.6)), &trial).expect_err("too much");
        assert_eq!(
            refused.to_string(),
            "needs 1.9 cores, 0.4 of 2.0 are free: stop a stream or choose a smaller ladder"
        );
        assert_eq!(admit(0.3, &[0.5], Some(&busy(1.6)), &trial), Ok(()));
        assert_eq!(admit(PASSTHROUGH_CORES, &[9.0], Some(&busy(2.0)), &trial), Ok(()));
    }

    #[test]
    fn streams_that_only_just_began_count_before_they_are_measured() {
        let idle = Host { cores: 2.0, ..Host::default() };
        for host in [Some(&idle), None] {
            assert_eq!(admit(0.9, &[1.0], host, &trial()), Ok(()));
            let refused = admit(0.9, &[1.0, 0.5], host, &trial()).expect_err("too much");
            assert_eq!((refused.free, refused.cores), (0.5, 2.0));
        }
    }
}
