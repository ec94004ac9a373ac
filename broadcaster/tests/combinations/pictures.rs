//! The source of these tests, and what comes of it.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command as Blocking, Stdio};

use broadcaster::worker::testcard::{Reading, TestCard, read, read_mark};
use tokio::process::Command;

/// Frames per second of the source: few, so that a busy machine leaves out none.
pub(crate) const FPS: u32 = 15;

const SIZE: (u32, u32) = (640, 360);

/// What one picture says.
pub(crate) struct Picture {
    pub(crate) pts_ms: u64,
    pub(crate) counter: Option<u32>,
    pub(crate) mark: Option<u8>,
}

pub(crate) struct Pictures {
    pub(crate) shown: Vec<Picture>,
}

/// Writes a clip whose frames are counted, with a tone.
pub(crate) fn write_clip(file: &Path, seconds: u32) {
    let mut ffmpeg = Blocking::new("ffmpeg");
    let (size, rate) = (format!("{}x{}", SIZE.0, SIZE.1), FPS.to_string());
    ffmpeg.args(["-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", &size]);
    ffmpeg.args(["-r", &rate, "-i", "pipe:0", "-f", "lavfi", "-t", &seconds.to_string()]);
    ffmpeg.args(["-i", "sine=f=220:r=48000", "-c:v", "libx264", "-preset", "ultrafast"]);
    ffmpeg.args(["-bf", "0", "-g", &rate, "-sc_threshold", "0", "-b:v", "1500k", "-c:a", "aac"]);
    ffmpeg.arg(file);
    let mut ffmpeg = ffmpeg.stdin(Stdio::piped()).spawn().unwrap();
    let mut frames = ffmpeg.stdin.take().unwrap();
    let card = TestCard::new(SIZE.0, SIZE.1, 1);
    let mut frame = vec![0; card.frame_bytes()];
    for counter in 0..seconds * FPS {
        card.draw(&mut frame, Reading { counter, clock_ms: 0 });
        frames.write_all(&frame).unwrap();
    }
    drop(frames);
    assert!(ffmpeg.wait().unwrap().success());
}

impl Pictures {
    /// Reads the pictures of an init segment with media after it.
    pub(crate) async fn decode(media: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("media.mp4");
        std::fs::write(&file, media).unwrap();
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args(["-loglevel", "error", "-select_streams", "v", "-of", "csv=p=0"]);
        ffprobe.args(["-show_entries", "stream=width,height:packet=pts_time"]).arg(&file);
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-loglevel", "error", "-i"]).arg(&file);
        ffmpeg.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"]);
        let (probed, luma) = tokio::join!(output(ffprobe), output(ffmpeg));
        let probed = String::from_utf8(probed).unwrap();
        let mut lines: Vec<&str> = probed.lines().map(|line| line.trim_matches(',')).collect();
        let size = lines.pop().unwrap();
        let (width, height) = size.split_once(',').unwrap();
        let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
        let pictures: Vec<_> = luma.chunks_exact(width * height).collect();
        assert_eq!(pictures.len(), lines.len(), "a picture for each packet");
        let shown = pictures
            .iter()
            .zip(lines)
            .map(|(luma, pts)| Picture {
                pts_ms: (pts.parse::<f64>().unwrap() * 1000.0).round() as u64,
                counter: read(luma, width, width, height).map(|reading| reading.counter),
                mark: read_mark(luma, width, width, height),
            })
            .collect();
        Self { shown }
    }
}

async fn output(mut command: Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
