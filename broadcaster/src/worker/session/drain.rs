//! The end of a session: what is on its way is waited for, within bounds.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::rendition::Kind;

use super::{Session, lock};
use crate::worker::ipc::{Failed, Report};
use crate::worker::pipeline::other;
use crate::worker::rung::Generation;

/// How long [`Command::Drain`](crate::worker::ipc::Command::Drain) waits for the encoders: half a
/// second less than the broadcaster waits for what comes of it, so that one that hangs does not cost
/// the others their last parts.
pub(super) const DRAINS_MAX: Duration = Duration::from_millis(1500);

/// How long they are waited for when a source ended by itself. Nobody waits for that, and a slow
/// machine is to finish what it was given.
pub(super) const ENDS_MAX: Duration = Duration::from_secs(3);

/// A session that is ending.
pub(super) struct Drain {
    since: Instant,
    longest: Duration,
    /// Outputs and which of their encoders gave its last frame since; that of audio is 0.
    ended: BTreeSet<(usize, Generation)>,
}

impl Drain {
    /// An encoder has given its last frame.
    pub(super) fn handle_ended(&mut self, output: usize, generation: Generation) {
        self.ended.insert((output, generation));
    }
}

impl Session {
    /// Takes in nothing more and waits for what is on its way, for `longest` at most.
    pub(super) fn drain(
        &mut self,
        longest: Duration,
        emit: &mut dyn FnMut(Report) -> bool,
    ) -> Result<(), Failed> {
        if let Some(drain) = &mut self.draining {
            // A source has ended by itself, and now the broadcaster waits for it.
            let left = drain.since.elapsed() + longest;
            drain.longest = drain.longest.min(left);
            return Ok(());
        }
        // What was held for a second track is all there is.
        self.begin_pushed(Duration::MAX, emit)?;
        self.stop.store(true, Ordering::Relaxed);
        self.rungs.drain();
        if let Some(graph) = &self.graph {
            graph.finish();
        }
        self.draining = Some(Drain { since: Instant::now(), longest, ended: BTreeSet::new() });
        Ok(())
    }

    pub(super) fn is_drained(&self) -> bool {
        let Some(drain) = &self.draining else { return false };
        let audio = self.graph.iter().flat_map(|g| &g.encoders).map(|(output, _)| (*output, 0));
        // Looked up anew each time: one fails, another begins with what was on its way.
        let mut awaited = audio.chain(self.rungs.awaited());
        awaited.all(|a| drain.ended.contains(&a)) || drain.since.elapsed() > drain.longest
    }

    /// Sends what every rendition has begun.
    pub(super) fn finish(&mut self, emit: &mut dyn FnMut(Report) -> bool) -> Result<(), Failed> {
        self.fall(emit);
        for i in 0..self.renditions.len() {
            let rendition = &mut self.renditions[i];
            let mut parts = Vec::new();
            if rendition.made.kind == Kind::Audio {
                // No more video comes: what waited for it is certain now.
                let mut timeline = lock(&self.timeline);
                parts =
                    rendition.poll_audio(&mut timeline, true).map_err(|e| other(e.to_string()))?;
            }
            parts.extend(rendition.finish().map_err(|e| other(e.to_string()))?);
            self.send(i, parts, emit);
        }
        self.poll_ready(emit)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use common::rendition::Ladder;

    use super::*;
    use crate::testing;
    use crate::worker::ipc::{Command, Source};
    use crate::worker::session::{EVENTS_MAX, Event};

    fn session() -> Session {
        let start = testing::start(Source::Push, Ladder::Rungs(Vec::new()));
        // Nobody receives what its threads would send; it starts none.
        Session::new(start, sync_channel(EVENTS_MAX).0)
    }

    fn longest_after(session: &mut Session, event: Event) -> Duration {
        session.handle(event, &mut |_| true).expect("it drains");
        session.draining.as_ref().expect("it drains").longest
    }

    #[test]
    fn a_source_that_ends_by_itself_is_waited_for_longer_than_the_broadcaster_waits() {
        let drained = longest_after(&mut session(), Event::Command(Command::Drain));
        assert_eq!(drained, DRAINS_MAX);
        let mut session = session();
        assert_eq!(longest_after(&mut session, Event::SourceEnded), ENDS_MAX);
        let longest = longest_after(&mut session, Event::Command(Command::Drain));
        assert!(longest >= DRAINS_MAX, "what it had is not taken from it");
    }
}
