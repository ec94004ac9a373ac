//! Which encoders work on this machine: tried by child processes, one at a time, and kept in the
//! data folder until the device, its driver, the plugin or our own version changes.
//!
//! Nothing here loads a driver: a child that crashes or hangs costs its time-out and gives a
//! reason.

mod left;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::Instant;

use super::devices::{Device, Devices};
use crate::config::Config;
use crate::streams::file::write_atomically;
use crate::worker::encoder::attempt::{Listed, SPEED_MIN};
use crate::worker::encoder::choice::ProvenEncoder;
use crate::worker::encoder::verdict::{self, Tried};
use crate::worker::encoder::{Family, VIDEO, VideoEncoder, video_named};

/// How long one hardware encoder may take. A good one needs 4 s, the time-outs of its own 10 s.
pub const HARDWARE_PATIENCE: Duration = Duration::from_secs(12);

/// How long all hardware may hold up the start of the broadcaster. What was not tried by then is
/// not used, and is tried at the next start.
pub const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long a software encoder may take: three runs on a slow processor. Nothing waits for it.
pub const SOFTWARE_PATIENCE: Duration = Duration::from_secs(30);

/// How long the list may take: GStreamer looks at every plugin when one of them is new.
const LIST_PATIENCE: Duration = Duration::from_secs(10);

/// What a child may say, in bytes: a verdict is 1 kB.
const ANSWER_MAX: u64 = 64 * 1024;

/// The file in the data folder.
const FILE: &str = "encoders.json";

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// Whether hardware comes first; it is not even tried otherwise.
    pub hardware: bool,
    /// Whether software follows where hardware does not work or fails.
    pub fallback: bool,
}

/// What workers are told of encoders.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// `Start::encoders`.
    pub encoders: Vec<ProvenEncoder>,
    /// `Start::encoding_refused`.
    pub refused: Option<String>,
}

/// A verdict and the circumstances in which it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Our own version: another one may set the encoder up differently.
    pub version: String,
    /// The version of the element's plugin; none when it is not installed.
    #[serde(default)]
    pub plugin_version: Option<String>,
    /// The device, or the processor.
    #[serde(flatten)]
    pub device: Device,
    /// The verdict.
    #[serde(flatten)]
    pub tried: Tried,
}

/// Finds out which encoders work.
#[derive(Clone, Debug)]
pub struct Finder {
    /// Our own program.
    pub program: PathBuf,
    /// The data folder. Nothing is kept while it does not exist.
    pub data: PathBuf,
    /// This machine.
    pub devices: Devices,
    /// How long one hardware encoder may take.
    pub patience: Duration,
}

/// Why hardware is not used, for the log, and what to do.
const REFUSED: &str = "no hardware encoder works here and HARDWARE_ENCODER_FALLBACK is false: see \
     `broadcaster encoders` for the reasons, or allow software with \
     HARDWARE_ENCODER_FALLBACK=true";

impl Finder {
    /// What workers may encode with, at the start of the broadcaster. On a machine without
    /// devices that encode this asks nobody and takes no time.
    pub async fn for_workers(&self, preference: Preference) -> Told {
        if !preference.hardware {
            return Told::default();
        }
        let known = match self.devices.any_hardware() {
            true => self.hardware(START_PATIENCE).await,
            false => Vec::new(),
        };
        known.iter().for_each(log);
        let told = tell(&known, preference);
        if let Some(refused) = &told.refused {
            tracing::error!("streams that need encoding are refused: {refused}");
        }
        told
    }

