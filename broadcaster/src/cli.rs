//! The commands, their exit statuses and their log.
//!
//! Exit status: 0 done, 1 something went wrong while running, 2 the command or a setting cannot
//! be used.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, Settings};
use crate::stream_cli::StreamCommand;
use crate::{app, check, doctor, stream_cli, worker};

/// Peer-assisted live broadcaster.
#[derive(Debug, Parser)]
#[command(name = "broadcaster", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take live input and serve it
    Serve(Box<Settings>),
    /// Work on streams
    #[command(subcommand)]
    Stream(StreamCommand),
    /// Check this machine and say what to fix
    Doctor(Box<Settings>),
    /// Follow an HLS stream and name each rule its server breaks
    CheckHls(check::CheckArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // The child's command is private to one build and not shown to people.
    if args.next().is_some_and(|arg| arg == "worker") {
        log_to_stderr(EnvFilter::new("info"), LogFor::Broadcaster);
        return match args.next() {
            Some(arg) if arg == "--trial" => worker::run_trial(),
            _ => worker::run(),
        };
    }
    // The only fault is that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // clap's own errors are one or two lines and end with status 2.
    match Cli::parse().command {
        Command::Serve(settings) => serve(*settings),
        Command::Stream(StreamCommand::Add(add)) => run(stream_cli::add(add)),
        Command::Doctor(settings) => doctor(*settings),
        Command::CheckHls(args) => check::run_cli(&args),
    }
}

/// Who reads a process's log.
enum LogFor {
    /// People, who want the time.
    People,
    /// The broadcaster, which adds it and reads the level from the line's first word.
    Broadcaster,
}

fn log_to_stderr(filter: EnvFilter, reader: LogFor) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match reader {
        LogFor::People => log.init(),
        LogFor::Broadcaster => log.without_time().init(),
    }
}

/// Runs to its end, with status 1 and one line when it fails.
fn run(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("broadcaster: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(work);
    // Whatever still runs then has no right to hold the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("broadcaster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The decided settings, or the exit status for settings that cannot be used.
fn resolve(settings: Settings) -> Result<Config, ExitCode> {
    settings.resolve(std::env::var("PORT").ok().as_deref()).map_err(|error| {
        eprintln!("broadcaster: {error}");
        ExitCode::from(2)
    })
}

fn doctor(settings: Settings) -> ExitCode {
    let config = match resolve(settings) {
        Ok(config) => config,
        Err(status) => return status,
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(doctor::examine(&config)),
        Err(error) => {
            eprintln!("broadcaster: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(settings: Settings) -> ExitCode {
    let config = match resolve(settings) {
        Ok(config) => config,
        Err(status) => return status,
    };
    let filter = match EnvFilter::builder().parse(&config.log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("broadcaster: --log {:?} is not a filter: {error}", config.log);
            return ExitCode::from(2);
        }
    };
    log_to_stderr(filter, LogFor::People);
    run(app::serve(config))
}
