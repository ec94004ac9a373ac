//! Hostile bytes for playlists of other servers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    broadcaster::fuzzing::playlist(data);
});
