//! The commands, their exit statuses and their log.
//!
//! Exit status: 0 done, 1 something went wrong while running, 2 the command or a setting cannot
//! be used.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError, Settings};
use crate::encoders_cli::EncodersArgs;
use crate::stream_cli::StreamCommand;
use crate::worker::encoder::attempt::Demands;
use crate::{app, check, doctor, encoders_cli, stream_cli, worker};

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
    /// Try this machine's video encoders and say which are used
    Encoders(Box<EncodersArgs>),
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
            Some(arg) if arg == "--list-encoders" => worker::run_list_encoders(),
            Some(arg) if arg == "--try-encoder" => {
                let element = args.next().unwrap_or_default();
                worker::run_try_encoder(&element.to_string_lossy(), &Demands::default())
            }
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
        Command::Encoders(args) => encoders(*args),
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

/// Runs to its end, with one line and [`status`] when it fails.
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
            ExitCode::from(status(&error))
        }
    }
}

/// Whoever starts us tries again after 1; after 2 that changes nothing.
fn status(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() { 2 } else { 1 }
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

fn encoders(args: EncodersArgs) -> ExitCode {
    // The table goes to standard output; trials that take long are told of meanwhile.
    log_to_stderr(EnvFilter::new("info"), LogFor::People);
    match resolve(args.settings.clone()) {
        Ok(config) => run(async move { encoders_cli::show(&args, &config).await }),
        Err(status) => status,
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::path::Path;

    use super::*;
    use crate::testing::write_certificate;

    /// How `serve` ends that fails: its status and what it says.
    async fn ends(settings: Settings) -> (u8, String) {
        let error = app::serve(settings.resolve(None).expect("good")).await.expect_err("fails");
        (status(&error), format!("{error:#}"))
    }

    fn in_data(data: &Path) -> Settings {
        let free = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let data = Some(data.into());
        Settings { http: free, admin: free, rtmp: free, data, ..Settings::default() }
    }

    #[tokio::test]
    async fn settings_that_cannot_be_used_end_with_2_and_one_line_and_a_port_in_use_with_1() {
        let dir = tempfile::tempdir().expect("a folder");
        let certified = |cert: &Path, key: &Path| Settings {
            tls_cert: Some(cert.into()),
            tls_key: Some(key.into()),
            ..in_data(dir.path())
        };
        let [one, other] = ["one", "other"].map(|name| write_certificate(dir.path(), name));
        let missing = Path::new("missing.pem");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        let broken = dir.path().join("broken");
        std::fs::create_dir(&broken).expect("made");
        std::fs::write(broken.join("streams.json"), "[").expect("written");
        for (settings, hint) in [
            (certified(missing, &one.1), "--tls-cert missing.pem"),
            (certified(&one.0, missing), "--tls-key missing.pem"),
            (certified(&one.0, &other.1), "--tls-cert"),
            (in_data(&file), "--data"),
            (in_data(&broken), "streams.json is damaged"),
        ] {
            let (status, line) = ends(settings).await;
            assert_eq!(status, 2, "{line}");
            assert!(line.contains(hint) && !line.contains('\n'), "{line}");
        }
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let http = taken.local_addr().ok();
        let (status, line) = ends(Settings { http, ..in_data(dir.path()) }).await;
        assert_eq!(status, 1, "{line}");
        assert!(line.contains("--http"), "{line}");
    }
}
