//! Who publishes.

use super::*;

impl Machine {
    pub(super) fn publisher_connected(&mut self, now: Now, id: ConnectionId) {
        if self.publisher.is_some_and(|p| p.id == id) {
            return;
        }
        if let Some(cause) = self.why_not_publish() {
            self.outputs.push_back(Output::RefusePublisher(id, cause));
            return;
        }
        if self.standing == Standing::Ended {
            self.turn_on(now, Cause::NoMediaYet);
        }
        if self.publisher.is_some() {
            if let Err(wait_ms) = self.takeovers.ask(now) {
                let cause = Cause::TakeoverLimit(wait_ms.div_ceil(1_000));
                self.outputs.push_back(Output::RefusePublisher(id, cause));
                return;
            }
            self.close_publisher(Cause::TakenOver);
            self.cause = Cause::TakenOver;
        }
        // Whatever the old publisher's worker still holds is older than what comes now.
        self.let_go(now, 0);
        self.publisher = Some(Publisher { id, last_media: now, flowing_since: None });
        self.outputs.push_back(Output::AttachPublisher(id));
        self.schedule(now);
    }

    fn why_not_publish(&self) -> Option<Cause> {
        if self.shutting_down {
            return Some(Cause::ShuttingDown);
        }
        if !self.policy.pushed {
            return Some(Cause::NotForPublishers);
        }
        match self.standing {
            Standing::On if self.stopping => Some(Cause::OperatorStopped),
            Standing::On | Standing::Ended => None,
            Standing::Stopped | Standing::Failed => Some(self.cause.clone()),
        }
    }

    pub(super) fn publisher_media(&mut self, now: Now, id: ConnectionId) {
        let Some(publisher) = self.publisher.as_mut().filter(|p| p.id == id) else { return };
        if now.since(publisher.last_media) > SILENCE_MS {
            publisher.flowing_since = None;
        }
        publisher.flowing_since.get_or_insert(now);
        publisher.last_media = now;
    }

    pub(super) fn publisher_gone(&mut self, now: Now, id: ConnectionId) {
        if self.publisher.is_none_or(|p| p.id != id) {
            return;
        }
        self.publisher = None;
        self.start_at = None;
        self.cause = Cause::PublisherGone;
        self.drain(now);
        self.await_source(now);
    }

    pub(super) fn close_publisher(&mut self, cause: Cause) {
        if let Some(publisher) = self.publisher.take() {
            self.outputs.push_back(Output::ClosePublisher(publisher.id, cause));
        }
    }
}
