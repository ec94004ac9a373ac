use std::sync::mpsc::sync_channel;

use common::rendition::preset_named;

use super::*;
use crate::worker::encoder::fakes::{self, Fault};
use crate::worker::encoder::{Effort, video_named};
use crate::worker::session::EVENTS_MAX;

/// Looks in each of which an opening encoder has had 100 ms, until it has had its time.
const LOOKS: u64 = OPENS_MS / 100;

fn planned(id: &str) -> PlannedRung {
    let preset = preset_named(id).expect("a preset");
    PlannedRung {
        rung: preset.rung(),
        width: preset.width,
        height: preset.height,
        fps: Some((preset.fps, 1)),
        thin_to: None,
    }
}

/// Rungs with these encoders each.
fn rungs(of: &[(&str, &[&str])]) -> Rungs {
    // No other test uses those names.
    fakes::register("nvcudah264enc", Fault::OpenHangs);
    fakes::register("v4l2h264enc", Fault::StopHangs);
    fakes::register("vah264enc", Fault::Hangs);
    let timeline = Arc::new(Mutex::new(Timeline::new(2_000_000)));
    // The session that would receive is not there; no encoder gets a picture.
    let (events, _) = sync_channel(EVENTS_MAX);
    let mut rungs = Rungs::new(Arc::clone(&timeline), events);
    let outlet = || Arc::new(Outlet::new(Arc::clone(&timeline), Vec::new(), None));
    let planned = of.iter().enumerate().map(|(i, (id, _))| (i, planned(id), outlet()));
    let candidate = |name: &&str| Candidate {
        encoder: video_named(name).expect("a known encoder"),
        effort: Effort::Ultrafast,
    };
    let candidates = of.iter().map(|(_, names)| names.iter().map(candidate).collect()).collect();
    rungs.plan(planned, candidates);
    rungs
}

fn order(id: &str, on: bool) -> Order {
    Order { rendition: id.parse().expect("an id"), on, lowered: Lowered::No }
}

fn lowered(id: &str, lowered: Lowered) -> Order {
    Order { lowered, ..order(id, true) }
}

/// Shows a rung a picture of this time.
fn show(rungs: &Rungs, i: usize, pts_us: u64) {
    let rung = &rungs.rungs[i];
    let (width, height) = (rung.planned.width, rung.planned.height);
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
        .fps(gst::Fraction::new(30, 1))
        .build()
        .expect("a picture");
    let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
    let pts = gst::ClockTime::from_useconds(pts_us);
    buffer.get_mut().expect("nobody else has it").set_pts(pts);
    let caps = info.to_caps().expect("caps");
    rung.outlet.handle(&gst::Sample::builder().buffer(&buffer).caps(&caps).build());
    rungs.timeline.lock().expect("no panic").see(pts_us);
}

/// Looks until encoders have had their time; gives what was said of them.
fn until_given_up(rungs: &mut Rungs) -> Vec<NotOpened> {
    for _ in 1..LOOKS {
        assert!(rungs.poll_not_opened(100).is_empty(), "it still has time");
    }
    rungs.poll_not_opened(100)
}

/// So many rungs with these encoders that one too many hangs when the first of each does.
fn too_many(names: &[&str]) -> Rungs {
    let mut rungs = rungs(&vec![("360p", names); HANGING_MAX as usize + 1]);
    rungs.start();
    rungs
}

#[test]
fn an_encoder_that_hangs_while_it_opens_gives_way_to_the_next_and_holds_up_no_other_rung() {
    let mut rungs = rungs(&[("360p", &["nvcudah264enc", "x264enc"]), ("240p", &["x264enc"])]);
    rungs.start();
    assert!(!rungs.is_on(0) && rungs.is_on(1));
    assert!(!rungs.is_fed(1), "there was no picture yet, so it is not behind");
    let said = until_given_up(&mut rungs).pop().expect("it is given up");
    assert_eq!((said.output, said.element), (0, "nvcudah264enc"));
    assert!(said.failed.message.contains("it hangs"), "{}", said.failed.message);
    assert!(matches!(said.after, After::Next("x264enc")), "{:?}", said.after);
    rungs.timeline.lock().expect("no panic").see(0);
    while !rungs.is_on(0) {
        std::thread::sleep(STARTS_LOOK);
        assert!(rungs.poll_opened(Some(7)).1.is_empty(), "another boundary stands");
        let (segment, begun) = rungs.poll_opened(None);
        assert!(segment == 1 && (begun.is_empty() || begun == [0]), "{segment}: {begun:?}");
    }
    assert_eq!(rungs.element(0), Some("x264enc"));
    rungs.stop();
}

#[test]
fn when_an_encoder_hangs_no_other_element_of_its_device_is_tried() {
    let mut rungs = rungs(&[("360p", &["nvcudah264enc", "nvh264enc", "x264enc"])]);
    rungs.start();
    let said = until_given_up(&mut rungs).pop().expect("it is given up");
    assert!(matches!(said.after, After::Next("x264enc")), "{:?}", said.after);
    rungs.stop();
}

#[test]
fn when_too_many_encoders_hang_no_device_is_tried_and_software_still_is() {
    let mut rungs = too_many(&["nvcudah264enc", "vtenc_h264_hw", "x264enc"]);
    let said = until_given_up(&mut rungs);
    let (last, before) = said.split_last().expect("all hang");
    assert_eq!(before.len(), HANGING_MAX as usize);
    for said in before {
        assert!(matches!(said.after, After::Next("vtenc_h264_hw")), "{:?}", said.after);
    }
    assert!(matches!(last.after, After::Next("x264enc")), "{:?}", last.after);
    rungs.stop();
}

