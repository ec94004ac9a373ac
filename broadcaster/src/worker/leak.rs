//! A fault for tests of the memory limit (`scripts/stuck-worker.sh`), and nothing else: with
//! `SHOAL_TEST_LEAK_MB_PER_S=STREAM=MB` in its environment, the worker of that stream leaks.

use std::thread::{Builder, sleep};
use std::time::Duration;

const VARIABLE: &str = "SHOAL_TEST_LEAK_MB_PER_S";

/// So many steps a second.
const STEPS: u64 = 10;

/// Leaks from now on when the environment says that `stream` does.
pub(super) fn begin(stream: &str) {
    let Some(mb_per_s) = std::env::var(VARIABLE).ok().and_then(|text| rate(&text, stream)) else {
        return;
    };
    tracing::warn!("this worker leaks {mb_per_s} MB/s, since {VARIABLE} says so");
    let bytes = (mb_per_s.saturating_mul(1 << 20) / STEPS) as usize;
    // Without a thread nothing leaks, which the test notices.
    let _ = Builder::new().name("leak".to_owned()).spawn(move || {
        loop {
            // Written, because memory that nobody touched is not resident.
            std::mem::forget(vec![1u8; bytes]);
            sleep(Duration::from_millis(1000 / STEPS));
        }
    });
}

fn rate(text: &str, stream: &str) -> Option<u64> {
    let (name, mb) = text.split_once('=')?;
    (name == stream).then(|| mb.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_is_named_leaks() {
        assert_eq!(rate("show=60", "show"), Some(60));
        for text in ["show=60", "other", "other=x", ""] {
            assert_eq!(rate(text, "other"), None, "{text}");
        }
    }
}