    /// The encoders that are installed: hardware with verdicts that hold, from the file or from
    /// trials, software as it is.
    async fn hardware(&self, patience: Duration) -> Vec<Known> {
        let listed = match self.list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!("the encoders of this machine cannot be listed: {error:#}");
                return Vec::new();
            }
        };
        let deadline = Instant::now() + patience;
        let mut found = Vec::new();
        for encoder in &VIDEO {
            let Some(listed) = listed.iter().find(|l| l.element == encoder.element) else {
                continue;
            };
            if encoder.family != Family::Software {
                found.push(self.one(encoder, Some(listed), false, Some(deadline)).await);
            }
        }
        self.keep(&found);
        let software = VIDEO.iter().filter(|e| e.family == Family::Software);
        let is_listed = |e: &&VideoEncoder| listed.iter().any(|l| l.element == e.element);
        found.extend(software.filter(is_listed).map(|e| self.trusted(e)));
        found
    }

    /// Every encoder there is with its verdict; `again` tries even those whose verdict holds.
    ///
    /// # Errors
    /// When GStreamer cannot say which ones are installed.
    pub async fn all(&self, again: bool) -> anyhow::Result<Vec<Known>> {
        let listed = self.list().await?;
        let mut found = Vec::new();
        for encoder in &VIDEO {
            let listed = listed.iter().find(|l| l.element == encoder.element);
            found.push(self.one(encoder, listed, again, None).await);
        }
        self.keep(&found);
        Ok(found)
    }

    /// What is known from earlier trials, without asking anybody whether it still holds.
    pub fn kept(&self) -> Vec<Known> {
        let text = std::fs::read(self.data.join(FILE)).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    async fn list(&self) -> anyhow::Result<Vec<Listed>> {
        self.ask(&["--list-encoders"], LIST_PATIENCE).await
    }

    async fn one(
        &self,
        encoder: &VideoEncoder,
        listed: Option<&Listed>,
        again: bool,
        deadline: Option<Instant>,
    ) -> Known {
        let known = |tried: Tried| Known {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plugin_version: listed.map(|l| l.plugin_version.clone()),
            device: self.devices.of(encoder.family).unwrap_or_default(),
            tried,
        };
        let untried = |why: String| known(verdict::untried(encoder.element, why));
        if listed.is_none() {
            return untried(format!("not installed ({})", encoder.package));
        }
        let holds = |kept: &Known| {
            let tried = &kept.tried;
            tried.element == encoder.element && *kept == known(tried.clone())
        };
        if !again && let Some(kept) = self.kept().into_iter().find(holds) {
            return kept;
        }
        let patience = match encoder.family {
            Family::Software => SOFTWARE_PATIENCE,
            _ => self.patience,
        };
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left < patience) {
            return untried(NO_TIME.to_owned());
        }
        tracing::info!(encoder = encoder.element, "trying whether it works here");
        match self.ask(&["--try-encoder", encoder.element], patience).await {
            Ok(tried) => known(tried),
            Err(error) => untried(format!("its trial {error:#}")),
        }
    }

    /// Software needs no trial: nothing comes after it.
    fn trusted(&self, encoder: &VideoEncoder) -> Known {
        Known {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plugin_version: None,
            device: self.devices.of(encoder.family).unwrap_or_default(),
            tried: Tried { ok: true, reason: None, ..verdict::untried(encoder.element, "") },
        }
    }

    /// Runs `program worker ARGS` and reads its answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        args: &[&str],
        patience: Duration,
    ) -> anyhow::Result<T> {
        let mut child = Command::new(&self.program)
            .arg("worker")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .context("cannot be started")?;
        let Some(stdout) = child.stdout.take() else { bail!("cannot be read") };
        let mut answer = Vec::new();
        let work = async {
            stdout.take(ANSWER_MAX).read_to_end(&mut answer).await?;
            child.wait().await
        };
        let status = match tokio::time::timeout(patience, work).await {
            Ok(status) => status.context("cannot be read")?,
            // Dropping it kills it.
            Err(_) => bail!("hangs: no answer within {} s", patience.as_secs_f32()),
        };
        if !status.success() {
            bail!("failed: {status}");
        }
        serde_json::from_slice(&answer).context("gave an answer that makes no sense")
    }

    /// Keeps what was found beside what is known of others.
    fn keep(&self, found: &[Known]) {
        let tried = |known: &Known| {
            let reason = known.tried.reason.as_deref();
            known.plugin_version.is_some() && reason != Some(NO_TIME)
        };
        let mut all = self.kept();
        let before = all.clone();
        all.retain(|old| !found.iter().any(|new| new.tried.element == old.tried.element));
        all.extend(found.iter().filter(|known| tried(known)).cloned());
        if all == before || !self.data.is_dir() {
            return;
        }
        let kept = serde_json::to_vec_pretty(&all)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(write_atomically(&self.data.join(FILE), &text)?));
        if let Err(error) = kept {
            tracing::warn!("what encodes here cannot be kept, and is tried again: {error:#}");
        }
    }
}

/// Why one was left out that nothing is known of.
const NO_TIME: &str = "not tried: the others took all the time there was";

/// What workers are told when this is known.
pub fn tell(known: &[Known], preference: Preference) -> Told {
    if !preference.hardware {
        return Told::default();
    }
    let is_software = |known: &&Known| {
        let encoder = video_named(&known.tried.element);
        encoder.is_some_and(|encoder| encoder.family == Family::Software)
    };
    let (software, hardware): (Vec<&Known>, Vec<_>) = known.iter().partition(is_software);
    let hardware = hardware.iter().filter_map(|known| verdict::proven(&known.tried, SPEED_MIN));
    let mut encoders: Vec<_> = hardware.collect();
    match (encoders.is_empty(), preference.fallback) {
        // A worker takes the software that it finds.
        (true, true) => Told::default(),
        (true, false) => Told { encoders, refused: Some(REFUSED.to_owned()) },
        (false, false) => Told { encoders, refused: None },
        (false, true) => {
            let works = software.iter().filter(|known| known.tried.ok);
            encoders.extend(works.map(|known| ProvenEncoder::unlimited(&known.tried.element)));
            Told { encoders, refused: None }
        }
    }
}

fn log(known: &Known) {
    let Tried { element, ok, reason, speed, sessions_max, .. } = &known.tried;
    let device = &known.device.device;
    match (ok, reason, speed) {
        (true, reason, Some(speed)) => {
            let at_once = sessions_max.map_or("8 or more".to_owned(), |max| max.to_string());
            let limit = reason.as_ref().map_or(String::new(), |why| format!(", {why}"));
            tracing::info!(
                encoder = element,
                device,
                "works here: {speed:.1} times real time, {at_once} at once{limit}"
            );
        }
        (false, Some(reason), _) => {
            tracing::warn!(encoder = element, device, "is not used: {reason}");
        }
        // Software, which was not tried.
        _ => {}
    }
}

/// What finds them as these settings say.
pub fn finder(program: PathBuf, config: &Config) -> Finder {
    Finder {
        program,
        data: config.data.clone(),
        devices: Devices::under(&config.machine_root),
        patience: HARDWARE_PATIENCE,
    }
}
