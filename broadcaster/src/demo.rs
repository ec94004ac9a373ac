//! The welcome of `--demo`: what a new user needs to see first.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use common::id::StreamName;
use common::rendition::{Ladder, NamedLadder};

use crate::app::Addresses;
use crate::config::Config;
use crate::say;
use crate::streams::source::SourceSpec;
use crate::streams::store::NewStream;
use crate::supervise::registry::{Registry, RegistryError};

/// The stream that a new user's own encoder publishes to.
const OWN_STREAM: &str = "live";

/// The key for a new user's own encoder. Only in the demo is a key kept where it can be read, in
/// a file for its owner alone, so that it is the same at every start.
///
/// # Errors
/// When the stream cannot be made or the key not be kept.
pub(crate) async fn stream_key(registry: &Registry, data: &Path) -> anyhow::Result<String> {
    let name: StreamName = OWN_STREAM.parse()?;
    let path = data.join("demo-stream-key");
    match registry.get(&name) {
        Ok(_) => {
            registry.start(&name).await?;
            if let Ok(key) = std::fs::read_to_string(&path) {
                return Ok(key.trim().to_owned());
            }
            keep(&path, registry.renew_key(&name).await?.reveal())
        }
        Err(RegistryError::Unknown(_)) => {
            let new = NewStream {
                name,
                title: Some("My stream".into()),
                owner: None,
                source: SourceSpec::Rtmp,
                ladder: Ladder::Named(NamedLadder::Auto),
                repeat: false,
                qualities: Default::default(),
            };
            keep(&path, registry.create(new).await?.reveal())
        }
        Err(error) => Err(error.into()),
    }
}

/// Says where to watch, where to publish, and where to look after it all.
pub(crate) fn print_welcome(config: &Config, addresses: &Addresses, key: &str) {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let base = match &config.public_url {
        Some(url) => url.clone(),
        None => format!("{scheme}://{}", reachable(addresses.http)),
    };
    say::line!();
    say::line!("  Watch the demo    {base}/watch/demo");
    say::line!("  Look after it     {base}/studio   (token: {})", token_place(config));
    say::line!();
    say::line!("  Go live yourself, with OBS, ffmpeg or a phone:");
    say::line!("    server          rtmp://{}/live", reachable(addresses.rtmp));
    say::line!("    stream key      {key}");
    say::line!("    then watch      {base}/watch/{OWN_STREAM}");
    say::line!();
}

fn token_place(config: &Config) -> String {
    match std::env::var("SHOAL_ADMIN_TOKEN") {
        Ok(token) if !token.is_empty() => "$SHOAL_ADMIN_TOKEN".into(),
        _ => format!("in {}", config.data.join("admin-token").display()),
    }
}

/// The address as a person on this machine can use it.
fn reachable(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => format!("localhost:{}", address.port()),
        IpAddr::V6(_) => format!("[{}]:{}", address.ip(), address.port()),
        IpAddr::V4(_) => address.to_string(),
    }
}

fn keep(path: &Path, key: &str) -> anyhow::Result<String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(key.as_bytes())?;
    Ok(key.to_owned())
}
