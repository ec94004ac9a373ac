//! The built-in test picture and tone. Pure: pixels and samples from numbers.
//!
//! # The block code
//! The top tenth of every picture carries a frame counter and a wall clock that survive scaling
//! and H.264, for tests that read them from a screenshot. It is a grid of 32 columns and 4 rows
//! over the full width: the cell in column `c`, row `r` covers `x` from `c/32` to `(c+1)/32` of
//! the picture's width and `y` from `r/40` to `(r+1)/40` of its height. A white cell (luma 235)
//! is a 1, a black cell (luma 16) a 0; chroma is neutral. Bits run from left to right, the most
//! significant first:
//!
//! | row | columns 0-15 | columns 16-31 |
//! |---|---|---|
//! | 0 | sync, always `0xB4E1` | check: CRC-16/CCITT-FALSE of rows 1 to 3 |
//! | 1 | frame counter, bits 31-16 | frame counter, bits 15-0 |
//! | 2 | wall clock, bits 47-32 | wall clock, bits 31-16 |
//! | 3 | wall clock, bits 15-0 | frame counter, bits 15-0, inverted |
//!
//! The wall clock is milliseconds since the Unix epoch when the frame was drawn. The check is
//! computed over the 12 bytes of rows 1 to 3 in reading order (polynomial `0x1021`, initial value
//! `0xFFFF`, no reflection, no final XOR; "123456789" gives `0x29B1`).
//!
//! To read: take the mean brightness of the middle half (in both directions) of each cell; a
//! cell is 1 when that is above the midpoint between black and white (126 of 255 in full-range
//! grey). The reading counts only when sync, check and the inverted counter all fit.
//!
//! Frame `n` of a source with `fps` frames per second is presented at `n / fps`; a frame that
//! came too late leaves its number out, so `counter - round(media time * fps)` never changes.
//!
//! # The mark
//! Below the block code, in row 4 of the same grid, tests can have each rendition's number drawn
//! into its pictures ([`draw_mark`]): columns 0-15 are `0x51D2`, columns 16-23 the number, columns
//! 24-31 the number inverted.
//!
//! # The tone
//! A quiet 220 Hz tone, with a 1 kHz beep of 100 ms at each full second of the wall clock.

/// Columns and rows of the block code.
const COLUMNS: usize = 32;
const ROWS: usize = 4;
/// A row of the code is one of this many parts of the picture's height.
const ROW_PARTS: usize = 40;
const SYNC: u16 = 0xB4E1;
const MARK_SYNC: u16 = 0x51D2;
const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// Between black and white.
const MIDDLE: u32 = 126;

/// What the block code of one picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The frame's number, from 0.
    pub counter: u32,
    /// When it was drawn, in milliseconds since the Unix epoch; 48 bits.
    pub clock_ms: u64,
}

/// Draws frames of one size as planar I420.
#[derive(Debug)]
pub struct TestCard {
    width: usize,
    height: usize,
    stride: usize,
    /// What does not move, in the layout of a frame.
    base: Vec<u8>,
    /// A wide texture of which each frame shows another window.
    texture: Vec<u8>,
}

impl TestCard {
    /// A card of this even size. Rows are padded to a multiple of `align` bytes (1 for tight
    /// rows, 4 for GStreamer's default layout).
    pub fn new(width: u32, height: u32, align: usize) -> Self {
        let (width, height) = (width as usize & !1, height as usize & !1);
        let pad = |n: usize| n.div_ceil(align) * align;
        let (stride, chroma_stride) = (pad(width), pad(width / 2));
        let mut base = vec![BLACK; stride * height];
        base.resize(stride * height + chroma_stride * height, 128);
        let (luma, chroma) = base.split_at_mut(stride * height);
        let (u, v) = chroma.split_at_mut(chroma_stride * height / 2);
        for y in height / 10..height {
            for x in 0..width {
                let shade = 40 + (x * 60 / width) + (y * 60 / height);
                luma[y * stride + x] = if (x * 16 / width + y * 9 / height) % 2 == 0 {
                    shade as u8
                } else {
                    (shade + 24) as u8
                };
            }
        }
        for y in height / 20 + 1..height / 2 {
            for x in 0..width / 2 {
                u[y * chroma_stride + x] = (100 + x * 112 / width) as u8;
                v[y * chroma_stride + x] = (156 - y * 112 / height) as u8;
            }
        }
        Self { width, height, stride, base, texture: texture(2 * width, height / 4) }
    }

