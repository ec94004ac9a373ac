//! What every part of Shoal agrees on: names, time, the media model, the signed feed and the
//! playlists derived from it.
//!
//! This package is pure: no clock, socket, thread, randomness or hash-map order. It compiles for
//! the servers, for browsers (wasm32) and for the simulator, and gives the same answer in each.

pub mod feed;
pub mod id;
pub mod limit;
pub mod playlist;
pub mod redact;
pub mod rendition;
pub mod window;

#[cfg(test)]
mod testing;
