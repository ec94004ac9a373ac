//! What the operator can set: flags over environment over file over defaults.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::resource::limits::{Limits, LimitsChange};
use crate::supervise::encoders::Preference;

/// Shortest and longest time between two judgements of warnings, in ms: below, watching would cost
/// more than it tells; above, a warning would come too late to be of use.
const MONITOR_INTERVAL_MIN_MS: u64 = 100;
const MONITOR_INTERVAL_MAX_MS: u64 = 3_600_000;

/// Every setting as it may be given; what is not given anywhere has the default of [`Config`].
/// The keys of the file are the names of the flags with `_` for `-`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// TOML file with settings; flags and environment win over it
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where viewers connect [default: 0.0.0.0:8080, or all addresses at $PORT]
    #[arg(long, env = "SHOAL_HTTP", value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Where the operator connects: metrics and API [default: 127.0.0.1:8081]
    #[arg(long, env = "SHOAL_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Where encoders publish by RTMP [default: 0.0.0.0:1935]
    #[arg(long, env = "SHOAL_RTMP", value_name = "ADDR")]
    pub rtmp: Option<SocketAddr>,
    /// How viewers reach the HTTP address when it is behind a proxy, such as https://live.example
    #[arg(long, env = "SHOAL_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Certificate chain for HTTPS, in PEM
    #[arg(long, env = "SHOAL_TLS_CERT", value_name = "PEM")]
    pub tls_cert: Option<PathBuf>,
    /// Private key for HTTPS, in PEM
    #[arg(long, env = "SHOAL_TLS_KEY", value_name = "PEM")]
    pub tls_key: Option<PathBuf>,
    /// Sharing between viewers [default: opt-in, on with --demo]
    #[arg(long, env = "SHOAL_P2P", value_name = "POLICY")]
    pub p2p: Option<P2p>,
    /// Folder for keys, streams and the spool [default: ./data]
    #[arg(long, env = "SHOAL_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Start stream `demo` from the built-in test picture
    #[arg(long, env = "SHOAL_DEMO")]
    pub demo: bool,
    /// What to log, as a tracing filter [default: info]
    #[arg(long, env = "SHOAL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Streams of one owner that may be waiting or live at once [default: 5]
    #[arg(long, env = "MAX_CONCURRENT_STREAMS_PER_USER", value_name = "N")]
    pub max_concurrent_streams_per_user: Option<usize>,
    /// Streams that may be waiting or live at once [default: 20]
    #[arg(long, env = "MAX_CONCURRENT_STREAMS_GLOBAL", value_name = "N")]
    pub max_concurrent_streams_global: Option<usize>,
    /// Watch what the broadcaster, its workers and the machine use [default: true]
    #[arg(long, env = "RESOURCE_MONITOR", value_name = "BOOL")]
    pub resource_monitor: Option<bool>,
    /// How often warnings are judged and threads and handles counted, in ms [default: 30000]
    #[arg(long, env = "RESOURCE_MONITOR_INTERVAL_MS", value_name = "MS")]
    pub resource_monitor_interval_ms: Option<u64>,
    /// A worker above this share of one core is warned about, in percent [default: 80]
    #[arg(long, env = "RESOURCE_WARNING_CPU_PERCENT", value_name = "PERCENT")]
    pub resource_warning_cpu_percent: Option<u32>,
    /// A worker with more memory is warned about, in MB [default: 500]
    #[arg(long, env = "RESOURCE_WARNING_MEMORY_MB", value_name = "MB")]
    pub resource_warning_memory_mb: Option<u64>,
    /// A worker with more memory is ended and started again, in MB [default: 0, never]
    #[arg(long, env = "WORKER_MEMORY_LIMIT_MB", value_name = "MB")]
    pub worker_memory_limit_mb: Option<u64>,
    /// Refuse streams that do not fit beside those that run [default: true]
    #[arg(long, env = "SHOAL_ADMISSION", value_name = "BOOL")]
    pub admission: Option<bool>,
    /// Take qualities away when there is not enough for all [default: true]
    #[arg(
        long,
        env = "SHOAL_DEGRADATION",
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
    )]
    pub degradation: Option<bool>,
    /// Let qualities be made only while somebody watches them [default: true]
    #[arg(
        long,
        env = "SHOAL_ON_DEMAND",
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
    )]
    pub on_demand: Option<bool>,
    /// A worker that ignores SIGTERM this long is killed, in ms [default: 5000]
    #[arg(long, env = "FORCE_KILL_TIMEOUT_MS", value_name = "MS")]
    pub force_kill_timeout_ms: Option<u64>,
    /// When an ended or never fed stream is freed, in ms [default: 3600000]
    #[arg(long, env = "STREAM_TIMEOUT", value_name = "MS")]
    pub stream_timeout_ms: Option<u64>,
    /// How long a broadcast waits for its encoder to return, in ms [default: 120000]
    #[arg(long, env = "SHOAL_GRACE_MS", value_name = "MS")]
    pub grace_ms: Option<u64>,
    /// Length of a part, in ms, 200 to 1000 [default: 500]
    #[arg(long, env = "SHOAL_PART_MS", value_name = "MS")]
    pub part_ms: Option<u32>,
    /// Length of a segment, in ms, 1000 to 6000 in whole seconds [default: 2000]
    #[arg(long, env = "SHOAL_SEGMENT_MS", value_name = "MS")]
    pub segment_ms: Option<u32>,
    /// What one stream may take on disk, in MB [default: 1024]
    #[arg(long, env = "SHOAL_SPOOL_MB", value_name = "MB")]
    pub spool_mb: Option<u64>,
    /// Viewers' connections at once [default: 20000, less when open files are fewer]
    #[arg(long, env = "SHOAL_CONNECTIONS_MAX", value_name = "N")]
    pub connections_max: Option<usize>,
    /// Connections from one address, loopback excepted [default: 512]
    #[arg(long, env = "SHOAL_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N")]
    pub connections_per_address_max: Option<usize>,
    /// Draw each rendition's number into its pictures, for tests
    #[arg(long, hide = true)]
    pub mark_renditions: bool,
    /// Where this machine describes its devices, for tests
    #[arg(long, hide = true, value_name = "DIR")]
    #[serde(skip)]
    pub machine_root: Option<PathBuf>,
    /// Encode with hardware where it works [default: true]
    #[arg(
        long,
        env = "PREFER_HARDWARE_ENCODING",
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
    )]
    pub prefer_hardware_encoding: Option<bool>,
    /// Encode with software where hardware does not work or fails [default: true]
    #[arg(
        long,
        env = "HARDWARE_ENCODER_FALLBACK",
        value_name = "BOOL",
        value_parser = BoolishValueParser::new(),
    )]
    pub hardware_encoder_fallback: Option<bool>,
}

