//! The rules: their stable names, what each asks for, and where it comes from.

use std::fmt;

macro_rules! rules {
    ($($rule:ident $name:literal $source:literal $asks:literal;)*) => {
        /// One rule that a server can break. Names are stable: scripts match on them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $asks] $rule,)*
        }

        /// Every rule, in the order of the catalogue.
        pub const RULES: &[Rule] = &[$(Rule::$rule,)*];

        impl Rule {
            /// The name that reports carry.
            pub fn name(self) -> &'static str {
                match self { $(Rule::$rule => $name,)* }
            }

            /// What the rule asks for, in one line.
            pub fn asks(self) -> &'static str {
                match self { $(Rule::$rule => $asks,)* }
            }

            /// Where the rule comes from: a section of RFC 8216, of its successor
            /// draft-pantos-hls-rfc8216bis ("bis"), Apple's authoring notes, or hls.md.
            pub fn source(self) -> &'static str {
                match self { $(Rule::$rule => $source,)* }
            }
        }
    };
}

rules! {
    // One playlist by itself.
    PlaylistSyntax "playlist-syntax" "RFC 8216 4; bis 4.4"
        "a playlist parses: known tags carry the attributes they need, in the right form";
    LowLatencyMissing "low-latency-missing" "bis 4.4.3.7-8, Appendix B"
        "a live playlist has EXT-X-PART-INF and EXT-X-SERVER-CONTROL with CAN-BLOCK-RELOAD=YES";
    SegmentTooLong "segment-too-long" "RFC 8216 4.3.3.1"
        "every EXTINF, rounded to whole seconds, is at most EXT-X-TARGETDURATION";
    PartTooLong "part-too-long" "bis 4.4.4.9"
        "every part lasts at most PART-TARGET";
    PartTooShort "part-too-short" "bis 4.4.4.9"
        "parts last at least 85 % of PART-TARGET, but for a segment's last and where no frame fits";
    PartsSumDiffers "parts-sum-differs" "bis 4.4.4.9; hls.md Always"
        "the durations of a segment's parts add up to its EXTINF within one frame";
    PartHoldBack "part-hold-back" "bis 4.4.3.8; hls.md Low latency"
        "PART-HOLD-BACK is given and is at least 3 x PART-TARGET";
    HoldBack "hold-back" "bis 4.4.3.8"
        "HOLD-BACK, where given, is at least 3 x EXT-X-TARGETDURATION";
    CanSkipUntil "can-skip-until" "bis 4.4.3.8"
        "CAN-SKIP-UNTIL is given and is at least 6 x EXT-X-TARGETDURATION";
    PartsListedTooBriefly "parts-listed-too-briefly" "bis 6.2.2; hls.md Low latency"
        "parts stay listed while they are within 3 target durations of the live edge";
    PartsListedTooLong "parts-listed-too-long" "bis 6.2.2; hls.md Low latency"
        "older segments are listed whole, without their parts";
    ProgramDateTimeMissing "program-date-time-missing" "hls.md Always"
        "every segment has an EXT-X-PROGRAM-DATE-TIME";
    ProgramDateTimeWrong "program-date-time-wrong" "RFC 8216 4.3.2.6; hls.md Always"
        "dates follow the durations inside a session, never go back, and are not in the future";
    MapMissing "map-missing" "RFC 8216 4.3.2.5"
        "every fragmented MP4 segment has an EXT-X-MAP in force";
    FirstPartNotIndependent "first-part-not-independent" "bis 4.4.4.9; hls.md Always"
        "the first part of every video segment is marked INDEPENDENT=YES";
    WindowTooShort "window-too-short" "RFC 8216 6.2.2"
        "no segment is removed when less than 3 target durations would stay listed";

    // One rendition's playlist over time.
    MsnDecreased "msn-decreased" "RFC 8216 6.2.2; hls.md Always"
        "EXT-X-MEDIA-SEQUENCE never decreases, across reconnects and restarts too";
    DiscontinuitySequenceDecreased "discontinuity-sequence-decreased" "RFC 8216 6.2.2"
        "EXT-X-DISCONTINUITY-SEQUENCE never decreases";
    DiscontinuitySequenceWrong "discontinuity-sequence-wrong" "RFC 8216 6.2.1, 6.2.2"
        "a segment keeps its discontinuity number as the window slides";
    SegmentChanged "segment-changed" "RFC 8216 6.2.1"
        "a listed segment keeps its URI, duration, date, map and flags";
    PartChanged "part-changed" "RFC 8216 6.2.1; bis 6.2.1"
        "a listed part keeps its URI, duration and flags";
    PlaylistRewritten "playlist-rewritten" "RFC 8216 6.2.1"
        "lines are removed only at the start of a playlist and added only at its end";
    TargetDurationChanged "target-duration-changed" "RFC 8216 6.2.1"
        "EXT-X-TARGETDURATION stays the same for the life of the stream";
    PartTargetChanged "part-target-changed" "bis 4.4.3.7; hls.md Low latency"
        "PART-TARGET stays the same for the life of the stream";
    ServerControlChanged "server-control-changed" "bis 4.4.3.8"
        "EXT-X-SERVER-CONTROL stays the same for the life of the stream";
    MapChangedWithoutDiscontinuity "map-changed-without-discontinuity" "RFC 8216 4.3.2.3; hls.md Always"
        "the first segment with a new EXT-X-MAP has an EXT-X-DISCONTINUITY";
    UriReused "uri-reused" "RFC 8216 6.2.1; architecture.md 4"
        "one URI names one segment or part for ever";
    EndedThenContinued "ended-then-continued" "RFC 8216 6.2.1; hls.md Always"
        "a playlist with EXT-X-ENDLIST does not change any more";
    PreloadHintMissing "preload-hint-missing" "bis 4.4.5.3"
        "the next part of a session is announced by EXT-X-PRELOAD-HINT";
    PreloadHintWrong "preload-hint-wrong" "bis 4.4.5.3"
        "the part that was hinted is the part that comes next";
    PlaylistStuck "playlist-stuck" "RFC 8216 6.2.2; hls.md Sessions"
        "a playlist without EXT-X-ENDLIST changes, or ends, once the grace period is over";
    PartListedLate "part-listed-late" "bis 6.2.2; hls.md Low latency"
        "a part is listed within one part duration of being complete";

    // Renditions compared with each other.
    RenditionBehind "rendition-behind" "RFC 8216 6.2.4; hls.md Sessions"
        "every rendition in the multivariant playlist advances with the others";
    TargetDurationDiffers "target-duration-differs" "RFC 8216 6.2.4"
        "all renditions have the same EXT-X-TARGETDURATION";
    ServerControlDiffers "server-control-differs" "bis 6.2.4; hls.md Always"
        "all renditions have the same EXT-X-SERVER-CONTROL and EXT-X-PART-INF";
    DiscontinuityDiffers "discontinuity-differs" "RFC 8216 6.2.4"
        "a media sequence number has the same discontinuity number in every rendition";
    SegmentBoundaryDiffers "segment-boundary-differs" "RFC 8216 6.2.4; hls.md Always"
        "a segment begins at the same date and presentation time in every rendition, within a frame";
    MapUnchangedAtDiscontinuity "map-unchanged-at-discontinuity" "hls.md Always"
        "a discontinuity comes with a new EXT-X-MAP on at least one rendition";
    RenditionReportMissing "rendition-report-missing" "bis 4.4.5.4"
        "a live playlist has an EXT-X-RENDITION-REPORT for every other rendition";
    RenditionReportWrong "rendition-report-wrong" "bis 4.4.5.4"
        "a rendition report names the last part of that rendition, neither old nor invented";

    // The multivariant playlist and what it says about the media.
    VariantAttributeMissing "variant-attribute-missing" "RFC 8216 4.3.4.2; hls.md Always"
        "variants have BANDWIDTH, AVERAGE-BANDWIDTH, CODECS, and for video RESOLUTION, FRAME-RATE";
    AudioNotApart "audio-not-apart" "hls.md Always"
        "audio is a rendition of its own: a playlist's media has one track";
    CodecsWrong "codecs-wrong" "RFC 8216 4.3.4.2, RFC 6381"
        "CODECS names the codecs of the init segments";
    ResolutionWrong "resolution-wrong" "RFC 8216 4.3.4.2"
        "RESOLUTION is the size in the init segment";
    FrameRateWrong "frame-rate-wrong" "RFC 8216 4.3.4.2"
        "FRAME-RATE is the largest frame rate of the media";
    BandwidthExceeded "bandwidth-exceeded" "RFC 8216 4.1, 4.3.4.2"
        "BANDWIDTH covers the measured peak segment bit rate";
    AverageBandwidthExceeded "average-bandwidth-exceeded" "RFC 8216 4.3.4.2; Apple authoring 9.15"
        "the measured average is within 110 % of AVERAGE-BANDWIDTH, which is at most BANDWIDTH";
    ListedPlaylistMissing "listed-playlist-missing" "RFC 8216 6.2.4; hls.md Sessions"
        "every playlist that the multivariant playlist lists can be fetched";

    // The media itself.
    MediaUnreadable "media-unreadable" "RFC 8216 3.3"
        "init segments, segments and parts are well-formed fragmented MP4";
    SegmentNotIdr "segment-not-idr" "hls.md Always"
        "every video segment begins with an IDR frame";
    SegmentDurationWrong "segment-duration-wrong" "RFC 8216 4.3.2.1"
        "a segment's media lasts as long as its EXTINF says, within one frame";
    PartDurationWrong "part-duration-wrong" "bis 4.4.4.9"
        "a part's media lasts as long as its DURATION says, within one frame";
    IndependentFlagWrong "independent-flag-wrong" "bis 4.4.4.9"
        "a part marked INDEPENDENT=YES begins with a frame that can be decoded alone";
    MediaTimelineBroken "media-timeline-broken" "RFC 8216 3, 4.3.2.3"
        "inside a session each segment's media begins where the one before it ended";
    AudioBoundaryWrong "audio-boundary-wrong" "hls.md Always"
        "audio is cut at the first frame at or after the video boundary";
    SegmentBytesDiffer "segment-bytes-differ" "bis 4.4.4.9"
        "a segment is its parts, one after the other";
    UriContentChanged "uri-content-changed" "RFC 8216 6.2.1; architecture.md 4"
        "a URI always answers the same bytes";
    ListedUriMissing "listed-uri-missing" "RFC 8216 6.2.1; hls.md Always"
        "every listed segment, part and init can be fetched; a missing one is EXT-X-GAP";
    EvictedTooEarly "evicted-too-early" "RFC 8216 6.2.2"
        "a segment can be fetched, after its line went, for its duration plus the longest playlist";
    PreloadHintUnanswered "preload-hint-unanswered" "bis 6.2.6"
        "the hinted URL waits for its part and answers it";

    // Reloads and requests.
    BlockingReloadEarly "blocking-reload-early" "bis 6.2.5.2"
        "a blocking reload answers once the part it names is listed";
    BlockingReloadRefused "blocking-reload-refused" "bis 6.2.5.2; hls.md Low latency"
        "a blocking reload is not refused before 3 target durations have passed";
    BlockingReloadTimeout "blocking-reload-timeout" "bis 6.2.5.2; hls.md Low latency"
        "a blocking reload is answered after 3 target durations at the latest";
    QueryNotRefused "query-not-refused" "bis 6.2.5.2; hls.md Low latency"
        "malformed or impossible _HLS_msn and _HLS_part are answered 400";
    OldMsnRefused "old-msn-refused" "bis 6.2.5.2"
        "an _HLS_msn that is already listed, or older, is answered 200";
    PartOverflowRefused "part-overflow-refused" "bis 6.2.5.2"
        "an _HLS_part past the end of a segment means part 0 of the next";
    DeltaMissing "delta-missing" "bis 6.2.5.1; hls.md Low latency"
        "_HLS_skip=YES is answered with EXT-X-SKIP when there is something to skip";
    DeltaDiffers "delta-differs" "bis 6.2.5.1"
        "a delta update and the playlist before it give the whole playlist";

    // Headers.
    PlaylistCacheControl "playlist-cache-control" "hls.md Headers"
        "playlists: max-age=1, answers to blocking reloads max-age = 6 x target duration";
    PlaylistContentType "playlist-content-type" "RFC 8216 4"
        "playlists are application/vnd.apple.mpegurl or audio/mpegurl";
    PlaylistGzip "playlist-gzip" "Apple authoring; hls.md Headers"
        "playlists are gzip-encoded for clients that accept it, with Vary: Accept-Encoding";
    MediaCacheControl "media-cache-control" "hls.md Headers"
        "media and init: Cache-Control public, max-age=31536000, immutable";
    MediaContentType "media-content-type" "hls.md Headers"
        "media and init are video/mp4 (audio/mp4 passes for audio)";
    MediaEtag "media-etag" "RFC 9110 8.8.3; hls.md Headers"
        "media and init have a strong ETag, which If-None-Match answers with 304";
    MediaRange "media-range" "RFC 9110 14; hls.md Headers"
        "byte ranges are answered 206 with the bytes asked for, unsatisfiable ones 416";
    Cors "cors" "hls.md Headers"
        "playlists and media carry Access-Control-Allow-Origin: *";
    ErrorCacheable "error-cacheable" "hls.md Headers"
        "404 and 503 carry Cache-Control: no-store";
    UnknownUrlAnswered "unknown-url-answered" "hls.md Low latency"
        "a media URL that nothing names is answered 404 at once";

    // Contact with the server.
    Unreachable "unreachable" "hls.md; issue 2"
        "after first contact the server is never away for more than 15 s";
    ResponseBroken "response-broken" "RFC 9112"
        "an answer that has begun is finished, unless the server goes away";
    ResponseSlow "response-slow" "hls.md Headers"
        "an answer that does not wait for media comes within 10 s";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The catalogue as a table: name, what is asked, source.
pub fn table() -> String {
    let width = RULES.iter().map(|r| r.name().len()).max().unwrap_or(0);
    RULES.iter().map(|r| format!("{:width$}  {} [{}]\n", r.name(), r.asks(), r.source())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_kebab_case() {
        let names: BTreeSet<_> = RULES.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), RULES.len());
        for name in names {
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
        }
        assert_eq!(table().lines().count(), RULES.len());
    }
}
