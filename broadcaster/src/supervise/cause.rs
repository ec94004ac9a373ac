//! Why a stream is in its state, or a publisher was sent away: a code for machines that stays
//! the same, and one line for people that says what to do where something can be done.

use std::fmt;

/// The reason of a state or of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Created, or started, and no media yet.
    NoMediaYet,
    /// Media flows.
    OnAir,
    /// Nobody has started this stream.
    NotStarted,
    /// The operator stopped it.
    OperatorStopped,
    /// The broadcaster restarted while the broadcast was on.
    BroadcasterRestarted,
    /// The broadcaster is going down.
    ShuttingDown,
    /// The publisher's connection ended.
    PublisherGone,
    /// No publisher came back within the grace period.
    GraceOver,
    /// A started stream got no media for this long, in ms.
    NeverGotMedia(u64),
    /// A file played to its end.
    SourceEnded,
    /// The worker died; how, in words.
    WorkerCrashed(String),
    /// The worker took media and gave none.
    Stalled,
    /// The worker used more memory than it may; both in MB.
    MemoryLimit {
        /// What it used.
        used_mb: u64,
        /// What it may.
        limit_mb: u64,
    },
    /// The worker crashed too often to be started again.
    CrashLoop(String),
    /// The input cannot be used, or this machine cannot make it; the worker's own line.
    Unusable(String),
    /// Size, codec or clock of the source changed.
    SourceChanged,
    /// Another connection with the same key took over.
    TakenOver,
    /// Too many take-overs; seconds until the next one is allowed.
    TakeoverLimit(u64),
    /// This stream makes its own media.
    NotForPublishers,
}

impl Cause {
    /// A stable word for logs, metrics and the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoMediaYet => "no_media_yet",
            Self::OnAir => "on_air",
            Self::NotStarted => "not_started",
            Self::OperatorStopped => "operator_stopped",
            Self::BroadcasterRestarted => "broadcaster_restarted",
            Self::ShuttingDown => "shutting_down",
            Self::PublisherGone => "publisher_gone",
            Self::GraceOver => "grace_over",
            Self::NeverGotMedia(_) => "never_got_media",
            Self::SourceEnded => "source_ended",
            Self::WorkerCrashed(_) => "worker_crashed",
            Self::Stalled => "stalled",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::CrashLoop(_) => "crash_loop",
            Self::Unusable(_) => "unusable",
            Self::SourceChanged => "source_changed",
            Self::TakenOver => "taken_over",
            Self::TakeoverLimit(_) => "takeover_limit",
            Self::NotForPublishers => "not_for_publishers",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMediaYet => f.write_str("waiting for media"),
            Self::OnAir => f.write_str("on the air"),
            Self::NotStarted => f.write_str("not started: start it in the studio or with the API"),
            Self::OperatorStopped => {
                f.write_str("stopped by the operator: start it again before publishing")
            }
            Self::BroadcasterRestarted => f.write_str("the broadcaster restarted"),
            Self::ShuttingDown => f.write_str("the broadcaster is shutting down"),
            Self::PublisherGone => f.write_str("the encoder's connection ended"),
            Self::GraceOver => f.write_str("the encoder did not come back in time"),
            Self::NeverGotMedia(ms) => write!(f, "no media within {} s of the start", ms / 1000),
            Self::SourceEnded => f.write_str("the source played to its end"),
            Self::WorkerCrashed(how) => write!(f, "the worker ended unexpectedly: {how}"),
            Self::Stalled => f.write_str("the worker took media but made none"),
            Self::MemoryLimit { used_mb, limit_mb } => {
                write!(f, "the worker used {used_mb} MB, above its limit of {limit_mb} MB")
            }
            Self::CrashLoop(last) => {
                write!(f, "the worker crashed too often, start the stream again; last: {last}")
            }
            Self::Unusable(message) => f.write_str(message),
            Self::SourceChanged => f.write_str("the source changed its format or its clock"),
            Self::TakenOver => f.write_str("another encoder with the same key took over"),
            Self::TakeoverLimit(s) => write!(
                f,
                "two encoders are fighting over this key: stop one of them and try again in {s} s"
            ),
            Self::NotForPublishers => {
                f.write_str("this stream makes its own media and takes no publisher")
            }
        }
    }
}
