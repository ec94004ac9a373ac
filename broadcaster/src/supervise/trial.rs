//! What this machine can encode: measured once by a child process, kept in the data folder.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::devices::Devices;
use crate::worker::ladder::TrialResult;

/// A trial takes about 3 s; a machine that needs longer than this has other troubles.
const PATIENCE: Duration = Duration::from_secs(20);

/// The file in the data folder.
const FILE: &str = "encoder-trial.json";

/// A result and the circumstances in which it holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Our own version: another one may encode differently.
    version: String,
    /// The processor's name: the folder may have moved to another machine.
    processor: String,
    result: TrialResult,
}

/// What an earlier trial measured on this machine, if there was one.
pub fn kept(data: &Path) -> Option<TrialResult> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(data.join(FILE)).ok()?).ok()?;
    let holds = kept.version == env!("CARGO_PKG_VERSION")
        && kept.processor == Devices::default().processor();
    holds.then_some(kept.result)
}

/// Measures with `program worker --trial` and keeps the result.
///
/// # Errors
/// When the trial fails, in one line.
pub async fn run(program: &Path, data: &Path) -> anyhow::Result<TrialResult> {
    let trial = Command::new(program)
        .args(["worker", "--trial"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, trial).await??;
    let result: TrialResult = serde_json::from_slice(&output.stdout)?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let kept = Kept { version, processor: Devices::default().processor(), result };
    std::fs::write(data.join(FILE), serde_json::to_vec_pretty(&kept)?)?;
    Ok(kept.result)
}
