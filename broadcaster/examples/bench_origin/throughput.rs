//! Segments per second of the origin and of nginx with sendfile, in turns, on the same cores.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::child::Talker;
use super::server::SEGMENTS;
use super::{Figure, median};

/// Rounds of each; the ratio is of neighbours, so that a busy machine slows both.
const ROUNDS: usize = 5;
const ROUND: &str = "4s";
const CONNECTIONS: &str = "64";

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut server = Talker::start(&["server"])?;
    let ours = server.hear()?;
    let folder = tempfile::tempdir()?;
    let files = folder.path().join("files/live/bench/1/v");
    std::fs::create_dir_all(&files)?;
    let mut bytes = 0;
    let mut paths = Vec::new();
    for msn in 0..SEGMENTS {
        let path = format!("/live/bench/1/v/{msn}.m4s");
        let segment = get(&ours, &path)?;
        bytes = segment.len();
        std::fs::write(files.join(format!("{msn}.m4s")), segment)?;
        paths.push(format!("{path:?}"));
    }
    let script = folder.path().join("paths.lua");
    let lua = format!(
        "local paths = {{ {} }}\nlocal at = 0\nfunction request()\n  at = at % #paths + 1\n  \
         return wrk.format(\"GET\", paths[at])\nend\n",
        paths.join(", ")
    );
    std::fs::write(&script, lua)?;
    let nginx = Nginx::start(folder.path())?;
    ensure!(get(&nginx.address, "/live/bench/1/v/0.m4s")? == get(&ours, "/live/bench/1/v/0.m4s")?);

    println!(
        "{SEGMENTS} objects of {bytes} bytes, {CONNECTIONS} keep-alive connections, {ROUND} rounds"
    );
    println!("{:>5}  {:>12}  {:>12}  {:>6}", "round", "origin MB/s", "nginx MB/s", "ratio");
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        // In turns, and every other time the other one first.
        let (origin, nginx) = if round % 2 == 1 {
            let origin = wrk(&ours, &script)?;
            (origin, wrk(&nginx.address, &script)?)
        } else {
            let nginx = wrk(&nginx.address, &script)?;
            (wrk(&ours, &script)?, nginx)
        };
        let [origin, nginx] = [origin, nginx].map(|rate| rate * bytes as f64 / 1e6);
        println!("{round:>5}  {origin:>12.0}  {nginx:>12.0}  {:>6.2}", origin / nginx);
        ratios.push(origin / nginx);
        rates.push(origin);
    }
    let ratio = median(ratios);
    Ok(vec![Figure {
        what: "segments of 600 kB: origin against nginx (sendfile)",
        measured: format!("{ratio:.2} x ({:.0} MB/s)", median(rates)),
        wanted: ">= 0.9 x",
        met: ratio >= 0.9,
    }])
}

struct Nginx {
    child: Child,
    address: String,
}

impl Nginx {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let root = folder.display();
        // As fast as it goes: no log, files kept open, both cores, full packets.
        let config = format!(
            "daemon off; worker_processes auto; pid {root}/nginx.pid; error_log {root}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
             open_file_cache max=100; types {{ video/mp4 m4s; }}\n\
             client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
             uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;\n\
             server {{ listen {address}; root {root}/files; }} }}\n"
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, config)?;
        // Its workers run as another user, who must get in.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder, open)?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start nginx: install it")?;
        let nginx = Self { child, address };
        let began = Instant::now();
        while TcpStream::connect(&nginx.address).is_err() {
            ensure!(began.elapsed() < Duration::from_secs(5), "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGQUIT lets its workers end too.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.child.wait();
    }
}

/// Requests per second.
fn wrk(address: &str, script: &Path) -> anyhow::Result<f64> {
    let output = Command::new("wrk")
        .args(["-t2", "-c", CONNECTIONS, "-d", ROUND, "-s"])
        .arg(script)
        .arg(format!("http://{address}"))
        .output()
        .context("cannot start wrk: install it")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.contains("Non-2xx"), "not every answer was a segment:\n{text}");
    let line = text.lines().find_map(|l| l.strip_prefix("Requests/sec:"));
    line.and_then(|l| l.trim().parse().ok()).with_context(|| format!("wrk said:\n{text}"))
}

/// The body of an answer 200.
fn get(address: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(address)?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").context("no head")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path} is not answered 200");
    Ok(answer.split_off(end + 4))
}
