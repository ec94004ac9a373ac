//! A running `broadcaster serve` on ports of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use reqwest::{Client, Method, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything here may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A broadcaster, killed when dropped.
pub(crate) struct Broadcaster {
    process: Child,
    /// Its log, line by line, from its start on.
    log: Receiver<String>,
    seen: Vec<String>,
    pub(crate) http: String,
    pub(crate) rtmp: String,
    pub(crate) api: Api,
}

/// How to call it.
#[derive(Clone)]
pub(crate) struct Api {
    admin: String,
    token: String,
    client: Client,
}

impl Broadcaster {
    /// Starts one in `data` and waits until it is up.
    pub(crate) fn start(data: &Path, change: impl FnOnce(&mut Command)) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_broadcaster")), data, change)
    }

    /// The same with another program, which is also its own worker.
    pub(crate) fn start_program(
        program: &Path,
        data: &Path,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut command = Command::new(program);
        let free = "127.0.0.1:0";
        command
            .args(["serve", "--http", free, "--admin", free, "--rtmp", free, "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        change(&mut command);
        let mut process = command.spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (line, log) = channel();
        std::thread::spawn(move || {
            for text in stderr.lines().map_while(Result::ok) {
                if line.send(text).is_err() {
                    return;
                }
            }
        });
        let mut this = Self {
            process,
            log,
            seen: Vec::new(),
            http: String::new(),
            rtmp: String::new(),
            api: Api {
                admin: String::new(),
                token: String::new(),
                client: Client::builder().timeout(PATIENCE).build().unwrap(),
            },
        };
        let up = this.logs("the broadcaster is up");
        let field = |name: &str| {
            let value = up.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.unwrap().to_owned()
        };
        (this.http, this.rtmp, this.api.admin) = (field("http="), field("rtmp="), field("admin="));
        this.api.token =
            std::fs::read_to_string(data.join("admin-token")).unwrap().trim().to_owned();
        this
    }

    /// Waits for a line of its log that has `words` in it.
    pub(crate) fn logs(&mut self, words: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => self.seen.push(line),
                Err(_) => panic!("no line says {words:?}: {:#?}", self.seen),
            }
        }
    }

    /// Its log up to the line that has `words` in it.
    pub(crate) fn lines_until(&mut self, words: &str) -> Vec<String> {
        let last = self.logs(words);
        self.seen.iter().cloned().chain([last]).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Api {
    /// Calls the API.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}/api/v1{path}", self.admin);
        let request = self.client.request(method, url).bearer_auth(&self.token);
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Asks for anything of the admin listener, which has all that viewers have.
    pub(crate) async fn get(&self, path: &str) -> reqwest::Result<Response> {
        self.client.get(format!("http://{}{path}", self.admin)).send().await
    }

    /// What a metric says, by its name with its labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.get("/metrics").await.unwrap().text().await.unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Makes a stream that passes through what an encoder sends.
    pub(crate) async fn add(&self, name: &str, owner: &str) -> (u16, Value) {
        let new = serde_json::json!({"name": name, "owner": owner, "ladder": "passthrough"});
        self.call(Method::POST, "/streams", new).await
    }
}

impl Drop for Broadcaster {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
