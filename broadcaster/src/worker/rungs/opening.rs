//! An encoder that is being opened, in a thread of its own: a driver may take its time over that,
//! or for ever, and the session goes on meanwhile.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::worker::ipc::{Failed, Lowered};
use crate::worker::rung::{Encoding, Generation, Leftover, Leftovers};
use crate::worker::session::spawn;

/// An encoder that is not open after this long hangs, in milliseconds: drivers load firmware, which
/// takes them a second or two.
pub(super) const OPENS_MS: u64 = 3_000;

/// What an encoder is opened as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Which of its rung's candidates.
    pub(super) candidate: usize,
    pub(super) generation: Generation,
    pub(super) lowered: Lowered,
}

/// An encoder on its way. Dropped, its thread gets rid of it whenever it comes, and it counts among
/// the leftovers until then.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) plan: Plan,
    slot: Arc<Mutex<Slot>>,
    leftovers: Leftovers,
    waited_ms: u64,
}

/// What can be said of it.
#[derive(Debug)]
pub(super) enum Look {
    /// It is not open yet.
    Waits,
    /// [`Opening::take`] gives it.
    Works,
    Fails(Failed),
    /// It has had its time. Its thread may never end.
    Hangs,
}

#[derive(Debug)]
enum Slot {
    Awaited,
    Came(Result<Encoding, Failed>),
    Taken,
    /// Not wanted any more.
    GivenUp {
        _until_it_comes: Leftover,
    },
}

impl Opening {
    /// Opens an encoder.
    pub(super) fn begin(
        plan: Plan,
        leftovers: Leftovers,
        open: impl FnOnce() -> Result<Encoding, Failed> + Send + 'static,
    ) -> Self {
        let slot = Arc::new(Mutex::new(Slot::Awaited));
        let there = Arc::clone(&slot);
        let begun = spawn("encoder-open", move || {
            let came = open();
            let mut slot = lock(&there);
            if matches!(*slot, Slot::Awaited) {
                *slot = Slot::Came(came);
                return;
            }
            // Nobody holds the lock while it stops, which may take long. The slot goes with this
            // thread.
            drop(slot);
            drop(came);
        });
        if let Err(failed) = begun {
            *lock(&slot) = Slot::Came(Err(failed));
        }
        Self { plan, slot, leftovers, waited_ms: 0 }
    }

    /// Looks how it goes, `elapsed_ms` after the last time.
    pub(super) fn look(&mut self, elapsed_ms: u64) -> Look {
        match &*lock(&self.slot) {
            Slot::Came(Ok(_)) => return Look::Works,
            Slot::Came(Err(failed)) => return Look::Fails(failed.clone()),
            Slot::Awaited | Slot::Taken | Slot::GivenUp { .. } => {}
        }
        // A pause of the whole machine is not the encoder's.
        self.waited_ms += elapsed_ms.min(100);
        if self.waited_ms >= OPENS_MS { Look::Hangs } else { Look::Waits }
    }

    /// The encoder, if it is there.
    pub(super) fn take(&mut self) -> Option<Encoding> {
        let mut slot = lock(&self.slot);
        if !matches!(*slot, Slot::Came(_)) {
            return None;
        }
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Came(came) => came.ok(),
            _ => None,
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(unused) = self.take() {
            return unused.abandon();
        }
        let mut slot = lock(&self.slot);
        if matches!(*slot, Slot::Awaited) {
            *slot = Slot::GivenUp { _until_it_comes: self.leftovers.add() };
        }
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
