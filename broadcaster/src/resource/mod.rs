//! What the machine gives and what is taken of it: figures, limits, warnings, admission.

pub mod cgroup;
pub mod cost;
pub mod counts;
pub mod degrade;
pub mod host;
pub mod limits;
pub mod monitor;
pub mod proc;
pub mod quality;
pub mod warning;
