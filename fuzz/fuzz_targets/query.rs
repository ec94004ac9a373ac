//! Hostile bytes for queries of blocking playlist requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    broadcaster::fuzzing::query(data);
});