/// Sharing between viewers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum P2p {
    /// Viewers share unless they say no.
    On,
    /// Viewers share when they say yes.
    OptIn,
    /// Nobody shares.
    Off,
}

/// Every setting, decided.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where viewers connect.
    pub http: SocketAddr,
    /// Where the operator connects.
    pub admin: SocketAddr,
    /// Where encoders publish by RTMP.
    pub rtmp: SocketAddr,
    /// How viewers reach us, without a slash at its end; none: by `http`.
    pub public_url: Option<String>,
    /// Certificate chain and private key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Sharing between viewers.
    pub p2p: P2p,
    /// Folder for everything kept.
    pub data: PathBuf,
    /// Whether to start the demo stream.
    pub demo: bool,
    /// Log filter.
    pub log: String,
    /// What may be changed while running, as it is at the start.
    pub limits: Limits,
    /// Whether processes and the machine are watched.
    pub resource_monitor: bool,
    /// How often warnings are judged, in milliseconds.
    pub resource_monitor_interval_ms: u64,
    /// Patience with a worker after SIGTERM, in milliseconds.
    pub force_kill_timeout_ms: u64,
    /// When an ended or never fed stream is freed, in milliseconds.
    pub stream_timeout_ms: u64,
    /// How long a broadcast waits for its encoder, in milliseconds.
    pub grace_ms: u64,
    /// Length of a part, in milliseconds.
    pub part_ms: u32,
    /// Length of a segment, in milliseconds.
    pub segment_ms: u32,
    /// What one stream may take on disk, in bytes.
    pub spool_bytes_max: u64,
    /// Viewers' connections at once.
    pub connections_max: usize,
    /// Connections from one address.
    pub connections_per_address_max: usize,
    /// Whether each rendition's number is drawn into its pictures.
    pub mark_renditions: bool,
    /// Where this machine describes its devices.
    pub machine_root: PathBuf,
    /// What encodes.
    pub encoders: Preference,
}

/// A setting that cannot be used, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// Marks `error` as one of a setting, which another start does not mend.
    pub fn from_error(error: impl Into<anyhow::Error>) -> Self {
        Self(format!("{:#}", error.into()).replace('\n', " "))
    }
}

