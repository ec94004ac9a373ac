//! What other streams leave of this machine's hardware encoders: a card's limits are the card's,
//! however many workers share it. Pure.

use super::Told;
use crate::worker::encoder::choice::ProvenEncoder;
use crate::worker::encoder::{Family, video_named};
use crate::worker::ipc::MadeRendition;

/// Why nothing may be encoded while other streams have all of the hardware.
const TAKEN: &str = "other streams use all that this machine's hardware encoders make at once and \
     HARDWARE_ENCODER_FALLBACK is false: stop one of them, or allow software with \
     HARDWARE_ENCODER_FALLBACK=true";

impl Told {
    /// What is left for one more worker beside those that make `others`. Two that start at the same
    /// moment do not know of each other yet: what fails to open is then replaced like any other,
    /// and what is too slow is degraded. To keep all that was told for the first would send the
    /// second to software, or refuse it, for a moment that passes.
    pub fn beside<'a>(mut self, others: impl IntoIterator<Item = &'a MadeRendition>) -> Self {
        for made in others {
            let Some(family) = hardware(&made.encoder) else { continue };
            // As the worker that asks reckons for itself, where a source does not say.
            let (fps, per) = if made.fps.0 == 0 { (30, 1) } else { made.fps };
            let pixels = u64::from(made.width) * u64::from(made.height);
            let pixel_rate = pixels * u64::from(fps) / u64::from(per.max(1));
            // Elements of one family share one device.
            for encoder in self.encoders.iter_mut().filter(|e| hardware(&e.element) == Some(family))
            {
                let (sessions, rate) = (encoder.sessions_max, encoder.pixel_rate_max);
                encoder.sessions_max = sessions.map(|max| max.saturating_sub(1));
                encoder.pixel_rate_max = rate.map(|max| max.saturating_sub(pixel_rate));
            }
        }
        let is_taken = |e: &ProvenEncoder| e.sessions_max == Some(0) || e.pixel_rate_max == Some(0);
        if !self.encoders.is_empty() && self.encoders.iter().all(is_taken) {
            self.refused.get_or_insert_with(|| TAKEN.to_owned());
        }
        self
    }
}

/// Whose device an element works on; `None` for the processor.
fn hardware(element: &str) -> Option<Family> {
    video_named(element).map(|e| e.family).filter(|family| *family != Family::Software)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn made(encoder: &str) -> MadeRendition {
        MadeRendition { encoder: encoder.into(), ..testing::made("720p") }
    }

    fn told(encoders: &[ProvenEncoder]) -> Told {
        Told { encoders: encoders.to_vec(), refused: None }
    }

    fn card(element: &str) -> ProvenEncoder {
        let pixel_rate_max = Some(4 * 1280 * 720 * 30);
        let unlimited = ProvenEncoder::unlimited(element);
        ProvenEncoder { sessions_max: Some(3), pixel_rate_max, ..unlimited }
    }

    #[test]
    fn what_other_streams_encode_on_a_card_is_not_there_for_one_more() {
        let all =
            told(&[card("nvh264enc"), card("vah264enc"), ProvenEncoder::unlimited("x264enc")]);
        let others = ["nvh264enc", "x264enc", "nvh264enc", "passthrough"].map(made);
        let left = all.clone().beside(&others);
        assert_eq!(left.encoders[0].sessions_max, Some(1));
        assert_eq!(left.encoders[0].pixel_rate_max, Some(2 * 1280 * 720 * 30));
        assert_eq!(left.encoders[1..], all.encoders[1..], "another device, and the processor");
        assert_eq!(left.refused, None);
        assert_eq!(all.clone().beside(&[]), all);
    }

    #[test]
    fn what_has_no_frame_rate_takes_as_much_as_the_usual_one() {
        let unsaid = MadeRendition { fps: (0, 1), ..made("nvh264enc") };
        let all = told(&[card("nvh264enc")]);
        assert_eq!(all.clone().beside(&[unsaid]), all.beside(&[made("nvh264enc")]));
    }

    #[test]
    fn elements_of_one_device_share_its_limits() {
        let left = told(&[card("qsvh264enc"), card("vah264enc")]).beside(&[made("vah264enc")]);
        assert!(left.encoders.iter().all(|e| e.sessions_max == Some(2)));
    }

    #[test]
    fn a_card_that_is_full_leaves_software_or_a_reason() {
        let others = vec![made("nvh264enc"); 5];
        let software = ProvenEncoder::unlimited("x264enc");
        let left = told(&[card("nvh264enc"), software]).beside(&others);
        assert_eq!((left.encoders[0].sessions_max, left.refused), (Some(0), None));
        let left = told(&[card("nvh264enc")]).beside(&others);
        assert!(left.refused.is_some_and(|why| why.contains("HARDWARE_ENCODER_FALLBACK")));
        assert_eq!(told(&[]).beside(&others), told(&[]), "what is installed is used");
    }
}
