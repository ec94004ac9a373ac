//! `broadcaster check-hls`: follows a live HLS stream as a player does and says which rules of
//! HLS and Low-Latency HLS the server breaks.
//!
//! The core is pure: `parse` reads playlists, `mp4` reads media, `rules` judges what was seen;
//! `run`, `media` and `probe` ask the server. The parser shares nothing with the code that writes
//! Shoal's own playlists, so that one mistake cannot hide the other. The rules are listed in
//! [`catalog`].

pub mod catalog;
mod fetch;
mod media;
mod mp4;
pub(crate) mod parse;
mod probe;
mod report;
mod rules;
mod run;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod server;
#[cfg(test)]
mod testing;

use std::process::ExitCode;
use std::time::Duration;

use rules::Limits;
use run::Plan;

use crate::say;

/// Arguments of `broadcaster check-hls`.
#[derive(Debug, Clone, clap::Args)]
pub struct CheckArgs {
    /// URL of a multivariant playlist, or of a lone media playlist.
    #[arg(required_unless_present = "rules")]
    pub url: Option<String>,
    /// How long to look, such as 120s or 10m.
    #[arg(long = "for", value_name = "DURATION", default_value = "120s", value_parser = duration)]
    pub length: Duration,
    /// Print one JSON object at the end instead of lines.
    #[arg(long)]
    pub json: bool,
    /// How long the server may leave a playlist unchanged after its encoder has gone.
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = duration)]
    pub grace: Duration,
    /// Of renditions other than the first video and the first audio, read each N-th segment.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: u64,
    /// Print the catalogue of rules and stop.
    #[arg(long)]
    pub rules: bool,
}

/// Exit status when the playlist was never reached.
const UNREACHED: u8 = 2;

/// Runs `broadcaster check-hls`: prints a line for each broken rule. Exit status 0 when there was
/// none, 1 when there was, 2 when the playlist could not be reached or the arguments are wrong.
///
/// Must not be called from within an async runtime: it makes its own.
pub fn run_cli(args: &CheckArgs) -> ExitCode {
    if args.rules {
        say::text(format_args!("{}", catalog::table()));
        return ExitCode::SUCCESS;
    }
    let Some(url) =
        args.url.clone().filter(|u| u.starts_with("http://") || u.starts_with("https://"))
    else {
        eprintln!("check-hls needs the http:// or https:// URL of a playlist");
        return ExitCode::from(UNREACHED);
    };
    let grace_ms = u64::try_from(args.grace.as_millis()).unwrap_or(u64::MAX);
    let plan = Plan {
        url: url.clone(),
        length: args.length,
        sample: args.sample,
        limits: Limits { grace_ms, ..Limits::default() },
        print: !args.json,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::from(UNREACHED);
        }
    };
    let (report, length_ms) = match runtime.block_on(run::run(plan)) {
        Ok(done) => done,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(UNREACHED);
        }
    };
    let written = if args.json {
        say::line!("{:#}", report.json(&url, length_ms))
    } else {
        report.rest().into_iter().all(|line| say::line!("{line}"))
    };
    // A report that nobody can read is not a clean one.
    if report.is_clean() && written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads `90`, `90s`, `500ms`, `10m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a duration is written as in 120s or 10m")?;
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        other => return Err(format!("{other:?} is not a unit; use ms, s, m or h")),
    };
    let ms = number.checked_mul(unit_ms).ok_or("that is too long")?;
    Ok(Duration::from_millis(ms))
}
