//! Which encoders a rung tries, in which order. Pure.

use serde::{Deserialize, Serialize};

use super::super::ipc::{FailCode, Failed};
use super::{Effort, Family, VideoEncoder, video_named};

/// Why a stream is not encoded while the hardware has room for some of its rungs only.
const USED_UP: &str = "this machine's hardware encoders do not make all qualities of this stream at \
     once beside what other streams use, and HARDWARE_ENCODER_FALLBACK is false: stop another \
     stream, choose fewer qualities, or allow software with HARDWARE_ENCODER_FALLBACK=true";

/// An encoder that works on this machine, and how far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenEncoder {
    /// The GStreamer element.
    pub element: String,
    /// How many it makes at once; `None` when no limit was found.
    #[serde(default)]
    pub sessions_max: Option<u32>,
    /// Least width and height that it was seen to take; `None` when any.
    #[serde(default)]
    pub smallest: Option<(u32, u32)>,
    /// Most width and height that it takes; `None` when no limit was found.
    #[serde(default)]
    pub largest: Option<(u32, u32)>,
    /// Pixels per second that it encodes in real time, of all its sessions together; `None` when
    /// that is the processor's affair.
    #[serde(default)]
    pub pixel_rate_max: Option<u64>,
}

/// What encoding a rung takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RungLoad {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Pixels per second.
    pub pixel_rate: u64,
}

/// One thing to try for a rung.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The encoder.
    pub encoder: &'static VideoEncoder,
    /// With how much effort.
    pub effort: Effort,
}

impl Candidate {
    /// Whether it works on a device rather than on the processor.
    pub fn is_hardware(&self) -> bool {
        self.encoder.family != Family::Software
    }
}

impl ProvenEncoder {
    /// An encoder without limits.
    pub fn unlimited(element: &str) -> Self {
        Self {
            element: element.to_owned(),
            sessions_max: None,
            smallest: None,
            largest: None,
            pixel_rate_max: None,
        }
    }

    fn takes(&self, load: RungLoad) -> bool {
        let covers = |a: (u32, u32), b: (u32, u32)| {
            // Portrait pictures are as large as the same ones on their side.
            let sorted = |(w, h): (u32, u32)| (w.max(h), w.min(h));
            let (a, b) = (sorted(a), sorted(b));
            a.0 >= b.0 && a.1 >= b.1
        };
        let size = (load.width, load.height);
        self.smallest.is_none_or(|smallest| covers(size, smallest))
            && self.largest.is_none_or(|largest| covers(largest, size))
    }
}

/// What a worker may encode with: what was proven, or, where nothing was tried, the software that
/// `installed` has. `refused` says why nothing may be encoded at all.
///
/// # Errors
/// [`FailCode::Machine`] with what to do.
pub fn usable(
    proven: &[ProvenEncoder],
    refused: Option<&str>,
    installed: impl Fn(&VideoEncoder) -> bool,
) -> Result<Vec<ProvenEncoder>, Failed> {
    if let Some(why) = refused {
        return Err(Failed { code: FailCode::Machine, message: why.to_owned() });
    }
    if !proven.is_empty() {
        return Ok(proven.to_vec());
    }
    let software: Vec<_> = super::VIDEO
        .iter()
        .filter(|e| e.family == Family::Software && installed(e))
        .map(|e| ProvenEncoder::unlimited(e.element))
        .collect();
    if software.is_empty() {
        return Err(super::missing("x264enc", "gstreamer1.0-plugins-ugly"));
    }
    Ok(software)
}

