//! Sessions whose encoders hang where they should begin or end.

use std::sync::mpsc::RecvTimeoutError;

use super::*;
use crate::worker::encoder::choice::ProvenEncoder;
use crate::worker::encoder::fakes::{self, Fault};
use crate::worker::ipc::{Lowered, Order};

/// A session in which the larger of two rungs has this encoder, which no other test uses.
fn with(element: &str, fault: Fault) -> Session {
    fakes::register(element, fault);
    let fake = ProvenEncoder { sessions_max: Some(1), ..ProvenEncoder::unlimited(element) };
    Session::begin(test_source((30, 1)), rungs(&["360p", "240p"]), |start| {
        start.encoders = vec![fake, ProvenEncoder::unlimited("x264enc")];
    })
}

fn order(on: bool, lowered: Lowered) -> Command {
    Command::Orders(vec![Order { rendition: "360p".parse().expect("an id"), on, lowered }])
}

/// The session says nothing more and its thread ends.
fn assert_over(session: &Session) {
    assert_eq!(session.reports.recv_timeout(PATIENCE).err(), Some(RecvTimeoutError::Disconnected));
}

#[test]
fn a_session_begins_although_an_encoder_never_opens() {
    let mut session = with("nvautogpuh264enc", Fault::OpenHangs);
    let both = |r: &Report| matches!(r, Report::Part(p) if p.rendition == 0);
    let outcome = session.until(both).until_segment(3).drain();
    assert_over(&session);
    let notes = &outcome.ready.notes;
    let said = |note: &&String| note.contains("nvautogpuh264enc failed: it hangs");
    let note = notes.iter().find(said).unwrap_or_else(|| panic!("{notes:?}"));
    assert!(note.starts_with("'360p'") && note.ends_with("; x264enc goes on"), "{note}");
    assert_eq!(outcome.ready.renditions[0].encoder, "x264enc");
    assert_eq!(outcome.parts[&1][0].pts_us, 0, "the other begins with the first frame");
    outcome.check();
}

#[test]
fn an_encoder_that_never_ends_is_given_up_and_its_successor_goes_on() {
    let mut session = with("qsvh264enc", Fault::EosHangs);
    session.until_segment(0);
    session.command(order(true, Lowered::FrameRate));
    session.until(|r| matches!(r, Report::Changed(_)));
    let Some(Report::Changed(changed)) = session.seen.last().cloned() else { panic!("changed") };
    assert!(matches!(changed.renditions[..], [(0, _)]), "{changed:?}");
    let made = |r: &Report| matches!(r, Report::Part(p) if p.rendition == 0 && p.segment > changed.segment);
    session.until(made);
    // Its successor is as bad: it never ends either.
    session.command(order(false, Lowered::No));
    session.until(|r| matches!(r, Report::Withdrawn(w) if w.rendition == 0 && !w.failed));
    let outcome = session.drain();
    assert_over(&session);
    let segments: Vec<u32> = outcome.parts[&1].iter().map(|p| p.segment).collect();
    assert!(segments.windows(2).all(|w| w[1] - w[0] <= 1), "the other goes on: {segments:?}");
}

#[test]
fn a_session_ends_although_its_encoder_never_does() {
    let mut session = with("vah264lpenc", Fault::EosHangs);
    let outcome = session.until_segment(1).drain();
    assert_over(&session);
    assert_eq!(outcome.ready.renditions[0].encoder, "vah264lpenc");
    outcome.check();
}
