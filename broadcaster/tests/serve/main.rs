//! The program as its operator runs it: `broadcaster serve`, asked over real sockets.
#![allow(clippy::unwrap_used)]

mod calls;
mod commands;
mod limits;
mod rig;
mod shutdown;
mod systemd;
