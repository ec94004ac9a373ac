//! What processes use of this machine.

pub mod monitor;