#[test]
fn a_rung_without_software_ends_when_too_many_encoders_hang() {
    let mut rungs = too_many(&["nvcudah264enc", "vtenc_h264_hw"]);
    let why = format!("{} encoders", HANGING_MAX + 1);
    let ends =
        |said: &NotOpened| matches!(&said.after, After::Nothing(said) if said.contains(&why));
    let said = until_given_up(&mut rungs);
    assert!(said.last().is_some_and(ends), "{said:?}");
}

#[test]
fn an_encoder_counts_as_hanging_until_it_has_stopped() {
    let mut rungs = rungs(&[("360p", &["v4l2h264enc"]), ("240p", &["x264enc"])]);
    rungs.start();
    assert!(rungs.is_on(0) && rungs.is_on(1) && rungs.leftovers.count() == 0);
    rungs.switch_off(0);
    rungs.switch_off(1);
    while rungs.leftovers.count() > 1 {
        std::thread::sleep(STARTS_LOOK);
    }
    assert_eq!(rungs.leftovers.count(), 1, "closing the fake never ends");
}

#[test]
fn at_the_end_every_encoder_that_has_pictures_or_may_get_some_is_awaited() {
    let mut rungs = rungs(&[("360p", &["x264enc"]), ("240p", &["x264enc"])]);
    rungs.start();
    let awaited = |rungs: &Rungs| rungs.awaited().collect::<Vec<_>>();
    assert_eq!(awaited(&rungs), [(0, 1), (1, 1)], "the first picture may be on its way");
    (0..2).for_each(|i| show(&rungs, i, 0));
    rungs.handle_orders(&[lowered("360p", Lowered::Effort), order("240p", false)]);
    rungs.poll_orders();
    show(&rungs, 1, 2_000_000);
    assert_eq!(awaited(&rungs), [(0, 1), (1, 1)], "it was ordered off and gets no more");
    while rungs.poll_opened(None).1.is_empty() {
        std::thread::sleep(STARTS_LOOK);
    }
    assert_eq!(awaited(&rungs), [(0, 1), (0, 2), (1, 1)]);
    rungs.rungs[0].outlet.finish();
    assert_eq!(awaited(&rungs), [(0, 1), (1, 1)], "the pictures of its successor never came");
    rungs.switch_off(0);
    assert_eq!(awaited(&rungs), [(1, 1)], "it is given up");
    rungs.stop();
}

#[test]
fn at_the_end_a_failed_encoder_has_no_successor() {
    let mut rungs = rungs(&[("360p", &["x264enc", "x264enc"])]);
    rungs.start();
    rungs.drain();
    assert!(matches!(rungs.replace(0), After::Nothing(_)) && !rungs.any_on());
    rungs.stop();
}

#[test]
fn the_time_of_an_encoder_does_not_pass_twice_because_another_hangs() {
    let names: &[&str] = &["vah264enc", "vaapih264enc", "x264enc"];
    let mut rungs = rungs(&[("360p", names), ("240p", names)]);
    rungs.start();
    let show_two = |rungs: &Rungs, i| [0, 33_333].map(|pts_us| show(rungs, i, pts_us));
    // A picture waits behind the one at which it hangs. The other is a look later.
    show_two(&rungs, 1);
    assert!(rungs.poll_failures(100).is_empty());
    show_two(&rungs, 0);
    for _ in 2..LOOKS {
        assert!(rungs.poll_failures(100).is_empty(), "it still has time");
    }
    for i in [1, 0] {
        let faults = rungs.poll_failures(100);
        assert!(matches!(faults[..], [(output, _)] if output == i), "{faults:?}");
        let after = rungs.replace(i);
        assert!(matches!(after, After::Next("x264enc")), "that device hangs: {after:?}");
    }
    rungs.stop();
}

#[test]
fn an_order_that_is_taken_back_while_its_encoder_opens_changes_nothing() {
    let mut rungs = rungs(&[("360p", &["x264enc"])]);
    rungs.start();
    show(&rungs, 0, 0);
    rungs.handle_orders(&[lowered("360p", Lowered::Effort)]);
    rungs.poll_orders();
    assert!(rungs.rungs[0].opening.is_some());
    rungs.handle_orders(&[lowered("360p", Lowered::No)]);
    while rungs.rungs[0].opening.is_some() {
        assert_eq!(rungs.poll_opened(None).1, [0usize; 0], "nothing is to be done");
        std::thread::sleep(STARTS_LOOK);
    }
    assert!(rungs.is_on(0) && rungs.rungs[0].generation == 1);
    rungs.stop();
}

#[test]
fn a_rung_that_is_ending_goes_on_to_its_end_when_another_encoder_does_not_open() {
    let mut rungs = rungs(&[("360p", &["x264enc"])]);
    rungs.start();
    show(&rungs, 0, 0);
    let leftovers = rungs.leftovers.clone();
    let rung = &mut rungs.rungs[0];
    let (plan, _) = rung.plan(0, Lowered::Effort).expect("a candidate");
    rung.opening = Some(Opening::begin(plan, leftovers, || Err(other("no".to_owned()))));
    rung.state = State::Ending;
    let said = loop {
        if let Some(said) = rungs.poll_not_opened(0).pop() {
            break said;
        }
        std::thread::sleep(STARTS_LOOK);
    };
    assert!(matches!(said.after, After::AsBefore), "{:?}", said.after);
    let ended = rungs.handle_ended(0, 1);
    assert!(ended.is_some_and(|ended| ended.off), "its end is noticed");
    rungs.stop();
}
