//! The streams that this broadcaster knows: their names, owners, sources and ladders, the keys
//! that publishers show, and how many may run at once.

pub mod choice;
pub mod key;
pub mod limit;
pub mod source;
pub mod store;

pub(crate) mod file;
