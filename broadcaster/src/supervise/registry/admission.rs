//! Who may run beside those that do: seats, room on the machine, and publishers.

use super::*;

/// Media that may wait between a publisher and its stream: about two seconds.
const MEDIA_MAX: usize = 256;

impl Registry {
    /// Whether a stream fits beside those that make media now.
    pub(super) fn admit(
        &self,
        name: &StreamName,
        source: &SourceSpec,
        ladder: &Ladder,
    ) -> Result<(), CapacityExceeded> {
        let Some(monitor) = self.monitor.get() else { return Ok(()) };
        let Some(trial) = self.trial.borrow().clone() else { return Ok(()) };
        if !self.limits.get().admission {
            return Ok(());
        }
        let needs = |source: &SourceSpec, ladder: &Ladder| {
            cost::cores_needed(ladder, likely_picture(source), &trial)
        };
        let makes_media = |(entry, stream): &(StreamEntry, Arc<Stream>)| {
            let state = stream.status().state;
            let own = entry.source != SourceSpec::Rtmp;
            entry.name != *name && (state == State::Live || (own && state.counts()))
        };
        let streams = self.list();
        let running: Vec<_> = streams.iter().filter(|s| makes_media(s)).collect();
        let running: Vec<_> = running.iter().map(|(e, _)| needs(&e.source, &e.ladder)).collect();
        let host = monitor.host();
        cost::admit(needs(source, ladder), &running, host.as_ref(), &trial).inspect_err(|error| {
            self.counts.capacity_refusals.add_one();
            tracing::warn!(
                stream = %name,
                running = running.len(),
                code = CAPACITY_EXCEEDED,
                "{error}"
            );
        })
    }

    pub(super) fn seat(&self, name: &StreamName, owner: &str) -> Result<Seat, LimitReached> {
        self.seats.take(name, owner).inspect_err(|error| {
            tracing::warn!(
                stream = %name,
                owner,
                running = error.running,
                max = error.max,
                code = crate::streams::limit::STREAM_LIMIT_EXCEEDED,
                "{error}"
            );
        })
    }
}

impl PublishGate for Registry {
    async fn authorize(&self, key: &StreamKey, peer: SocketAddr) -> Result<PublishSlot, Refusal> {
        if self.is_closing() {
            return Err(Refusal::Restarting);
        }
        let entry = self.store().by_key(key).cloned().ok_or(Refusal::UnknownKey)?;
        if entry.source != SourceSpec::Rtmp {
            return Err(Refusal::OtherSource(entry.source.to_string()));
        }
        let stream = self.running().get(&entry.name).cloned().ok_or(Refusal::NotReady)?;
        // An ended broadcast's stream is turned on again by its publisher, and counts again.
        let seat = self.seat(&entry.name, &entry.owner)?;
        // One that comes back to its broadcast has been let in before.
        if !listed(stream.status().state) {
            let admitted = self.admit(&entry.name, &entry.source, &entry.ladder);
            admitted.map_err(|e| Refusal::Other(format!("{CAPACITY_EXCEEDED}: {e}")))?;
        }
        let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed) + 1);
        let (media_in, media) = mpsc::channel(MEDIA_MAX);
        let (cancel, cancelled) = watch::channel(None);
        let (answer, answered) = oneshot::channel();
        let publisher = Publisher { id, media, cancel };
        let asked = stream.asks.send(Ask::Publish(publisher, seat, answer)).await;
        match asked {
            Ok(()) => answered.await.unwrap_or(Err(Refusal::NotReady))?,
            Err(_) => return Err(Refusal::NotReady),
        }
        tracing::info!(stream = %entry.name, peer = %common::redact::address(peer.ip()), "an encoder publishes");
        Ok(PublishSlot { stream: entry.name, media: media_in, cancel: cancelled })
    }
}

/// What a source will probably send.
fn likely_picture(source: &SourceSpec) -> Picture {
    match (source, TEST_PICTURE) {
        (SourceSpec::Test, Source::Test { width, height, fps }) => {
            Picture { width, height, fps: Some(fps), ..cost::LIKELY_PICTURE }
        }
        _ => cost::LIKELY_PICTURE,
    }
}
