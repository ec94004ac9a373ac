//! `broadcaster stream add`: makes a stream from the shell, through the running broadcaster or,
//! when none runs, in its data folder.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use common::id::StreamName;
use common::rendition::{Ladder, NamedLadder, RungChoice};
use serde_json::Value;

use crate::streams::source::SourceSpec;
use crate::streams::store::{NewStream, Store};
use crate::{app, say, secret};

/// How long the running broadcaster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Work on streams.
#[derive(Debug, Subcommand)]
pub enum StreamCommand {
    /// Make a stream and print its server and key
    Add(Add),
}

/// What `stream add` is told.
#[derive(Debug, Args)]
pub struct Add {
    /// Name in addresses: a-z, 0-9 and '-'
    name: StreamName,
    /// Title for viewers [default: the name]
    #[arg(long)]
    title: Option<String>,
    /// Whose limit it counts for [default: default]
    #[arg(long)]
    owner: Option<String>,
    /// rtmp, test or file:PATH
    #[arg(long, default_value = "rtmp")]
    source: SourceSpec,
    /// auto, passthrough, or rungs such as source,720p,480p
    #[arg(long, default_value = "auto", value_parser = ladder)]
    ladder: Ladder,
    /// Start a file again at its end
    #[arg(long)]
    repeat: bool,
    /// Folder of the broadcaster's data
    #[arg(long, env = "SHOAL_DATA", default_value = "data", value_name = "DIR")]
    data: PathBuf,
    /// Where the running broadcaster listens for its operator
    #[arg(long, env = "SHOAL_ADMIN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    admin: SocketAddr,
}

/// Makes the stream and says what an encoder needs.
///
/// # Errors
/// When it cannot be made, in one line that says why.
pub async fn add(add: Add) -> anyhow::Result<()> {
    let name = add.name.clone();
    let new = NewStream {
        name: add.name,
        title: add.title,
        owner: add.owner,
        source: add.source,
        ladder: add.ladder,
        repeat: add.repeat,
        qualities: Default::default(),
    };
    let (server, key) = if app::is_running(&add.data) {
        ask(&add.admin, &add.data, &new).await?
    } else {
        std::fs::create_dir_all(&add.data)
            .with_context(|| format!("cannot make the data folder {}", add.data.display()))?;
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let key = Store::open(&add.data)?.add(new, now_s)?;
        ("rtmp://HOST:1935/live".to_owned(), key.reveal().to_owned())
    };
    let written = say::text(format_args!(
        "stream      {name}\nserver      {server}\nstream key  {key}   (shown only now)\n"
    ));
    if !written {
        bail!(
            "the stream {name} is made, but its key could not be shown: have it renewed in the studio"
        );
    }
    Ok(())
}

async fn ask(
    admin: &SocketAddr,
    data: &std::path::Path,
    new: &NewStream,
) -> anyhow::Result<(String, String)> {
    let token = secret::admin_token(data, std::env::var("SHOAL_ADMIN_TOKEN").ok())?;
    let url = format!("http://{admin}/api/v1/streams");
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let response = client
        .post(&url)
        .bearer_auth(token)
        .json(new)
        .send()
        .await
        .map_err(|_| anyhow!("no broadcaster answers at {admin}: give its --admin address"))?;
    let made = response.status().is_success();
    let body: Value = response.json().await.context("the broadcaster's answer is not JSON")?;
    if !made {
        bail!("{}", body["error"]["message"].as_str().unwrap_or("the broadcaster refuses"));
    }
    let text = |key: &str| body[key].as_str().map(str::to_owned).context("an answer without a key");
    Ok((text("ingest_url")?, text("stream_key")?))
}

/// Reads a ladder as it is written in a shell.
fn ladder(text: &str) -> Result<Ladder, String> {
    match text {
        "auto" => Ok(Ladder::Named(NamedLadder::Auto)),
        "passthrough" => Ok(Ladder::Named(NamedLadder::Passthrough)),
        "" => Err("a ladder names at least one rung".into()),
        rungs => Ok(Ladder::Rungs(
            rungs.split(',').map(|rung| RungChoice::Preset(rung.trim().to_owned())).collect(),
        )),
    }
}
