//! New encoders whose configuration comes when the barrier that awaited it has fallen: what they
//! make would be played with the init segment of the one before. Their frames are left out until a
//! boundary of their own. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Renditions that wait for a boundary, by number.
#[derive(Debug, Default)]
pub struct Late {
    /// Their configurations.
    waiting: BTreeMap<usize, Bytes>,
    /// The segments that those begin with whose boundary is set.
    begins: BTreeMap<usize, u32>,
}

impl Late {
    /// A rendition's configuration came late.
    pub fn add(&mut self, rendition: usize, config: Bytes) {
        self.begins.remove(&rendition);
        self.waiting.insert(rendition, config);
    }

    /// Its encoder is gone.
    pub fn forget(&mut self, rendition: usize) {
        self.begins.remove(&rendition);
        self.waiting.remove(&rendition);
    }

    /// Whether any waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All that wait begin with `segment`. Gives their configurations.
    pub fn begin(&mut self, segment: u32) -> BTreeMap<usize, Bytes> {
        let waiting = std::mem::take(&mut self.waiting);
        self.begins.extend(waiting.keys().map(|rendition| (*rendition, segment)));
        waiting
    }

    /// Whether a frame of `segment` is left out.
    pub fn leaves_out(&mut self, rendition: usize, segment: u32) -> bool {
        if self.waiting.contains_key(&rendition) {
            return true;
        }
        match self.begins.get(&rendition) {
            Some(begins) if segment < *begins => true,
            _ => {
                self.begins.remove(&rendition);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_left_out_until_the_boundary_that_is_set_for_them() {
        let mut late = Late::default();
        assert!(!late.leaves_out(0, 3));
        late.add(0, Bytes::from_static(b"config"));
        assert!(late.leaves_out(0, 3) && late.leaves_out(0, 9), "no boundary is set");
        assert!(!late.leaves_out(1, 3), "others go on");
        assert_eq!(late.begin(5), BTreeMap::from([(0, Bytes::from_static(b"config"))]));
        assert!(late.is_empty() && late.leaves_out(0, 4));
        assert!(!late.leaves_out(0, 5) && !late.leaves_out(0, 6));
    }

    #[test]
    fn an_encoder_that_fails_while_it_waits_is_waited_for_no_more() {
        let mut late = Late::default();
        late.add(0, Bytes::new());
        late.forget(0);
        assert!(late.is_empty() && !late.leaves_out(0, 0));
    }
}
