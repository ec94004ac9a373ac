//! Puts the broadcaster together, runs it, and takes it down.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use common::rendition::{DEMO_LADDER, Ladder, RungChoice};
use http::Request;
use http::header::HOST;
use hyper::body::Incoming;
use tokio::sync::watch;
use tower::ServiceExt as _;

use crate::api::{self, Api, host_of};
use crate::config::{Config, ConfigError};
use crate::ingest::rtmp::listener::{self, ListenerCounters, ListenerLimits};
use crate::origin::serve::{Caps, Server};
use crate::origin::tls::Tls;
use crate::origin::{Body, Origin, Response};
use crate::resource::monitor::Monitor;
use crate::secret;
use crate::store::segment_file;
use crate::store::spool::Spool;
use crate::streams::source::SourceSpec;
use crate::streams::store::{NewStream, Store, StreamEntry};
use crate::supervise::governor::{self, Governor};
use crate::supervise::registry::{Measured, Registry, RegistryError};
use crate::supervise::{encoders, trial};
use crate::worker::ladder::wants_trial;
use crate::{cleanup, demo, notify, shutdown, web};

/// Connections that the admin listener takes: one operator, some dashboards and a scraper.
const ADMIN_CAPS: Caps = Caps { connections_max: 256, per_address_max: 128 };

/// File handles that are not viewers: sockets of workers, the spool's files, listeners.
const HANDLES_KEPT: usize = 512 + segment_file::OPEN_MAX;

/// Runs the broadcaster until a signal ends it.
///
/// # Errors
/// When it cannot start; each in one line that says what to do. A setting that cannot be used is a
/// [`ConfigError`].
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let mut asked = shutdown::listen().context("cannot take signals")?;
    let tls = config.tls.as_ref().map(|(cert, key)| Tls::load(cert, key)).transpose();
    let tls = tls.map_err(ConfigError::from_error)?;
    let data = &config.data;
    std::fs::create_dir_all(data)
        .with_context(|| {
            format!("cannot make the data folder {}: choose another with --data", data.display())
        })
        .map_err(ConfigError::from_error)?;
    let _lock = lock_data(data)?;
    let handles = raise_open_files();
    let signer = Arc::new(secret::feed_signer(data).map_err(ConfigError::from_error)?);
    let token = secret::admin_token(data, std::env::var("SHOAL_ADMIN_TOKEN").ok())
        .map_err(ConfigError::from_error)?;
    let store = Store::open(data).map_err(ConfigError::from_error)?;
    let removed = cleanup::at_start(data, |name| store.get(name).is_some());
    let (spool, spool_thread) = Spool::open(data.join("spool"), config.spool_bytes_max)
        .with_context(|| format!("cannot use the spool in {}", data.display()))
        .map_err(ConfigError::from_error)?;

    let caps = Caps {
        connections_max: config.connections_max.min(handles.saturating_sub(HANDLES_KEPT).max(64)),
        per_address_max: config.connections_per_address_max,
    };
    let http =
        Server::bind(config.http, tls.clone(), caps).map_err(in_use("--http", config.http))?;
    let admin =
        Server::bind(config.admin, None, ADMIN_CAPS).map_err(in_use("--admin", config.admin))?;
    let rtmp =
        tokio::net::TcpListener::bind(config.rtmp).await.map_err(in_use("--rtmp", config.rtmp))?;
    let addresses = Addresses {
        http: http.local_addr()?,
        admin: admin.local_addr()?,
        rtmp: rtmp.local_addr()?,
    };

    let origin = Arc::new(Origin::default());
    let program = std::env::current_exe().context("cannot find our own program")?;
    let auto = |entry: &StreamEntry| wants_trial(&entry.ladder);
    let trial = match trial::kept(data) {
        Some(trial) => Some(trial),
        // The demo makes an auto stream. Measured before anything else runs, so that it is true.
        None if config.demo || store.list().any(auto) => {
            tracing::info!("measuring once what this machine can encode: about 3 s");
            let measured = trial::run(&program, data).await;
            measured.inspect_err(|e| tracing::warn!("the trial of encoders failed: {e:#}")).ok()
        }
        None => None,
    };
    let finder = encoders::finder(program.clone(), &config);
    let encoders = finder.for_workers(config.encoders).await;
    let registry = Registry::open(
        config.clone(),
        program,
        signer,
        spool.clone(),
        origin.clone(),
        store,
        Measured { trial, encoders },
    )?;
    registry.counts().cleanups.add(removed.total());
    registry.counts().cleanup_failures.add(removed.failures);
    let monitor = Arc::new(Monitor::default());
    let ingest = Arc::new(ListenerCounters::default());
    let governor = Arc::new(Governor::default());
    let api = Arc::new(Api {
        governor: governor.clone(),
        registry: registry.clone(),
        origin: origin.clone(),
        spool: spool.clone(),
        monitor: monitor.clone(),
        connections: http.counters(),
        ingest: ingest.clone(),
        tls: tls.clone(),
        token,
        ingest_port: addresses.rtmp.port(),
        public_host: config.public_url.as_deref().and_then(host_of_url),
    });
    let pages = api::router(api.clone()).merge(web::router());
    let admin_pages = api::router(api.clone()).merge(api::admin_router(api));

    let (stop, stopped) = watch::channel(false);
    let viewers = tokio::spawn(http.run(handler(origin.clone(), pages), stopped.clone()));
    let served = origin.clone();
    let operators = tokio::spawn(admin.run(handler(origin, admin_pages), stopped.clone()));
    let publishers = tokio::spawn(listener::run(
        rtmp,
        registry.clone(),
        ListenerLimits::default(),
        ingest,
        stopped,
    ));
    governor::start(governor, registry.clone(), monitor.clone());
    let (watched, heeded) = (registry.clone(), monitor.clone());
    if config.resource_monitor {
        let (limits, data) = (registry.limits().clone(), config.data.clone());
        let interval = Duration::from_millis(config.resource_monitor_interval_ms);
        tokio::spawn(monitor.run(watched, limits, interval, data));
    }
    if let Some(tls) = tls {
        tokio::spawn(async move { tls.follow_files().await });
    }

    if config.demo {
        start_demo(&config, &registry, &addresses).await?;
    }
    // From now on: the demo, and what was on before, is let in.
    registry.heed(heeded);
    tracing::info!(
        http = %addresses.http, admin = %addresses.admin, rtmp = %addresses.rtmp,
        data = %config.data.display(), "the broadcaster is up"
    );
    notify::ready();
    let lives = tokio::spawn(notify::stay_alive(registry.clone()));
    // An error means that the thread of signals has ended, and with it the wish to go on.
    let _ = asked.wait_for(|asked| *asked).await;
    tracing::info!("stopping: a second signal stops at once");
    lives.abort();
    notify::stopping();
    registry.close();
    let told = async {
        if served.streams().iter().any(|stream| stream.viewers.count() > 0) {
            tokio::time::sleep(shutdown::VIEWERS_TOLD).await;
        }
        // No connection is taken any more; those that are open end with their next answer. They
        // learn of that first, so that the answer says so.
        stop.send_replace(true);
        tokio::time::sleep(shutdown::STOP_HEARD).await;
        for stream in served.streams() {
            stream.live.release();
        }
        // How a listener ended changes nothing any more.
        let _ = tokio::join!(viewers, operators, publishers);
    };
    tokio::join!(told, registry.shut_down());
    drop(registry);
    let written = tokio::task::spawn_blocking(move || spool_thread.stop(&spool));
    if tokio::time::timeout(shutdown::SPOOL_MAX, written).await.is_err() {
        tracing::error!("the disk under the spool hangs: what waits for it is lost");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Where we listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) rtmp: SocketAddr,
}