    /// Bytes of one frame.
    pub fn frame_bytes(&self) -> usize {
        self.base.len()
    }

    /// Draws one frame into `frame`, which has [`Self::frame_bytes`] bytes (a shorter one is
    /// left as it is).
    pub fn draw(&self, frame: &mut [u8], reading: Reading) {
        let Some(frame) = frame.get_mut(..self.base.len()) else { return };
        frame.copy_from_slice(&self.base);
        let (width, height, n) = (self.width, self.height, reading.counter as usize);
        self.draw_texture(frame, n);
        // A box that crosses the picture once every 4 s at 30 fps, and bobs.
        let side = height / 8;
        let x = (n * width / 120) % (width - side);
        let bob = (n * 2) % (height / 4);
        self.fill(frame, x, height * 3 / 10 + bob.min(height / 4 - bob), side, side, 200);
        self.draw_code(frame, reading);
        let scale = (width / 200).max(1);
        let text = format!("FRAME {:010}", reading.counter);
        self.draw_text(frame, &text, width / 20, height * 13 / 100, scale);
        let day_ms = reading.clock_ms % 86_400_000;
        let (s, ms) = (day_ms / 1000, day_ms % 1000);
        let text = format!("{:02}:{:02}:{:02}.{ms:03} UTC", s / 3600, s / 60 % 60, s % 60);
        self.draw_text(frame, &text, width / 20, height * 13 / 100 + 10 * scale, scale);
    }

    fn draw_texture(&self, frame: &mut [u8], n: usize) {
        let shift = (n * 4) % self.width;
        let top = self.height * 7 / 10;
        for (row, source) in self.texture.chunks_exact(2 * self.width).enumerate() {
            let at = (top + row) * self.stride;
            frame[at..at + self.width].copy_from_slice(&source[shift..shift + self.width]);
        }
    }

    fn draw_code(&self, frame: &mut [u8], reading: Reading) {
        for (row, word) in code(reading).into_iter().enumerate() {
            let (y0, y1) = (row * self.height / ROW_PARTS, (row + 1) * self.height / ROW_PARTS);
            for column in 0..COLUMNS {
                let bit = word >> (COLUMNS - 1 - column) & 1;
                let (x0, x1) = (column * self.width / COLUMNS, (column + 1) * self.width / COLUMNS);
                let shade = if bit == 1 { WHITE } else { BLACK };
                self.fill(frame, x0, y0, x1 - x0, y1 - y0, shade);
            }
        }
    }

    fn draw_text(&self, frame: &mut [u8], text: &str, x: usize, y: usize, scale: usize) {
        self.fill(frame, x - scale, y - scale, (text.len() * 6 + 1) * scale, 9 * scale, BLACK);
        for (i, glyph) in text.bytes().map(glyph).enumerate() {
            for (row, bits) in glyph.into_iter().enumerate() {
                for column in (0..5).filter(|c| bits >> (4 - c) & 1 == 1) {
                    let (x, y) = (x + (i * 6 + column) * scale, y + row * scale);
                    self.fill(frame, x, y, scale, scale, WHITE);
                }
            }
        }
    }

    fn fill(&self, frame: &mut [u8], x: usize, y: usize, w: usize, h: usize, shade: u8) {
        let (x0, x1) = (x.min(self.width), (x + w).min(self.width));
        for row in y.min(self.height)..(y + h).min(self.height) {
            frame[row * self.stride + x0..row * self.stride + x1].fill(shade);
        }
    }
}

/// Draws a rendition's number into the luma of a picture.
pub fn draw_mark(luma: &mut [u8], stride: usize, width: usize, height: usize, number: u8) {
    let word = mark(number);
    let (y0, y1) = (ROWS * height / ROW_PARTS, (ROWS + 1) * height / ROW_PARTS);
    for column in 0..COLUMNS {
        let (x0, x1) = (column * width / COLUMNS, (column + 1) * width / COLUMNS);
        let shade = if word >> (COLUMNS - 1 - column) & 1 == 1 { WHITE } else { BLACK };
        for y in y0..y1 {
            if let Some(cells) = luma.get_mut(y * stride + x0..y * stride + x1) {
                cells.fill(shade);
            }
        }
    }
}

