//! Hostile bytes for the frames between broadcaster and worker.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    broadcaster::fuzzing::ipc(data);
});