/// Per rung, what to try for it, best first. Hardware goes to the largest rungs first, where it
/// saves most; those beyond what it does at once begin with the next encoder. Elements of one family
/// share one device, and with it the limits of the first of them. Software ends at
/// x264 `ultrafast`; openh264 stands in only where x264 is missing. A rung that nothing takes gets
/// an empty list, which cannot happen while software is among the proven; see [`assign_all`].
pub fn assign(proven: &[ProvenEncoder], rungs: &[RungLoad], effort: Effort) -> Vec<Vec<Candidate>> {
    let known: Vec<_> = proven.iter().filter_map(|p| Some((p, video_named(&p.element)?))).collect();
    let has_x264 = known.iter().any(|(_, e)| e.element == "x264enc");
    // What is left of each device; each entry of `known` draws from that of its family's first.
    let mut left: Vec<(u32, u64)> = known
        .iter()
        .map(|(p, _)| (p.sessions_max.unwrap_or(u32::MAX), p.pixel_rate_max.unwrap_or(u64::MAX)))
        .collect();
    let first_of = |family| known.iter().position(|(_, e)| e.family == family).unwrap_or(0);
    let device: Vec<usize> = known.iter().map(|(_, e)| first_of(e.family)).collect();
    let mut order: Vec<usize> = (0..rungs.len()).collect();
    order.sort_by_key(|rung| std::cmp::Reverse(rungs[*rung].pixel_rate));
    let mut lists = vec![Vec::new(); rungs.len()];
    for rung in order {
        let load = rungs[rung];
        let list: &mut Vec<Candidate> = &mut lists[rung];
        // The device that this rung was given. What comes later in its list is used only when
        // that fails, and whether there is room for it then the run time sees.
        let mut given = None;
        for ((proven, encoder), device) in known.iter().zip(&device) {
            if encoder.element == "openh264enc" && has_x264 || !proven.takes(load) {
                continue;
            }
            let (sessions, pixels) = &mut left[*device];
            let has_room = *sessions > 0 && *pixels >= load.pixel_rate;
            if !has_room && given != Some(*device) {
                continue;
            }
            if given.is_none() {
                given = Some(*device);
                if encoder.family != Family::Software {
                    *sessions -= 1;
                    *pixels -= load.pixel_rate;
                }
            }
            list.push(Candidate { encoder, effort });
            if encoder.element == "x264enc" && effort != Effort::Ultrafast {
                list.push(Candidate { encoder, effort: Effort::Ultrafast });
            }
        }
    }
    lists
}

/// The same, where each rung must get something.
///
/// # Errors
/// [`FailCode::Machine`] with what to do: a rung without an encoder ends the session, and the next
/// one would fare no better. It happens where software is not among the proven.
pub fn assign_all(
    proven: &[ProvenEncoder],
    rungs: &[RungLoad],
    effort: Effort,
) -> Result<Vec<Vec<Candidate>>, Failed> {
    let lists = assign(proven, rungs, effort);
    let Some((_, load)) = lists.iter().zip(rungs).find(|(list, _)| list.is_empty()) else {
        return Ok(lists);
    };
    let message = match proven.iter().any(|p| p.takes(*load)) {
        true => USED_UP.to_owned(),
        false => format!(
            "no hardware encoder of this machine takes {} x {} pixels and \
             HARDWARE_ENCODER_FALLBACK is false: leave that quality out, or allow software with \
             HARDWARE_ENCODER_FALLBACK=true",
            load.width, load.height
        ),
    };
    Err(Failed { code: FailCode::Machine, message })
}

