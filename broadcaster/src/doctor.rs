//! `broadcaster doctor`: looks at this machine and says, line by line, what is fine and what to
//! fix. Exit status 1 when something that is needed is missing.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::Config;
use crate::streams::store::Store;
use crate::supervise::encoders;
use crate::worker::encoder;
use crate::worker::pipeline::can_make_stills;
use crate::{app, say};

/// GStreamer elements that workers are built from, and the Debian packages that have them. The
/// encoders are looked at apart.
const ELEMENTS: [(&str, &str); 13] = [
    ("appsrc", "gstreamer1.0-plugins-base"),
    ("appsink", "gstreamer1.0-plugins-base"),
    ("decodebin", "gstreamer1.0-plugins-base"),
    ("parsebin", "gstreamer1.0-plugins-base"),
    ("videoconvert", "gstreamer1.0-plugins-base"),
    ("videoscale", "gstreamer1.0-plugins-base"),
    ("audioconvert", "gstreamer1.0-plugins-base"),
    ("audioresample", "gstreamer1.0-plugins-base"),
    ("h264parse", "gstreamer1.0-plugins-bad"),
    ("aacparse", "gstreamer1.0-plugins-good"),
    ("avdec_h264", "gstreamer1.0-libav"),
    ("avdec_aac", "gstreamer1.0-libav"),
    ("qtdemux", "gstreamer1.0-plugins-good"),
];

/// Least free disk that is no cause for concern, in bytes: one stream's spool.
const DISK_FREE_MIN: u64 = 1 << 30;

/// Open files that are enough for a few hundred viewers.
const OPEN_FILES_MIN: u64 = 4096;

/// How long our own public address may take to answer.
const REACH_PATIENCE: Duration = Duration::from_secs(5);

/// Collects what was found.
#[derive(Default)]
struct Findings {
    failed: bool,
}

impl Findings {
    fn fine(&self, what: impl std::fmt::Display) {
        say::line!("  ok     {what}");
    }

    fn note(&self, what: impl std::fmt::Display) {
        say::line!("  note   {what}");
    }

    fn wrong(&mut self, what: impl std::fmt::Display) {
        self.failed = true;
        say::line!("  WRONG  {what}");
    }
}