/// Reads a rendition's number from the luma of a picture of any size.
pub fn read_mark(luma: &[u8], stride: usize, width: usize, height: usize) -> Option<u8> {
    let word = read_row(luma, stride, width, height, ROWS)?;
    let number = (word >> 8) as u8;
    (word == mark(number)).then_some(number)
}

fn mark(number: u8) -> u32 {
    (u32::from(MARK_SYNC) << 16) | (u32::from(number) << 8) | u32::from(!number)
}

/// Reads the block code from the luma of a picture of any size, or `None` when it is not there
/// or not intact.
pub fn read(luma: &[u8], stride: usize, width: usize, height: usize) -> Option<Reading> {
    let mut rows = [0u32; ROWS];
    for (row, word) in rows.iter_mut().enumerate() {
        *word = read_row(luma, stride, width, height, row)?;
    }
    let counter = rows[1];
    let clock_ms = (u64::from(rows[2]) << 16) | u64::from(rows[3] >> 16);
    let reading = Reading { counter, clock_ms };
    (rows == code(reading)).then_some(reading)
}

fn read_row(luma: &[u8], stride: usize, width: usize, height: usize, row: usize) -> Option<u32> {
    let mut word = 0u32;
    for column in 0..COLUMNS {
        let (x0, x1) = middle_half(column, width, COLUMNS);
        let (y0, y1) = middle_half(row, height, ROW_PARTS);
        let (mut sum, mut count) = (0u32, 0u32);
        for y in y0..y1 {
            for shade in luma.get(y * stride + x0..y * stride + x1)? {
                sum += u32::from(*shade);
                count += 1;
            }
        }
        word = (word << 1) | u32::from(sum > MIDDLE * count);
    }
    Some(word)
}

/// The middle half of part `index` of `parts` along a side, at least one pixel.
fn middle_half(index: usize, side: usize, parts: usize) -> (usize, usize) {
    let start = (4 * index + 1) * side / (4 * parts);
    let end = (4 * index + 3) * side / (4 * parts);
    (start, end.max(start + 1))
}

fn code(reading: Reading) -> [u32; ROWS] {
    let Reading { counter, clock_ms } = reading;
    let rows = [
        counter,
        (clock_ms >> 16) as u32,
        ((clock_ms as u32 & 0xffff) << 16) | (!counter & 0xffff),
    ];
    let mut crc = 0xffffu16;
    for byte in rows.iter().flat_map(|row| row.to_be_bytes()) {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
        }
    }
    [(u32::from(SYNC) << 16) | u32::from(crc), rows[0], rows[1], rows[2]]
}

/// A pattern with detail of several sizes that repeats after half its width.
fn texture(width: usize, height: usize) -> Vec<u8> {
    let period = width / 2;
    let turn = std::f32::consts::TAU / period.max(1) as f32;
    let mut out = Vec::with_capacity(width * height);
    for y in 0..height {
        let down = y as f32 / height.max(1) as f32;
        for x in 0..width {
            let across = (x % period) as f32 * turn;
            let wave = (across * 3.0 + down * 6.0).sin()
                + (across * 17.0 - down * 21.0).sin() * 0.6
                + (across * 61.0 + down * 40.0).sin() * 0.4;
            out.push((120.0 + wave * 45.0) as u8);
        }
    }
    out
}

/// Five columns by seven rows, one byte a row.
fn glyph(letter: u8) -> [u8; 7] {
    match letter {
        b'0' => [14, 17, 19, 21, 25, 17, 14],
        b'1' => [4, 12, 4, 4, 4, 4, 14],
        b'2' => [14, 17, 1, 2, 4, 8, 31],
        b'3' => [31, 2, 4, 2, 1, 17, 14],
        b'4' => [2, 6, 10, 18, 31, 2, 2],
        b'5' => [31, 16, 30, 1, 1, 17, 14],
        b'6' => [6, 8, 16, 30, 17, 17, 14],
        b'7' => [31, 1, 2, 4, 8, 8, 8],
        b'8' => [14, 17, 17, 14, 17, 17, 14],
        b'9' => [14, 17, 17, 15, 1, 2, 12],
        b':' => [0, 12, 12, 0, 12, 12, 0],
        b'.' => [0, 0, 0, 0, 0, 12, 12],
        b'A' => [14, 17, 17, 31, 17, 17, 17],
        b'C' => [14, 17, 16, 16, 16, 17, 14],
        b'E' => [31, 16, 16, 30, 16, 16, 31],
        b'F' => [31, 16, 16, 30, 16, 16, 16],
        b'M' => [17, 27, 21, 21, 17, 17, 17],
        b'R' => [30, 17, 17, 30, 20, 18, 17],
        b'T' => [31, 4, 4, 4, 4, 4, 4],
        b'U' => [17, 17, 17, 17, 17, 17, 14],
        _ => [0; 7],
    }
}

