use proptest::prelude::*;

use super::*;
use crate::testing::{At, end, part, session};

/// What happens to a stream, in the order that it happens.
#[derive(Clone, Debug)]
enum Step {
    Part { rendition: u8, last: bool },
    Session { skip: u64 },
    End,
    Stale,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0u8..2, prop::bool::weighted(0.3)).prop_map(|(rendition, last)| Step::Part { rendition, last }),
        1 => (0u64..3).prop_map(|skip| Step::Session { skip }),
        1 => Just(Step::End),
        1 => Just(Step::Stale),
    ]
}

#[test]
fn a_moment_of_a_segment_is_measured_together_with_the_one_before() {
    let mut window = StreamWindow::new("demo".parse().expect("a name"), 10_000_000);
    window.apply(&session(1, 7, 0)).expect("a session");
    for p in 0..4 {
        let last = p == 3;
        let at = At { session: 1, rendition: 0, msn: 7, part: p, last, discontinuity: p == 0 };
        window.apply(&part(at)).expect("a part");
    }
    let whole = window.renditions().next().map(|r| r.peak_bps());
    assert_eq!(whole, Some(4 * 5000 * 8 / 2));
    let at = At { session: 1, rendition: 0, msn: 8, part: 0, last: true, discontinuity: false };
    let Record::Part(mut moment) = part(at) else { panic!("a part") };
    moment.duration_us = 10_000;
    window.apply(&Record::Part(moment)).expect("a part");
    let together = window.renditions().next().map(|r| r.peak_bps());
    assert_eq!(together, Some(5 * 5000 * 8 * 1000 / 2010));
}

#[test]
fn bitrates_of_a_new_session_count_what_is_still_listed() {
    let mut window = StreamWindow::new("demo".parse().expect("a name"), 10_000_000);
    window.apply(&session(1, 7, 0)).expect("a session");
    let first = At { session: 1, rendition: 0, msn: 7, part: 0, last: true, discontinuity: true };
    window.apply(&part(first)).expect("a part");
    let rates = |window: &StreamWindow| {
        let rendition = window.renditions().next().expect("a rendition");
        (rendition.peak_bps(), rendition.mean_bps())
    };
    let before = rates(&window);
    assert!(before.0 > 0 && before.1 > 0);
    window.apply(&session(2, 8, 1)).expect("a session");
    assert_eq!(rates(&window), before);
}

#[test]
fn a_refused_first_part_leaves_no_rendition_behind() {
    let mut window = StreamWindow::new("demo".parse().expect("a name"), 10_000_000);
    window.apply(&session(1, 7, 0)).expect("a session");
    let second =
        At { session: 1, rendition: 0, msn: 7, part: 1, last: false, discontinuity: false };
    assert_eq!(window.apply(&part(second)).err(), Some(WindowError::Skipped));
    assert_eq!(window.renditions().count(), 0);
}

#[test]
fn a_withdrawn_rendition_stays_so_through_another_record_of_its_session() {
    let mut window = StreamWindow::new("demo".parse().expect("a name"), 10_000_000);
    let id: RenditionId = "480p".parse().expect("an id");
    let offered = |window: &StreamWindow| window.offered().any(|r| r.id == id);
    let at =
        |msn, part| At { session: 1, rendition: 0, msn, part, last: true, discontinuity: false };
    window.apply(&session(1, 0, 0)).expect("a session");
    window.apply(&part(at(0, 0))).expect("a part");
    window.withdraw(&id);
    window.apply(&session(1, 2, 1)).expect("an encoder changed");
    assert!(!offered(&window), "the same session");
    window.apply(&part(at(2, 1))).expect_err("nothing begins in the middle of a segment");
    assert!(!offered(&window), "a part that does not fit brings nothing back");
    window.apply(&part(at(2, 0))).expect("a part");
    assert!(offered(&window), "its own part does");
    window.withdraw(&id);
    window.apply(&session(2, 5, 2)).expect("another session");
    assert!(offered(&window), "which makes everything that it names");
}

