//! Row 8 of the benchmarks: the origin against nginx, and 8,000 blocked playlist requests.
//!
//! `cargo run --release --example bench_origin` runs both and prints each number with PASS or
//! NOT MET. Server, nginx, wrk and the client with its thousands of sockets are processes of their
//! own. What is served comes from the real feed and store, through the real accept loop.

mod blocked;
mod child;
mod server;
mod throughput;

use std::process::ExitCode;

use anyhow::{Context as _, bail};

/// The one of the real server.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One number of the table.
struct Figure {
    what: &'static str,
    measured: String,
    wanted: &'static str,
    met: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench_origin: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<bool> {
    raise_open_files().context("cannot raise the number of open files")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut figures = Vec::new();
    match words.as_slice() {
        ["server"] => {
            server::main()?;
            return Ok(true);
        }
        ["client", address, count] => {
            blocked::client_main(address, count.parse()?)?;
            return Ok(true);
        }
        [] => {
            figures.extend(throughput::measure()?);
            figures.extend(blocked::measure()?);
        }
        ["throughput"] => figures.extend(throughput::measure()?),
        ["blocked"] => figures.extend(blocked::measure()?),
        _ => bail!("usage: bench_origin [throughput|blocked]"),
    }
    println!();
    for figure in &figures {
        let verdict = if figure.met { "PASS" } else { "NOT MET" };
        println!("{:7}  {:52} {:>16}  ({})", verdict, figure.what, figure.measured, figure.wanted);
    }
    Ok(figures.iter().all(|f| f.met))
}

/// Two handles for each of 8,000 sockets in the server, and what else a process has.
const OPEN_FILES: u64 = 17_000;

fn raise_open_files() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|c| c < OPEN_FILES) {
        // The soft limit is ours to raise; the hard one only a mighty root's.
        let maximum = limit.maximum.map(|m| m.max(OPEN_FILES));
        setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), maximum })
            .context("8,000 sockets need `ulimit -n 17000`")?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
