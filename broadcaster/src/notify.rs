//! Tells a service manager (systemd, `Type=notify`) that we are up, alive and going down. Without
//! one, nothing happens.

use std::sync::Arc;

use sd_notify::NotifyState;

use crate::supervise::registry::Registry;

/// The watchdog is fed this many times within its patience, so that a busy moment costs nothing.
const FEEDS: u32 = 3;

/// Viewers and encoders can connect.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog, when there is one, for as long as tasks run and the registry's locks can be
/// had: without either nothing of ours works, and a restart is what helps.
pub(crate) async fn stay_alive(registry: Arc<Registry>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(patience / FEEDS);
    loop {
        ticks.tick().await;
        drop(registry.list());
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
