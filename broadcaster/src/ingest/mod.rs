//! Where media comes from. Every source ends as either frames pushed by a publisher
//! ([`media::Frame`]) or a source the worker reads by itself (a file, the test picture).

pub mod media;
pub mod rtmp;
