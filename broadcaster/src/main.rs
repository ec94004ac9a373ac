//! The `broadcaster` command.

use std::process::ExitCode;

/// The system's allocator keeps what media leaves behind scattered over one arena per thread: 4 MiB
/// more every ten minutes with the same media held (decision 0005).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    broadcaster::cli::main()
}
