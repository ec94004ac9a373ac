//! Hostile bytes for an RTMP connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    broadcaster::fuzzing::rtmp(data);
});