/// Looks at everything that these settings need.
pub async fn examine(config: &Config) -> ExitCode {
    let mut findings = Findings::default();
    say::line!("GStreamer");
    gstreamer(&mut findings, config);
    say::line!("This machine");
    machine(&mut findings);
    say::line!("Data in {}", config.data.display());
    let running = data(&mut findings, config);
    say::line!("Addresses");
    for (flag, address) in
        [("--http", config.http), ("--admin", config.admin), ("--rtmp", config.rtmp)]
    {
        port(&mut findings, flag, address, running);
    }
    reach(&mut findings, config, running).await;
    say::line!();
    match findings.failed {
        false => say::line!("Everything that is needed is here."),
        true => say::line!("Fix what is marked WRONG, then run this again."),
    };
    if findings.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn gstreamer(findings: &mut Findings, config: &Config) {
    if let Err(error) = gst::init() {
        return findings.wrong(format!("GStreamer cannot start: {error}"));
    }
    findings.fine(gst::version_string());
    let lacking = |name: &str| gst::ElementFactory::find(name).is_none();
    let missing: Vec<_> = ELEMENTS.iter().filter(|(name, _)| lacking(name)).collect();
    for (name, package) in &missing {
        findings.wrong(format!("element {name} is missing: install {package}"));
    }
    if missing.is_empty() {
        findings.fine("every element that workers need");
    }
    if !can_make_stills() {
        findings.note(
            "element jpegenc is missing: streams have no poster pictures until you install \
             gstreamer1.0-plugins-good",
        );
    }
    video_encoders(findings, config);
    match encoder::make_audio(128) {
        Ok((_, name)) => findings.fine(format!("AAC is encoded by {name}")),
        Err(failed) => findings.wrong(failed.message),
    }
}

fn video_encoders(findings: &mut Findings, config: &Config) {
    let finder = encoders::finder(std::env::current_exe().unwrap_or_default(), config);
    let told = encoders::tell(&finder.kept(), config.encoders);
    let hardware = told.encoders.first().map(|proven| proven.element.as_str());
    let (tried, hopeful) = (!finder.kept().is_empty(), finder.devices.any_hardware());
    if let Some(refused) = told.refused
        && (tried || !hopeful)
    {
        return findings.wrong(format!("streams that need encoding are refused: {refused}"));
    }
    match (encoder::best_video(), hardware) {
        (_, Some(element)) => {
            findings.fine(format!("H.264 is encoded by {element}, which worked when it was tried"));
        }
        (Ok(video), None) => findings.fine(format!("H.264 is encoded by {}", video.element)),
        (Err(failed), None) => findings.wrong(failed.message),
    }
    if config.encoders.hardware && !tried && hopeful {
        findings.note("hardware that may encode was not tried yet: see `broadcaster encoders`");
    }
}

fn machine(findings: &mut Findings) {
    match std::thread::available_parallelism() {
        Ok(cores) => findings.fine(format!("{cores} processor cores")),
        Err(error) => findings.note(format!("processor cores cannot be counted: {error}")),
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match files.maximum {
        Some(max) if max < OPEN_FILES_MIN => findings.note(format!(
            "open files are limited to {max}, one per viewer: raise it with `ulimit -Hn 65536` or LimitNOFILE="
        )),
        Some(max) => findings.fine(format!("open files up to {max}")),
        None => findings.fine("open files without limit"),
    }
}

/// Gives whether a broadcaster runs there.
fn data(findings: &mut Findings, config: &Config) -> bool {
    if !config.data.exists() {
        let parent = config.data.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        match rustix::fs::access(parent, rustix::fs::Access::WRITE_OK) {
            Ok(()) => findings.fine("will be made at the first start"),
            Err(error) => findings
                .wrong(format!("cannot be made: {error}; choose another folder with --data")),
        }
        return false;
    }
    if let Err(error) = rustix::fs::access(&config.data, rustix::fs::Access::WRITE_OK) {
        findings.wrong(format!(
            "cannot be written: {error}; make it ours, or choose another with --data"
        ));
        return false;
    }
    match rustix::fs::statvfs(&config.data) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let text = format!("{} MiB of disk free", free >> 20);
            if free < DISK_FREE_MIN {
                findings.note(text + ", less than one stream's spool")
            } else {
                findings.fine(text)
            }
        }
        Err(error) => findings.note(format!("free disk cannot be told: {error}")),
    }
    let running = app::is_running(&config.data);
    if running {
        findings.note("a broadcaster is running with it");
    } else {
        match Store::open(&config.data) {
            Ok(store) => findings.fine(format!("{} streams", store.list().count())),
            Err(error) => findings.wrong(error),
        }
    }
    running
}

fn port(findings: &mut Findings, flag: &str, address: SocketAddr, running: bool) {
    match TcpListener::bind(address) {
        Ok(_) => findings.fine(format!("{flag} {address} is free")),
        Err(_) if running => findings.fine(format!("{flag} {address} is in use, as it should be")),
        Err(error) => findings.wrong(format!(
            "{flag} {address} cannot be used: {error}; stop what uses it, or choose another"
        )),
    }
}

async fn reach(findings: &mut Findings, config: &Config, running: bool) {
    let Some(url) = &config.public_url else {
        return findings.note(
            "no --public-url: viewers reach us by this machine's own addresses; browsers on \
             other machines need HTTPS for full function, so put a proxy in front",
        );
    };
    if !running {
        return findings.note(format!("{url} is tried only while the broadcaster runs"));
    }
    let client = reqwest::Client::builder().timeout(REACH_PATIENCE).build();
    let answer = match client {
        Ok(client) => client.get(format!("{url}/healthz")).send().await,
        Err(error) => return findings.note(format!("{url} cannot be tried: {error}")),
    };
    match answer {
        Ok(response) if response.status().is_success() => {
            findings.fine(format!("{url} leads to us"));
        }
        Ok(response) => findings.wrong(format!(
            "{url} answers {}: point its proxy at {}",
            response.status(),
            config.http
        )),
        Err(error) => findings.wrong(format!(
            "{url} does not answer ({}): check its name, its proxy and the firewall",
            error.without_url()
        )),
    }
}
