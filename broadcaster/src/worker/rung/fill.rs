//! Pictures that are shown again, and which of those that wait for an encoder are such. Pure.

use std::collections::VecDeque;

/// Pictures further apart than this have others between them, in nanoseconds: parts of half a second
/// may differ by 82 ms.
const GAP_NS_MAX: u64 = 75_000_000;

/// How far pictures that fill a gap are apart at most, in nanoseconds: two frames of 30.
const REPEAT_EVERY_NS: u64 = 67_000_000;

/// A gap from here on is a hole in the source, in nanoseconds.
const HOLE_NS_MIN: u64 = 500_000_000;

/// When a picture is shown again because the next one comes late: a machine that is too slow leaves
/// pictures out, and without others in their place no part could end where it should (hls.md: parts
/// of 85 to 100 % of PART-TARGET). What did not change costs an encoder next to nothing.
pub(super) fn repeats(before_ns: u64, next_ns: u64) -> impl Iterator<Item = u64> {
    let gap_ns = next_ns.saturating_sub(before_ns);
    let wanted = if (GAP_NS_MAX..HOLE_NS_MIN).contains(&gap_ns) {
        gap_ns.div_ceil(REPEAT_EVERY_NS)
    } else {
        1
    };
    (1..wanted).map(move |i| before_ns + i * gap_ns / wanted)
}

/// Which of the newest pictures that an encoder was handed are repeats.
#[derive(Debug)]
pub(super) struct Handed {
    repeats: VecDeque<bool>,
    max: usize,
}

impl Handed {
    /// Remembers so many pictures: as many as may wait.
    pub(super) fn new(max: u64) -> Self {
        Self { repeats: VecDeque::new(), max: max as usize }
    }

    /// A picture was handed over.
    pub(super) fn add(&mut self, is_repeat: bool) {
        self.repeats.push_back(is_repeat);
        if self.repeats.len() > self.max {
            self.repeats.pop_front();
        }
    }

    /// How many of the `waiting` newest came from the source. What is not remembered did.
    pub(super) fn of_source(&self, waiting: u64) -> u64 {
        let newest = self.repeats.iter().rev().take(waiting as usize);
        waiting - newest.filter(|is_repeat| **is_repeat).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_filled_evenly_and_a_hole_or_a_slow_source_is_left_alone() {
        let ms = |before: u64, next: u64| -> Vec<u64> {
            repeats(before * 1_000_000, next * 1_000_000).map(|ns| ns / 1_000_000).collect()
        };
        assert!(ms(0, 33).is_empty() && ms(0, 66).is_empty());
        assert_eq!(ms(1_000, 1_100), [1_050]);
        assert_eq!(ms(0, 200), [66, 133]);
        assert_eq!(ms(0, 499).len(), 7);
        assert!(ms(0, 500).is_empty() && ms(500, 0).is_empty());
    }

    #[test]
    fn repeats_that_wait_do_not_count_as_pictures_of_the_source() {
        let mut handed = Handed::new(4);
        assert_eq!((handed.of_source(0), handed.of_source(3)), (0, 3));
        for is_repeat in [true, false, true, true, false] {
            handed.add(is_repeat);
        }
        let of_source: Vec<_> = (0..=4).map(|waiting| handed.of_source(waiting)).collect();
        assert_eq!(of_source, [0, 1, 1, 1, 2]);
        assert_eq!(handed.of_source(6), 4, "what is not remembered came from the source");
    }
}