/// Which of a rung's candidates comes next, from `from` on. Elements of a device that hung would hang
/// too, seconds each. Software that hung is a machine too busy for it, which the next does with less;
/// with `software_only`, when no device is tried any more, it has had its chance.
pub fn next_to_try(
    candidates: &[Candidate],
    from: usize,
    hung: &[Family],
    software_only: bool,
) -> Option<usize> {
    let may = |candidate: &Candidate| {
        let has_hung = hung.contains(&candidate.encoder.family);
        match candidate.is_hardware() {
            true => !has_hung && !software_only,
            false => !has_hung || !software_only,
        }
    };
    (from..candidates.len()).find(|i| may(&candidates[*i]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LADDER: [RungLoad; 4] =
        [load(640, 360), load(1920, 1080), load(1280, 720), load(854, 480)];

    const fn load(width: u32, height: u32) -> RungLoad {
        RungLoad { width, height, pixel_rate: width as u64 * height as u64 * 30 }
    }

    fn names(proven: &[ProvenEncoder], effort: Effort) -> Vec<Vec<String>> {
        let name = |c: &Candidate| match c.effort {
            Effort::Superfast => c.encoder.element.to_owned(),
            Effort::Ultrafast => format!("{} ultrafast", c.encoder.element),
        };
        let lists = assign(proven, &LADDER, effort);
        lists.iter().map(|list| list.iter().map(name).collect()).collect()
    }

    #[test]
    fn software_alone_ends_at_x264_ultrafast() {
        let software = ["x264enc", "openh264enc"].map(ProvenEncoder::unlimited);
        for list in names(&software, Effort::Superfast) {
            assert_eq!(list, ["x264enc", "x264enc ultrafast"]);
        }
        for list in names(&software, Effort::Ultrafast) {
            assert_eq!(list, ["x264enc ultrafast"]);
        }
        for list in names(&software[1..], Effort::Superfast) {
            assert_eq!(list, ["openh264enc"]);
        }
    }

    #[test]
    fn the_largest_rungs_get_the_sessions_that_hardware_has() {
        let card = ProvenEncoder { sessions_max: Some(2), ..ProvenEncoder::unlimited("nvh264enc") };
        let lists = names(&[card, ProvenEncoder::unlimited("x264enc")], Effort::Superfast);
        let with = ["nvh264enc", "x264enc", "x264enc ultrafast"];
        assert_eq!(lists, [with[1..].to_vec(), with.to_vec(), with.to_vec(), with[1..].to_vec()]);
    }

    #[test]
    fn two_elements_of_one_card_share_its_sessions() {
        let card =
            |element| ProvenEncoder { sessions_max: Some(1), ..ProvenEncoder::unlimited(element) };
        let proven =
            [card("nvcudah264enc"), card("nvh264enc"), ProvenEncoder::unlimited("x264enc")];
        let lists = names(&proven, Effort::Ultrafast);
        assert_eq!(
            lists[1],
            ["nvcudah264enc ultrafast", "nvh264enc ultrafast", "x264enc ultrafast"]
        );
        for rung in [0, 2, 3] {
            assert_eq!(lists[rung], ["x264enc ultrafast"]);
        }
    }

    #[test]
    fn hardware_is_given_no_more_than_it_encodes_in_real_time() {
        let rate = LADDER[1].pixel_rate + LADDER[0].pixel_rate;
        let chip =
            ProvenEncoder { pixel_rate_max: Some(rate), ..ProvenEncoder::unlimited("vah264enc") };
        let lists = names(&[chip, ProvenEncoder::unlimited("x264enc")], Effort::Superfast);
        let first: Vec<_> = lists.iter().map(|list| list[0].as_str()).collect();
        assert_eq!(first, ["vah264enc", "vah264enc", "x264enc", "x264enc"]);
    }

    #[test]
    fn a_size_that_an_encoder_refused_is_not_asked_of_it() {
        let chip = ProvenEncoder {
            smallest: Some((640, 480)),
            largest: Some((1280, 720)),
            ..ProvenEncoder::unlimited("v4l2h264enc")
        };
        let chips = [chip.clone(), ProvenEncoder::unlimited("x264enc")];
        let lists = names(&chips, Effort::Superfast);
        let first: Vec<_> = lists.iter().map(|list| list[0].as_str()).collect();
        assert_eq!(first, ["x264enc", "x264enc", "v4l2h264enc", "v4l2h264enc"]);
        assert!(chip.takes(load(720, 1280)), "a phone held upright");
    }

    #[test]
    fn without_a_trial_installed_software_is_used_and_nothing_else() {
        let found = usable(&[], None, |e| e.element != "x264enc").expect("openh264 is there");
        assert_eq!(found, [ProvenEncoder::unlimited("openh264enc")]);
        let failed = usable(&[], None, |_| false).expect_err("nothing is there");
        assert!(failed.message.contains("gstreamer1.0-plugins-ugly"), "{}", failed.message);
        let proven = [ProvenEncoder::unlimited("nvh264enc")];
        assert_eq!(usable(&proven, None, |_| false).expect("proven"), proven);
    }

    #[test]
    fn a_rung_that_no_hardware_makes_is_the_machines_fault_where_software_is_not_allowed() {
        let card = ProvenEncoder { sessions_max: Some(3), ..ProvenEncoder::unlimited("nvh264enc") };
        let why = |card: &ProvenEncoder| {
            let proven = std::slice::from_ref(card);
            let failed = assign_all(proven, &LADDER, Effort::Superfast).expect_err("four rungs");
            assert_eq!(failed.code, FailCode::Machine);
            assert!(failed.message.contains("HARDWARE_ENCODER_FALLBACK=true"), "{failed:?}");
            failed.message
        };
        assert!(why(&card).contains("beside what other streams use"), "partly taken");
        let small = ProvenEncoder { largest: Some((1280, 720)), ..card.clone() };
        assert!(why(&small).contains("takes 1920 x 1080 pixels"), "{}", why(&small));
        let proven = [card, ProvenEncoder::unlimited("x264enc")];
        let lists = assign_all(&proven, &LADDER, Effort::Superfast).expect("software makes it");
        assert!(lists.iter().all(|list| !list.is_empty()));
    }

    #[test]
    fn after_a_hang_the_elements_of_that_device_are_left_out_and_software_never_is() {
        let names = ["nvcudah264enc", "nvh264enc", "vah264enc", "x264enc"];
        let proven = names.map(ProvenEncoder::unlimited);
        let list = assign(&proven, &LADDER[..1], Effort::Superfast).remove(0);
        let next = |from, hung: &[Family], software_only| {
            let next = next_to_try(&list, from, hung, software_only).map(|i| &list[i]);
            next.map(|c| (c.encoder.element, c.effort))
        };
        let (nvidia, software) = ([Family::Nvidia], [Family::Software]);
        assert_eq!(next(1, &[], false), Some(("nvh264enc", Effort::Superfast)));
        assert_eq!(next(1, &nvidia, false), Some(("vah264enc", Effort::Superfast)));
        assert_eq!(next(1, &nvidia, true), Some(("x264enc", Effort::Superfast)));
        assert_eq!(next(4, &software, false), Some(("x264enc", Effort::Ultrafast)), "it is less");
        assert_eq!(next(4, &software, true), None, "it hangs too");
        assert_eq!(next(5, &[], false), None);
    }

    #[test]
    fn a_refusal_is_the_machines_fault_and_says_why() {
        let failed = usable(&[], Some("why"), |_| true).expect_err("refused");
        assert_eq!((failed.code, failed.message.as_str()), (FailCode::Machine, "why"));
    }

    proptest! {
        #[test]
        fn every_rung_ends_with_x264_and_no_limit_is_exceeded(
            sessions in 0u32..5, rate in 0u64..200_000_000, sides in proptest::collection::vec(16u32..4000, 0..8),
        ) {
            let card = ProvenEncoder {
                sessions_max: Some(sessions),
                pixel_rate_max: Some(rate),
                ..ProvenEncoder::unlimited("qsvh264enc")
            };
            let rungs: Vec<_> = sides.iter().map(|side| load(*side, *side)).collect();
            let proven = [card, ProvenEncoder::unlimited("x264enc")];
            let lists = assign(&proven, &rungs, Effort::Superfast);
            prop_assert_eq!(lists.len(), rungs.len());
            let mut used = (0, 0);
            for (list, rung) in lists.iter().zip(&rungs) {
                let last = list.last().expect("x264 takes everything");
                prop_assert_eq!((last.encoder.element, last.effort), ("x264enc", Effort::Ultrafast));
                if list[0].encoder.element == "qsvh264enc" {
                    used = (used.0 + 1, used.1 + rung.pixel_rate);
                }
            }
            prop_assert!(used.0 <= sessions && used.1 <= rate);
        }
    }
}