/// Length of a beep, in microseconds.
const BEEP_US: i64 = 100_000;

/// One sample of the tone: sample number `index` at `rate` per second, when sample 0 was at
/// `wall_clock_us` since the Unix epoch.
pub fn tone(index: u64, rate: u32, wall_clock_us: i64) -> i16 {
    let seconds = index as f64 / f64::from(rate);
    let sine = |hz: f64| ((seconds * hz).fract() * std::f64::consts::TAU).sin();
    let now_us = wall_clock_us.saturating_add((seconds * 1e6).round() as i64);
    let mut value = sine(220.0) * 600.0;
    if now_us.rem_euclid(1_000_000) < BEEP_US {
        value += sine(1000.0) * 9000.0;
    }
    value as i16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(width: u32, height: u32, reading: Reading) -> Vec<u8> {
        let card = TestCard::new(width, height, 1);
        let mut frame = vec![0; card.frame_bytes()];
        card.draw(&mut frame, reading);
        frame
    }

    /// Scales by averaging all source pixels under each target pixel.
    fn averaged(luma: &[u8], (w, h): (usize, usize), (tw, th): (usize, usize)) -> Vec<u8> {
        let mut out = Vec::with_capacity(tw * th);
        for y in 0..th {
            for x in 0..tw {
                let (x0, x1) = (x * w / tw, ((x + 1) * w).div_ceil(tw));
                let (y0, y1) = (y * h / th, ((y + 1) * h).div_ceil(th));
                let sum: usize = (y0..y1)
                    .flat_map(|y| (x0..x1).map(move |x| (x, y)))
                    .map(|(x, y)| usize::from(luma[y * w + x]))
                    .sum();
                out.push((sum / ((x1 - x0) * (y1 - y0))) as u8);
            }
        }
        out
    }

    #[test]
    fn the_check_is_the_documented_crc() {
        let crc = |rows: Reading| code(rows)[0] as u16;
        // Ten zero bytes and the inverted counter; from Python's binascii.crc_hqx.
        assert_eq!(crc(Reading { counter: 0, clock_ms: 0 }), 0x99F6);
    }

    #[test]
    fn a_picture_without_the_code_reads_as_nothing() {
        let frame = drawn(640, 360, Reading { counter: 7, clock_ms: 9 });
        assert_eq!(read(&vec![128; 640 * 360], 640, 640, 360), None);
        let (_, below) = frame.split_at(640 * 36);
        assert_eq!(read(below, 640, 640, 200), None);
        assert_eq!(read(&frame[..640 * 10], 640, 640, 360), None);
    }

    #[test]
    fn a_beep_starts_at_each_full_second_of_the_wall_clock() {
        let loud =
            |from: u64| (from..from + 48).map(|i| tone(i, 48_000, 1_700_000_000_250_000).abs());
        assert!(loud(0).max() < Some(700), "a quarter past the second is quiet");
        assert!(loud(36_000).max() > Some(8000), "three quarters of a second later it beeps");
        assert!(loud(36_000 + 4_900).max() < Some(700), "for 100 ms");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn counter_and_clock_survive_scaling(counter: u32, clock in 0u64..1 << 48, size in 0usize..5) {
            let reading = Reading { counter, clock_ms: clock };
            let (w, h) = [(1280, 720), (1920, 1080), (640, 360), (854, 480), (720, 1280)][size];
            let frame = drawn(w, h, reading);
            let (w, h) = (w as usize, h as usize);
            prop_assert_eq!(read(&frame, w, w, h), Some(reading));
            for lower in [360, 240, 200] {
                let to = (w * lower / h / 2 * 2, lower);
                let small = averaged(&frame[..w * h], (w, h), to);
                prop_assert_eq!(read(&small, to.0, to.0, to.1), Some(reading), "at {:?}", to);
            }
        }
    }
}