/// Media straight from the origin, everything else through the router.
fn handler(
    origin: Arc<Origin>,
    router: Router,
) -> impl Fn(Request<Incoming>, SocketAddr) -> Answer + Clone + Send + Sync + 'static {
    move |mut request: Request<Incoming>, peer| {
        // HTTP/2 names the host in the address only.
        let authority = request.uri().authority().and_then(|a| a.as_str().parse().ok());
        if let Some(host) = authority
            && !request.headers().contains_key(HOST)
        {
            request.headers_mut().insert(HOST, host);
        }
        let (origin, router) = (origin.clone(), router.clone());
        Box::pin(async move {
            if let Some(path) = request.uri().path().strip_prefix("/live/") {
                let query = request.uri().query().unwrap_or_default();
                return origin
                    .answer(request.method(), path, query, request.headers(), peer.ip())
                    .await;
            }
            let Ok(response) = router.oneshot(request).await;
            response.map(Body::Other)
        })
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

async fn start_demo(
    config: &Config,
    registry: &Registry,
    addresses: &Addresses,
) -> anyhow::Result<()> {
    let name = "demo".parse()?;
    let rungs = DEMO_LADDER.iter().map(|id| RungChoice::Preset((*id).to_owned())).collect();
    let new = NewStream {
        name,
        title: Some("Demo".into()),
        owner: None,
        source: SourceSpec::Test,
        ladder: Ladder::Rungs(rungs),
        repeat: false,
        qualities: Default::default(),
    };
    let name = new.name.clone();
    match registry.get(&name) {
        Ok(_) => registry.start(&name).await?,
        Err(RegistryError::Unknown(_)) => drop(registry.create(new).await?),
        Err(error) => return Err(error.into()),
    }
    let key = demo::stream_key(registry, &config.data).await?;
    demo::print_welcome(config, addresses, &key);
    Ok(())
}

/// Two broadcasters in one folder would use the same numbers twice.
fn lock_data(data: &Path) -> anyhow::Result<File> {
    let path = data.join("lock");
    let file = File::create(&path)
        .with_context(|| format!("cannot make {}", path.display()))
        .map_err(ConfigError::from_error)?;
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(&file, exclusive).map_err(|_| {
        anyhow!(
            "another broadcaster uses {}: stop it, or give this one its own --data",
            data.display()
        )
    })?;
    Ok(file)
}

/// Every viewer is a file handle; takes as many as the system lets us. Gives how many that is.
fn raise_open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
    .map_or(usize::MAX, |n| n as usize)
}

fn in_use(flag: &'static str, address: SocketAddr) -> impl FnOnce(std::io::Error) -> anyhow::Error {
    move |error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow!(
            "{address} is in use by another program: stop it, or choose another with {flag}"
        ),
        std::io::ErrorKind::PermissionDenied => anyhow!(
            "not allowed to listen on {address}: ports below 1024 need privileges, or choose \
             another with {flag}"
        ),
        _ => anyhow!("cannot listen on {address}: {error}; choose another with {flag}"),
    }
}

fn host_of_url(url: &str) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    Some(host_of(uri.authority()?.as_str()).to_owned())
}

/// The folder of a running broadcaster is locked; without the lock nobody runs there.
pub fn is_running(data: &Path) -> bool {
    data.join("lock").exists() && lock_data(data).is_err()
}
