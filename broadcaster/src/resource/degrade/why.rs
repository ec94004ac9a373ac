//! Why a quality is not made, or not as planned.

/// Why a quality is not made, or not as planned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Why {
    Operator,
    Demand,
    Speed(f64),
    Lag(u64),
    Memory { used_mb: u64, limit_mb: u64 },
    Budget { used_mb: u64, max_mb: u64 },
}

impl Why {
    /// Whether something was lacking.
    pub(super) fn is_load(self) -> bool {
        !matches!(self, Self::Operator | Self::Demand)
    }

    pub(super) fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Speed(a), Self::Speed(b)) if b < a => other,
            (Self::Lag(_), Self::Speed(_)) => other,
            _ => self,
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Operator => write!(f, "switched off by the operator"),
            Self::Demand => write!(f, "nobody watches it; it is made on demand"),
            Self::Speed(speed) => write!(f, "encoding at {speed:.1} × real time"),
            Self::Lag(ms) => write!(f, "encoding {:.1} s behind the source", *ms as f64 / 1e3),
            Self::Memory { used_mb, limit_mb } => {
                write!(f, "{used_mb} of {limit_mb} MB of memory in use")
            }
            Self::Budget { used_mb, max_mb } => {
                write!(f, "it holds {used_mb} MB of media, {max_mb} MB are its budget")
            }
        }
    }
}
