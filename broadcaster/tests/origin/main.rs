//! The origin over real loopback sockets, with one stream in it that a feed fills.

#![allow(clippy::unwrap_used)]

mod client;
mod connections;
mod http2;
mod media;
mod on_call;
mod reload;
mod rig;