#[test]
fn what_is_open_before_a_change_of_encoders_goes_on_and_what_is_open_before_a_session_ends() {
    let mut window = StreamWindow::new("demo".parse().expect("a name"), 10_000_000);
    let id: RenditionId = "480p".parse().expect("an id");
    let at =
        |msn, part, last| At { session: 1, rendition: 0, msn, part, last, discontinuity: false };
    let parts = |window: &StreamWindow, msn| {
        let segment = window.rendition(&id)?.segment(Msn(msn))?;
        Some((segment.parts.len(), segment.complete))
    };
    window.apply(&session(1, 0, 0)).expect("a session");
    window.apply(&part(at(0, 0, false))).expect("a part");
    window.apply(&session(1, 1, 1)).expect("an encoder changed");
    assert_eq!(parts(&window, 0), Some((1, false)));
    window.apply(&part(at(0, 1, true))).expect("the rest");
    assert_eq!(parts(&window, 0), Some((2, true)));
    window.apply(&part(at(1, 0, false))).expect("a part");
    window.apply(&session(2, 2, 2)).expect("another session");
    assert_eq!(parts(&window, 1), Some((1, true)));
}

proptest! {
    #[test]
    fn whatever_happens_numbers_never_go_back_and_the_window_stays_bounded(steps in prop::collection::vec(step(), 1..400)) {
        let mut window = StreamWindow::new("demo".parse().expect("a name"), 10_000_000);
        let (mut number, mut discontinuity, mut next) = (0, 0, [(0u64, 0u16); 2]);
        let mut first_of_session = 0;
        let mut seen = [(0, 0); 2];
        let mut live = false;
        for step in steps {
            match step {
                Step::Session { skip } => {
                    number += 1;
                    discontinuity += 1;
                    let open = next.iter().map(|(msn, part)| msn + u64::from(*part > 0)).max();
                    first_of_session = open.unwrap_or(0) + skip;
                    next = [(first_of_session, 0); 2];
                    prop_assert!(window.apply(&session(number, first_of_session, discontinuity)).is_ok());
                    live = true;
                }
                Step::Part { rendition, last } if live => {
                    let (msn, p) = next[usize::from(rendition)];
                    let discontinuity = msn == first_of_session;
                    let at = At { session: number, rendition, msn, part: p, last, discontinuity };
                    prop_assert!(window.apply(&part(at)).is_ok());
                    prop_assert!(window.apply(&part(at)).is_err(), "the same part twice");
                    next[usize::from(rendition)] = if last { (msn + 1, 0) } else { (msn, p + 1) };
                }
                Step::End if live => {
                    prop_assert!(window.apply(&end(number, 0)).is_ok());
                    live = false;
                }
                Step::Stale if number > 1 => {
                    let at = At { session: number - 1, rendition: 0, msn: next[0].0, part: 0, last: true, discontinuity: false };
                    prop_assert!(window.apply(&part(at)).is_err(), "an old session goes on");
                }
                _ => {}
            }
            for (i, id) in ["480p", "audio"].into_iter().enumerate() {
                let Some(rendition) = window.rendition(&id.parse().expect("an id")) else { continue };
                let segments = rendition.segments();
                let msns: Vec<_> = segments.iter().map(|s| s.msn.0).collect();
                prop_assert!(msns.windows(2).all(|w| w[1] == w[0] + 1), "holes in {:?}", msns);
                prop_assert!(segments.iter().rev().skip(1).all(|s| s.complete));
                let whole: u64 = segments.iter().filter(|s| s.complete).map(|s| s.duration_us).sum();
                let longest = segments.iter().map(|s| s.duration_us).max().unwrap_or(0);
                // One more than the window may be whole until the next part comes.
                prop_assert!(whole < 10_000_000 + 2 * longest.max(1));
                if let Some(first) = segments.front() {
                    let listed = first.discontinuity_sequence - u64::from(first.discontinuity);
                    let now = (first.msn.0, listed);
                    prop_assert!(now.0 >= seen[i].0 && now.1 >= seen[i].1, "{:?} after {:?}", now, seen[i]);
                    seen[i] = now;
                }
            }
        }
    }
}
