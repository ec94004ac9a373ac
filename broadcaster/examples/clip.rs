//! Writes test-card frames as raw I420 to standard output, for test clips whose frames can be
//! told apart: frame `n` carries the counter `n` and the clock `n / fps` in its block code.
//!
//! ```text
//! clip WIDTH HEIGHT FPS SECONDS
//! ```
//!
//! The clip that tests push over RTMP (1080p30, H.264 at 6 Mbit/s with a key frame each 2 s, AAC
//! tone), made once and pushed with `-re -c copy`:
//!
//! ```text
//! cargo run --release --example clip -- 1920 1080 30 60 |
//!   ffmpeg -f rawvideo -pix_fmt yuv420p -s 1920x1080 -r 30 -i - \
//!     -f lavfi -i "sine=frequency=440:beep_factor=4:sample_rate=48000:duration=60" \
//!     -c:v libx264 -preset veryfast -profile:v high -b:v 6M -minrate 6M -maxrate 6M -bufsize 6M \
//!     -x264-params nal-hrd=cbr -g 60 -keyint_min 60 -sc_threshold 0 -bf 0 \
//!     -c:a aac -b:a 128k -ac 2 -shortest -movflags +faststart clip.mp4
//! ffmpeg -re -stream_loop -1 -i clip.mp4 -c copy -f flv rtmp://127.0.0.1:1935/live/KEY
//! ```
//!
//! Leave `-bf 0` out for a clip with B-frames.

use std::io::Write;

use anyhow::{Context, bail};
use broadcaster::worker::testcard::{Reading, TestCard};

fn main() -> anyhow::Result<()> {
    let args: Vec<u32> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse())
        .collect::<Result<_, _>>()
        .context("usage: clip WIDTH HEIGHT FPS SECONDS")?;
    let [width, height, fps, seconds] = args[..] else {
        bail!("usage: clip WIDTH HEIGHT FPS SECONDS");
    };
    let card = TestCard::new(width, height, 1);
    let mut frame = vec![0; card.frame_bytes()];
    let mut out = std::io::stdout().lock();
    for counter in 0..fps * seconds {
        let clock_ms = u64::from(counter) * 1000 / u64::from(fps.max(1));
        card.draw(&mut frame, Reading { counter, clock_ms });
        out.write_all(&frame).context("nobody reads standard output")?;
    }
    Ok(())
}