impl Settings {
    /// Fills what is not given from the file named by `config`, then from the defaults.
    /// `port` is the value of the environment's `PORT`.
    ///
    /// # Errors
    /// When the file cannot be read or a setting cannot be used.
    pub fn resolve(self, port: Option<&str>) -> Result<Config, ConfigError> {
        let file = match &self.config {
            Some(path) => Self::read(path)?,
            None => Self::default(),
        };
        self.over(file).decide(port)
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("cannot read the configuration {shown}: {e}")))?;
        toml::from_str(&text).map_err(|e| {
            // The first line of the message names the key; the rest draws the place.
            let start = e.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.bytes().take(start).filter(|b| *b == b'\n').count() + 1;
            ConfigError(format!("{shown}, line {line}: {}", e.message().replace('\n', " ")))
        })
    }

    fn over(self, file: Self) -> Self {
        Self {
            config: None,
            http: self.http.or(file.http),
            admin: self.admin.or(file.admin),
            rtmp: self.rtmp.or(file.rtmp),
            public_url: self.public_url.or(file.public_url),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            p2p: self.p2p.or(file.p2p),
            data: self.data.or(file.data),
            demo: self.demo || file.demo,
            log: self.log.or(file.log),
            max_concurrent_streams_per_user: self
                .max_concurrent_streams_per_user
                .or(file.max_concurrent_streams_per_user),
            max_concurrent_streams_global: self
                .max_concurrent_streams_global
                .or(file.max_concurrent_streams_global),
            resource_monitor: self.resource_monitor.or(file.resource_monitor),
            resource_monitor_interval_ms: self
                .resource_monitor_interval_ms
                .or(file.resource_monitor_interval_ms),
            resource_warning_cpu_percent: self
                .resource_warning_cpu_percent
                .or(file.resource_warning_cpu_percent),
            resource_warning_memory_mb: self
                .resource_warning_memory_mb
                .or(file.resource_warning_memory_mb),
            worker_memory_limit_mb: self.worker_memory_limit_mb.or(file.worker_memory_limit_mb),
            admission: self.admission.or(file.admission),
            degradation: self.degradation.or(file.degradation),
            on_demand: self.on_demand.or(file.on_demand),
            force_kill_timeout_ms: self.force_kill_timeout_ms.or(file.force_kill_timeout_ms),
            stream_timeout_ms: self.stream_timeout_ms.or(file.stream_timeout_ms),
            grace_ms: self.grace_ms.or(file.grace_ms),
            part_ms: self.part_ms.or(file.part_ms),
            segment_ms: self.segment_ms.or(file.segment_ms),
            spool_mb: self.spool_mb.or(file.spool_mb),
            connections_max: self.connections_max.or(file.connections_max),
            connections_per_address_max: self
                .connections_per_address_max
                .or(file.connections_per_address_max),
            mark_renditions: self.mark_renditions || file.mark_renditions,
            machine_root: self.machine_root,
            prefer_hardware_encoding: self
                .prefer_hardware_encoding
                .or(file.prefer_hardware_encoding),
            hardware_encoder_fallback: self
                .hardware_encoder_fallback
                .or(file.hardware_encoder_fallback),
        }
    }

    fn decide(self, port: Option<&str>) -> Result<Config, ConfigError> {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let http = match (self.http, port) {
            (Some(http), _) => http,
            (None, Some(port)) => SocketAddr::new(any, parse_port(port)?),
            (None, None) => SocketAddr::new(any, 8080),
        };
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return fail("--tls-cert and --tls-key go together: give both or neither"),
        };
        let part_ms = within("part_ms", self.part_ms.unwrap_or(500), 200, 1000)?;
        let segment_ms = within("segment_ms", self.segment_ms.unwrap_or(2000), 1000, 6000)?;
        if segment_ms % 1000 != 0 {
            return fail("segment_ms is in whole seconds: 1000, 2000, … 6000");
        }
        let given = LimitsChange {
            max_concurrent_streams_per_user: self.max_concurrent_streams_per_user,
            max_concurrent_streams_global: self.max_concurrent_streams_global,
            resource_warning_cpu_percent: self.resource_warning_cpu_percent,
            resource_warning_memory_mb: self.resource_warning_memory_mb,
            worker_memory_limit_mb: self.worker_memory_limit_mb,
            admission: self.admission,
            degradation: self.degradation,
            on_demand: self.on_demand,
        };
        let limits = Limits::default().changed(&given).or_else(|e| fail(e.to_string()))?;
        let resource_monitor = self.resource_monitor.unwrap_or(true);
        if !resource_monitor && limits.worker_memory_limit_mb > 0 {
            return fail("worker_memory_limit_mb needs resource_monitor = true");
        }
        let interval_ms = self.resource_monitor_interval_ms.unwrap_or(30_000);
        if !(MONITOR_INTERVAL_MIN_MS..=MONITOR_INTERVAL_MAX_MS).contains(&interval_ms) {
            return fail(format!(
                "resource_monitor_interval_ms = {interval_ms} cannot be used: give \
                 {MONITOR_INTERVAL_MIN_MS} to {MONITOR_INTERVAL_MAX_MS}"
            ));
        }
        let policy = if self.demo { P2p::On } else { P2p::OptIn };
        Ok(Config {
            http,
            admin: self.admin.unwrap_or(SocketAddr::new(local, 8081)),
            rtmp: self.rtmp.unwrap_or(SocketAddr::new(any, 1935)),
            public_url: self.public_url.map(public_url).transpose()?,
            tls,
            p2p: self.p2p.unwrap_or(policy),
            data: self.data.unwrap_or_else(|| "data".into()),
            demo: self.demo,
            log: self.log.unwrap_or_else(|| "info".into()),
            limits,
            resource_monitor,
            resource_monitor_interval_ms: interval_ms,
            force_kill_timeout_ms: self.force_kill_timeout_ms.unwrap_or(5000),
            stream_timeout_ms: self.stream_timeout_ms.unwrap_or(3_600_000),
            grace_ms: self.grace_ms.unwrap_or(120_000),
            part_ms,
            segment_ms,
            spool_bytes_max: self.spool_mb.unwrap_or(1024).saturating_mul(1 << 20),
            connections_max: self.connections_max.unwrap_or(20_000),
            connections_per_address_max: self.connections_per_address_max.unwrap_or(512),
            mark_renditions: self.mark_renditions,
            machine_root: self.machine_root.unwrap_or_else(|| "/".into()),
            encoders: Preference {
                hardware: self.prefer_hardware_encoding.unwrap_or(true),
                fallback: self.hardware_encoder_fallback.unwrap_or(true),
            },
        })
    }
}

