//! What of a playlist these tests look at.

use std::collections::BTreeSet;

/// A media playlist.
pub(crate) struct Playlist {
    pub(crate) first_msn: u64,
    pub(crate) first_discontinuity: u64,
    pub(crate) segments: Vec<Segment>,
}

/// A whole segment.
pub(crate) struct Segment {
    pub(crate) msn: u64,
    /// The discontinuity sequence at this segment.
    pub(crate) discontinuity: u64,
    pub(crate) date: String,
    /// Its init segment.
    pub(crate) map: String,
    pub(crate) uri: String,
}

impl Playlist {
    pub(crate) fn parse(text: &str) -> Self {
        let number = |tag: &str| -> u64 {
            let value = text.lines().find_map(|line| line.strip_prefix(tag));
            value.map_or(0, |value| value.parse().unwrap())
        };
        let first_msn = number("#EXT-X-MEDIA-SEQUENCE:");
        let first_discontinuity = number("#EXT-X-DISCONTINUITY-SEQUENCE:");
        let (mut discontinuity, mut date, mut map) =
            (first_discontinuity, String::new(), String::new());
        let mut segments = Vec::new();
        for line in text.lines() {
            if line == "#EXT-X-DISCONTINUITY" {
                discontinuity += 1;
            } else if let Some(value) = line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
                date = value.to_owned();
            } else if let Some(value) = line.strip_prefix("#EXT-X-MAP:URI=\"") {
                map = value.split('"').next().unwrap().to_owned();
            } else if !line.starts_with('#') && !line.is_empty() {
                let msn = first_msn + segments.len() as u64;
                let (date, map, uri) = (date.clone(), map.clone(), line.to_owned());
                segments.push(Segment { msn, discontinuity, date, map, uri });
            }
        }
        Self { first_msn, first_discontinuity, segments }
    }

    /// Its segments of one session, which is part of every address.
    pub(crate) fn of_session(&self, session: u64) -> Vec<&Segment> {
        let of = |segment: &&Segment| segment.uri.split('/').any(|p| p == session.to_string());
        self.segments.iter().filter(of).collect()
    }
}

/// The media playlists that a multivariant playlist names.
pub(crate) fn listed(master: &str) -> BTreeSet<String> {
    let plain = master.lines().filter(|line| !line.starts_with('#'));
    let quoted = master.lines().filter_map(|line| line.split_once("URI=\"")?.1.split('"').next());
    plain.chain(quoted).filter_map(|uri| Some(uri.split_once('/')?.0.to_owned())).collect()
}
