//! Who publishes, and how their media gets to the worker.

use super::*;

impl StreamTask {
    pub(super) fn handle_media(&mut self, media: Option<Media>) {
        let Some(id) = self.publisher.as_ref().map(|p| p.id) else { return };
        let Some(media) = media else {
            self.publisher = None;
            self.configs.clear();
            return self.handle(Input::PublisherGone(id));
        };
        // Only the machine is told of every frame; it answers in a few nanoseconds.
        self.handle(Input::PublisherMedia(id));
        let command = match media {
            Media::Config(config) => {
                self.configs.insert(config.track() as u8, config.clone());
                Command::Config(config)
            }
            Media::Frame(frame) => Command::Frame(frame),
        };
        let Some(worker) = self.machine.feeding() else { return };
        let Some(running) = self.children.get_mut(&worker) else { return };
        if let Command::Frame(frame) = &command {
            let video = frame.track == Track::Video;
            let key = video && frame.key;
            // Sound that comes before the first picture would look like a source without one.
            let waits = video || self.configs.contains_key(&(Track::Video as u8));
            if running.needs_key && waits && !key {
                return;
            }
            running.needs_key &= !key;
        }
        if running.child.send(command).is_err() {
            // What follows builds on what is lost now.
            running.needs_key = true;
            self.handle(Input::WorkerBackedUp(worker));
        }
    }

    pub(super) fn attach(&mut self, id: ConnectionId) {
        let Some((publisher, answer)) = self.asking.take().filter(|(p, _)| p.id == id) else {
            return;
        };
        if answer.send(Ok(())).is_ok() {
            self.configs.clear();
            self.publisher = Some(publisher);
        }
    }

    pub(super) fn refuse(&mut self, id: ConnectionId, cause: Cause) {
        if let Some((_, answer)) = self.asking.take().filter(|(p, _)| p.id == id) {
            let _ = answer.send(Err(refusal(&cause)));
        }
    }

    pub(super) fn close_publisher(&mut self, id: ConnectionId, cause: &Cause) {
        if self.publisher.as_ref().is_some_and(|p| p.id == id)
            && let Some(publisher) = self.publisher.take()
        {
            self.configs.clear();
            publisher.cancel.send_replace(Some(refusal(cause)));
        }
    }
}

/// What a publisher is told.
fn refusal(cause: &Cause) -> Refusal {
    match cause {
        Cause::TakenOver => Refusal::TakenOver,
        Cause::TakeoverLimit(_) => Refusal::Contested,
        Cause::OperatorStopped => Refusal::Stopped,
        Cause::ShuttingDown => Refusal::Restarting,
        other => Refusal::Other(other.to_string()),
    }
}

pub(super) async fn next_media(publisher: Option<&mut Publisher>) -> Option<Media> {
    match publisher {
        Some(publisher) => publisher.media.recv().await,
        None => std::future::pending().await,
    }
}
