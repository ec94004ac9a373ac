//! The parent's side of a stream's life: what should run, what does run, and what to tell the
//! feed. The decisions are pure ([`machine`], [`restart`], [`takeover`]); processes, channels and
//! clocks are shells around them ([`child`], [`stream`]).

pub mod cause;
pub mod child;
pub mod devices;
pub mod encoders;
pub mod governor;
pub mod machine;
pub mod now;
pub mod registry;
pub mod restart;
pub mod standing;
pub mod stream;
pub mod takeover;
pub mod trial;
