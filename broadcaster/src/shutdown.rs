//! The end of the process: who asks for it, and a deadline that nothing can hold up.
//!
//! SIGTERM and SIGINT are taken by a thread of its own, which needs neither the runtime nor a
//! disk: whatever hangs, the process has ended [`DEADLINE`] after the first signal, with status 0
//! since it was asked to. A second signal ends it at once, with 130. Workers die with it.

use std::io;
use std::thread::{Builder, sleep};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::exit;
use tokio::sync::watch;

/// The process has ended this long after it was asked to. Service managers and operators get 10 s,
/// of which this leaves one to a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(9);

/// Viewers have this long to read that the broadcaster restarts before their connections end:
/// pages whose picture stands ask every second. More would only lengthen the restart.
pub const VIEWERS_TOLD: Duration = Duration::from_secs(1);

/// Connections have learned of the stop after this long: a turn of the runtime with thousands.
pub const STOP_HEARD: Duration = Duration::from_millis(100);

/// Streams have this long to end: a drain (2 s), then SIGTERM, then SIGKILL after at most 3 s.
pub const STREAMS_MAX: Duration = Duration::from_secs(6);

/// The spool has this long to write what is queued; a disk that hangs would take for ever.
pub const SPOOL_MAX: Duration = Duration::from_millis(1500);

/// What is said last may take this long: whoever reads our log may hang as well.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Status after a second signal, as shells give it for SIGINT.
const IMPATIENT: i32 = 130;

/// Takes the signals from now on. The receiver becomes true with the first one.
///
/// # Errors
/// When signals cannot be taken or no thread can be started.
pub fn listen() -> io::Result<watch::Receiver<bool>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (asked, receiver) = watch::channel(false);
    Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            if asked.send_replace(true) {
                exit(IMPATIENT);
            }
            // Started now, because later there may be no threads to be had. Without one, the
            // orderly end still comes.
            let _ = Builder::new().name("deadline".into()).spawn(|| {
                sleep(DEADLINE);
                end_at_once();
            });
        }
    })?;
    Ok(receiver)
}

/// Nothing is waited for any more: no destructor, no other thread.
fn end_at_once() {
    let words = || tracing::error!("something hangs: ending without waiting for it any longer");
    if Builder::new().spawn(words).is_ok() {
        sleep(LAST_WORDS);
    }
    exit(0);
}