impl P2p {
    /// Its name in `info.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::OptIn => "opt-in",
            Self::Off => "off",
        }
    }
}

fn fail<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(message.into()))
}

fn parse_port(port: &str) -> Result<u16, ConfigError> {
    port.parse().or_else(|_| fail(format!("PORT={port} is not a port: give a number up to 65535")))
}

fn within(name: &str, value: u32, min: u32, max: u32) -> Result<u32, ConfigError> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        fail(format!("{name} = {value} cannot be used: give {min} to {max}"))
    }
}

fn public_url(url: String) -> Result<String, ConfigError> {
    let trimmed = url.trim_end_matches('/');
    match trimmed.parse::<http::Uri>() {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.path() == "/" => {
            Ok(trimmed.to_owned())
        }
        _ => fail(format!(
            "public_url = {url} cannot be used: give scheme and host, such as https://live.example"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("shoal.toml");
        std::fs::write(&path, text).expect("a file");
        Settings { config: Some(path), ..Settings::default() }.resolve(None)
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_key_and_the_line() {
        let error = from_file("demo = true\nhtpp = \"0.0.0.0:80\"\n").expect_err("a typo");
        let text = error.to_string();
        assert!(text.contains("htpp") && text.contains("line 2"), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let config = from_file("http = \"127.0.0.1:9000\"\npart_ms = 250").expect("good");
        assert_eq!((config.http.port(), config.part_ms, config.segment_ms), (9000, 250, 2000));
        let flag = Settings { http: Some(([127, 0, 0, 1], 7).into()), ..Settings::default() };
        let file = Settings { http: Some(([127, 0, 0, 1], 8).into()), ..Settings::default() };
        assert_eq!(flag.over(file).decide(Some("99")).expect("good").http.port(), 7);
        assert_eq!(Settings::default().decide(Some("99")).expect("good").http.port(), 99);
    }

    #[test]
    fn settings_that_cannot_work_say_what_to_do() {
        for (text, hint) in [
            ("tls_cert = \"a.pem\"", "both"),
            ("part_ms = 5", "200 to 1000"),
            ("worker_memory_limit_mb = 5", "at least 64"),
            ("worker_memory_limit_mb = 500\nresource_monitor = false", "resource_monitor"),
            ("resource_monitor_interval_ms = 5", "100 to 3600000"),
            ("segment_ms = 1500", "whole seconds"),
            ("public_url = \"ftp://x\"", "https://"),
        ] {
            let error = from_file(text).expect_err(text).to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
