//! Whether what an operator chose for single qualities can be: the same for a stream that is made
//! and for one that runs. Pure.

use common::id::RenditionId;
use common::limit::RENDITIONS_MAX;
use common::rendition::{
    Kind, Ladder, NamedLadder, RungChoice, SOURCE_ID, default_audio, preset_named,
};

use crate::resource::quality::{QualityChoice, QualitySettings};

/// What is known of a stream's qualities.
#[derive(Clone, Copy, Debug)]
pub struct Qualities<'a> {
    /// Its ladder.
    pub ladder: &'a Ladder,
    /// What was chosen before.
    pub chosen: &'a QualitySettings,
    /// What its session makes; nothing before the first.
    pub made: &'a [Made],
}

/// A rendition of a stream's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its id.
    pub id: RenditionId,
    /// What it is.
    pub kind: Kind,
    /// Whether its encoder failed for good.
    pub failed: bool,
}

/// Why a choice cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// The stream has no such quality.
    #[error("the stream has no quality {0}")]
    Unknown(RenditionId),
    /// Only video is switched.
    #[error("{0} is not a video quality: audio is always made")]
    NotVideo(RenditionId),
    /// Nothing would be left.
    #[error("{0} is the last that the stream has: stop the stream instead")]
    Last(RenditionId),
    /// A list that only grows.
    #[error("{RENDITIONS_MAX} qualities are the most")]
    TooMany,
}

impl Qualities<'_> {
    /// Whether `change` of one quality can be.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check(&self, id: &RenditionId, change: QualityChoice) -> Result<(), ChoiceError> {
        let made = self.made.iter().find(|made| made.id == *id);
        let is_sound = match made {
            Some(made) => made.kind != Kind::Video,
            None => default_audio().iter().any(|tier| tier.id == *id),
        };
        if is_sound {
            return Err(ChoiceError::NotVideo(id.clone()));
        }
        if made.is_none() && !names(self.ladder, id) {
            return Err(ChoiceError::Unknown(id.clone()));
        }
        if !self.chosen.contains_key(id) && self.chosen.len() >= RENDITIONS_MAX {
            return Err(ChoiceError::TooMany);
        }
        let is_on = |other: &Made| {
            let chosen = self.chosen.get(&other.id).copied().unwrap_or_default();
            other.kind == Kind::Audio || chosen.enabled != Some(false)
        };
        // What has failed shows nobody anything.
        let rest = |other: &Made| other.id != *id && !other.failed && is_on(other);
        let is_last = !self.made.is_empty() && !self.made.iter().any(rest);
        if change.enabled == Some(false) && is_last {
            return Err(ChoiceError::Last(id.clone()));
        }
        Ok(())
    }
}

/// Checks every choice for a stream that is to be made.
///
/// # Errors
/// When one cannot be.
pub fn check_all(ladder: &Ladder, chosen: &QualitySettings) -> Result<(), ChoiceError> {
    let mut before = QualitySettings::new();
    for (id, choice) in chosen {
        Qualities { ladder, chosen: &before, made: &[] }.check(id, *choice)?;
        before.insert(id.clone(), *choice);
    }
    Ok(())
}

/// Whether the ladder has a rung of that name.
fn names(ladder: &Ladder, id: &RenditionId) -> bool {
    match ladder {
        Ladder::Named(NamedLadder::Passthrough) => id.as_str() == SOURCE_ID,
        Ladder::Named(NamedLadder::Auto) => preset_named(id.as_str()).is_some(),
        Ladder::Rungs(rungs) => rungs.iter().any(|rung| match rung {
            RungChoice::Preset(name) => name == id.as_str(),
            RungChoice::Own(rung) => rung.id == *id,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: QualityChoice =
        QualityChoice { enabled: Some(false), encode: None, priority: None, memory_mb: None };

    fn id(text: &str) -> RenditionId {
        text.parse().expect("an id")
    }

    fn made(of: &str, kind: Kind, failed: bool) -> Made {
        Made { id: id(of), kind, failed }
    }

    #[test]
    fn only_video_that_the_ladder_names_or_the_session_makes_is_chosen() {
        let chosen = QualitySettings::new();
        let ladder = Ladder::Rungs(vec![RungChoice::Preset("720p".into())]);
        let of = |made| Qualities { ladder: &ladder, chosen: &chosen, made };
        assert_eq!(of(&[]).check(&id("720p"), OFF), Ok(()));
        assert_eq!(of(&[]).check(&id("480p"), OFF), Err(ChoiceError::Unknown(id("480p"))));
        let others = [made("480p", Kind::Video, false), made("720p", Kind::Video, false)];
        assert_eq!(of(&others).check(&id("480p"), OFF), Ok(()), "the session makes it");
        for tier in default_audio() {
            let sound = Err(ChoiceError::NotVideo(tier.id.clone()));
            assert_eq!(of(&[]).check(&tier.id, OFF), sound, "before the first session as well");
        }
    }

    #[test]
    fn the_last_that_works_stays_and_what_has_failed_does_not_count() {
        let ladder = Ladder::Named(NamedLadder::Auto);
        let chosen = QualitySettings::from([(id("360p"), OFF)]);
        let may_go = |session: &[Made]| {
            Qualities { ladder: &ladder, chosen: &chosen, made: session }.check(&id("720p"), OFF)
        };
        let (this, off) = (made("720p", Kind::Video, false), made("360p", Kind::Video, false));
        let last = Err(ChoiceError::Last(id("720p")));
        assert_eq!(may_go(&[this.clone(), off.clone()]), last, "the other is off");
        let broken = made("480p", Kind::Video, true);
        assert_eq!(may_go(&[this.clone(), off, broken]), last, "the other has failed");
        let works = made("480p", Kind::Video, false);
        assert_eq!(may_go(&[this.clone(), works]), Ok(()));
        assert_eq!(may_go(&[this.clone(), made("a", Kind::Audio, false)]), Ok(()), "sound is left");
        assert_eq!(may_go(&[this, made("a", Kind::Audio, true)]), last);
        assert_eq!(may_go(&[]), Ok(()), "nothing is on the air");
    }

    #[test]
    fn what_is_chosen_is_as_much_as_a_stream_can_have() {
        let ladder = Ladder::Named(NamedLadder::Auto);
        let chosen: QualitySettings =
            (0..RENDITIONS_MAX).map(|i| (id(&format!("q{i}")), OFF)).collect();
        let full = Qualities { ladder: &ladder, chosen: &chosen, made: &[] };
        assert_eq!(full.check(&id("720p"), OFF), Err(ChoiceError::TooMany));
    }
}
