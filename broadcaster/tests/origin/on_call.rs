//! A rendition that is made as soon as somebody asks for it.

use std::time::Duration;

use broadcaster::store::live::OnCall;

use crate::rig::{PARTS, Rig, later, settle};

/// Longer than the longest segment takes to begin.
const WAKE: Duration = Duration::from_secs(9);

#[tokio::test]
async fn whoever_asks_waits_until_it_is_there_also_when_it_has_been_asked_for_before() {
    let mut rig = asleep();
    let first = rig.starts_to_get("v/media.m3u8");
    settle().await;
    let second = rig.starts_to_get("v/media.m3u8");
    settle().await;
    assert!(!first.is_finished() && !second.is_finished());
    rig.resume();
    rig.make(1);
    for answer in [first, second] {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.text().contains("../1/v/4.0.m4s"), "{}", answer.text());
    }
}

#[tokio::test]
async fn it_stays_listed_while_it_sleeps_and_until_its_first_segment_is_whole() {
    let mut rig = asleep();
    let listed = async |rig: &Rig| {
        let master = rig.get("master.m3u8").await;
        master.status == 200 && master.text().contains("\nv/media.m3u8\n")
    };
    assert!(listed(&rig).await, "asleep");
    rig.resume();
    assert!(listed(&rig).await, "resumed");
    for part in 0..=PARTS {
        rig.make(1);
        assert!(listed(&rig).await, "after part {part}");
    }
    // Its own segments list it from now on.
    rig.live.set_on_call([].into());
    rig.make(PARTS);
    assert!(listed(&rig).await);
}

#[tokio::test]
async fn one_that_does_not_come_is_given_up_after_the_longest_segment() {
    let rig = asleep();
    let answer = rig.starts_to_get("v/media.m3u8");
    later(WAKE + Duration::from_millis(1)).await;
    assert_eq!(answer.await.unwrap().status, 503);
}

#[tokio::test]
async fn one_that_is_paused_is_not_waited_for_and_not_listed() {
    let mut rig = Rig::new();
    rig.feed.withdraw(0);
    assert_eq!(rig.get("v/media.m3u8").await.status, 404);
    assert_eq!(rig.get("master.m3u8").await.status, 404, "nothing else is left");
}

#[tokio::test]
async fn one_that_sleeps_since_the_session_began_is_listed_as_the_session_describes_it() {
    let mut rig = Rig::new();
    rig.feed.free();
    sleeps(&rig);
    rig.begin_session();
    rig.feed.withdraw(0);
    assert_eq!(rig.get("master.m3u8").await.status, 404, "nothing can be played yet");
    rig.make_other(PARTS);
    let master = rig.get("master.m3u8").await;
    let listed = master.text();
    assert!(listed.contains("\nv/media.m3u8\n") && listed.contains("\nw/media.m3u8\n"), "{listed}");
    assert!(
        listed.contains("BANDWIDTH=3600000,AVERAGE-BANDWIDTH=2400000,"),
        "its target: {listed}"
    );
    // The others made progress before the governor said that it sleeps.
    rig.live.set_on_call([].into());
    rig.feed.list();
    assert!(!rig.get("master.m3u8").await.text().contains("\nv/media.m3u8\n"), "paused");
    sleeps(&rig);
    rig.feed.list();
    assert!(rig.get("master.m3u8").await.text().contains("\nv/media.m3u8\n"));
}

#[tokio::test]
async fn one_that_cannot_be_made_any_more_is_not_waited_for() {
    let rig = asleep();
    let answer = rig.starts_to_get("v/media.m3u8");
    settle().await;
    assert!(!answer.is_finished());
    rig.live.give_up(&"v".parse().unwrap());
    assert_eq!(answer.await.unwrap().status, 503);
    assert_eq!(rig.get("v/media.m3u8").await.status, 404);
}

/// Nobody watched its rendition, so it is not made.
fn asleep() -> Rig {
    let mut rig = Rig::new();
    sleeps(&rig);
    rig.feed.withdraw(0);
    rig
}

fn sleeps(rig: &Rig) {
    rig.live.set_on_call([("v".parse().unwrap(), OnCall::Asleep)].into());
}
