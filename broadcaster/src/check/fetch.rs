//! Asking the server: one request, and what came of it.

use std::error::Error;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{self, HeaderMap};

use super::rules::Meta;

/// Largest body that is read: a minute of 4K.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The origin that requests name, as a page on another site would.
pub(crate) const ORIGIN: &str = "https://check-hls.invalid";

/// The client and the clock that all times refer to.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    /// Keeps its connections.
    plain: reqwest::Client,
    /// Makes one for each request.
    fresh: reqwest::Client,
    began: Instant,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    url: String,
    headers: Vec<(header::HeaderName, String)>,
    timeout: Duration,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Box<Answer>),
    /// No connection.
    Refused,
    /// The answer broke off.
    Broken(String),
    /// Nothing, or not everything, came in time.
    TimedOut,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) meta: Meta,
    pub(crate) body: Bytes,
    /// The server's Date header as seconds since 1970.
    pub(crate) date_s: Option<i64>,
    pub(crate) sent_ms: u64,
    pub(crate) at_ms: u64,
}

impl Ask {
    /// A plain request that should be answered at once.
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), headers: Vec::new(), timeout: Duration::from_secs(10) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn with(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Asks for these bytes only, the last one included.
    pub(crate) fn bytes(self, first: u64, last: u64) -> Self {
        self.with(header::RANGE, format!("bytes={first}-{last}"))
    }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The size of the whole resource, also when only a range of it was asked for.
    pub(crate) fn whole_bytes(&self) -> Option<u64> {
        match self.meta.status {
            206 => self.meta.content_range.as_deref()?.rsplit_once('/')?.1.parse().ok(),
            200 => Some(self.body.len() as u64),
            _ => None,
        }
    }
}

impl Fetcher {
    /// # Errors
    /// When no client can be made, for want of certificates.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        // Somebody else in this process may have chosen one already, which is as good.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let client = || {
            reqwest::Client::builder()
                .no_gzip()
                .user_agent(concat!("shoal-check-hls/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_secs(5))
        };
        let (plain, fresh) = (client().build()?, client().pool_max_idle_per_host(0).build()?);
        Ok(Self { plain, fresh, began: Instant::now() })
    }

    /// Milliseconds since the check began.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) async fn get(&self, ask: Ask) -> Outcome {
        let sent_ms = self.now_ms();
        match tokio::time::timeout(ask.timeout, self.receive(ask, sent_ms)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::TimedOut,
        }
    }

    async fn receive(&self, ask: Ask, sent_ms: u64) -> Outcome {
        let mut sent = send(&self.plain, &ask).await;
        // A server may close a connection that is idle just as the next request is under way on it,
        // and whoever asks then asks again (RFC 9112 9.3.1). On one of its own there is no such excuse.
        if sent.as_ref().is_err_and(is_unanswered) {
            sent = send(&self.fresh, &ask).await;
        }
        let mut response = match sent {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Outcome::Refused,
            Err(error) => return Outcome::Broken(cause(&error)),
        };
        let meta = meta(response.status().as_u16(), response.headers());
        let date_s = date(response.headers());
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_BYTES_MAX => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => return Outcome::Broken("the answer is too large".into()),
                Ok(None) => break,
                Err(error) => return Outcome::Broken(cause(&error)),
            }
        }
        let at_ms = self.now_ms();
        let answer = Answer { meta, body: body.freeze(), date_s, sent_ms, at_ms };
        Outcome::Answered(Box::new(answer))
    }
}

async fn send(client: &reqwest::Client, ask: &Ask) -> Result<reqwest::Response, reqwest::Error> {
    let mut request = client.get(&ask.url).header(header::ORIGIN, ORIGIN);
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    request.send().await
}

/// Whether the connection ended before anything of the answer came.
fn is_unanswered(error: &reqwest::Error) -> bool {
    !error.is_connect()
        && causes(error).any(|source| {
            let closed = source.downcast_ref::<hyper::Error>();
            let reset = source.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            closed.is_some_and(hyper::Error::is_incomplete_message)
                || reset.is_some_and(|k| matches!(k, ConnectionReset | BrokenPipe))
        })
}

/// The innermost cause, which says what happened rather than to which URL.
fn cause(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// What lies behind an error, the innermost last.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&source| source.source())
}

fn meta(status: u16, headers: &HeaderMap) -> Meta {
    let get = |name: header::HeaderName| {
        let values: Vec<&str> =
            headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    };
    let mut allow_origin = get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if allow_origin.as_deref() == Some(ORIGIN) {
        allow_origin = Some("*".into()); // Open to whoever asks, which is what the rule wants.
    }
    Meta {
        status,
        content_type: get(header::CONTENT_TYPE),
        cache_control: get(header::CACHE_CONTROL),
        allow_origin,
        etag: get(header::ETAG),
        content_range: get(header::CONTENT_RANGE),
        content_encoding: get(header::CONTENT_ENCODING),
        vary: get(header::VARY),
    }
}

fn date(headers: &HeaderMap) -> Option<i64> {
    use time::format_description::well_known::Rfc2822;
    let text = headers.get(header::DATE)?.to_str().ok()?;
    // HTTP dates are RFC 2822 dates with GMT as their zone.
    let text = text.strip_suffix("GMT")?;
    let date = time::OffsetDateTime::parse(&format!("{text}+0000"), &Rfc2822).ok()?;
    Some(date.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A server whose connections answer as many requests as this and close when the next comes.
    async fn server(answers: [usize; 2]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("its address"));
        tokio::spawn(async move {
            for answers in answers {
                let (mut socket, _) = listener.accept().await.expect("a client");
                for _ in 0..answers {
                    hear(&mut socket).await;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    socket.write_all(answer).await.expect("it listens");
                }
                hear(&mut socket).await;
            }
        });
        url
    }

    /// Reads a request's head.
    async fn hear(socket: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
    }

    #[tokio::test]
    async fn a_request_that_meets_a_closing_connection_is_made_again_on_one_of_its_own() {
        let url = server([1, 1]).await;
        let fetcher = Fetcher::new().expect("a client");
        for nth in 0..2 {
            let Outcome::Answered(answer) = fetcher.get(Ask::new(&url)).await else {
                panic!("request {nth}");
            };
            assert_eq!(answer.text(), "ok");
        }
    }

    #[tokio::test]
    async fn one_that_is_never_answered_is_reported() {
        let url = server([0, 0]).await;
        let fetcher = Fetcher::new().expect("a client");
        let Outcome::Broken(why) = fetcher.get(Ask::new(&url)).await else { panic!("it was not") };
        assert_eq!(why, "connection closed before message completed");
    }
}
