//! Hostile bytes for feed records and the playlists made of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    broadcaster::fuzzing::record(data);
});
