//! Thousands of blocked playlist requests: what each costs, and how evenly they are released.

use std::io::{BufRead as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags};

use super::child::{Talker, now_us};
use super::server::BASE;
use super::{Figure, median};

const REQUESTS: usize = 8_000;
const ROUNDS: usize = 5;
/// A request waits 6 s at most; they are released well before.
const SETTLE: Duration = Duration::from_millis(1_500);

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut server = Talker::start(&["server"])?;
    let address = server.hear()?;
    let mut client = Talker::start(&["client", &address, &REQUESTS.to_string()])?;
    client.hear()?;
    let before = server.resident()?;
    client.ask("connect")?;

    println!("\n{REQUESTS} blocked playlist requests, from part to last byte at the client");
    println!(
        "{:>5}  {:>20}  {:>20}  {:>6}",
        "round", "release p50/p99 ms", "send p50/p99 ms", "ratio"
    );
    let (mut ratios, mut skews, mut cost) = (Vec::new(), Vec::new(), 0);
    for round in 1..=ROUNDS {
        let wanted = SEGMENTS_AND_ONE + u64::try_from(round)? - 1;
        client.ask(&format!("ask {} {}", wanted / 4, wanted % 4))?;
        std::thread::sleep(SETTLE);
        if round == 1 {
            cost = server.resident()?.saturating_sub(before) / REQUESTS as u64;
        }
        client.say("collect")?;
        let released = server.ask("release")?;
        let (release_p50, release_p99, bytes) = spread(&client.hear()?, &released)?;
        client.say(&format!("collect {bytes}"))?;
        let sent = server.ask(&format!("send {bytes}"))?;
        let (send_p50, send_p99, _) = spread(&client.hear()?, &sent)?;
        let ratio = release_p99 / send_p99;
        println!(
            "{round:>5}  {release_p50:>9.1} / {release_p99:>8.1}  {send_p50:>9.1} / {send_p99:>8.1}  \
             {ratio:>6.2}"
        );
        ratios.push(ratio);
        skews.push(release_p99);
    }
    let (ratio, skew) = (median(ratios), median(skews));
    Ok(vec![
        Figure {
            what: "8,000 blocked requests: p99 of release against send loop",
            measured: format!("{ratio:.2} x"),
            wanted: "<= 1.5 x",
            met: ratio <= 1.5,
        },
        Figure {
            what: "8,000 blocked requests: p99 of release",
            measured: format!("{skew:.0} ms"),
            wanted: "<= 150 ms",
            met: skew <= 150.0,
        },
        Figure {
            what: "memory of a blocked request, its connection included",
            measured: format!("{:.1} KiB", cost as f64 / 1024.0),
            wanted: "<= 24 KiB",
            met: cost <= 24 * 1024,
        },
    ])
}

/// The part that a new server makes first when told to: 15 segments of 4 and one are there.
const SEGMENTS_AND_ONE: u64 = 61;

/// Median and p99 in milliseconds after `began`, and the length of an answer.
fn spread(heard: &str, began: &str) -> anyhow::Result<(f64, f64, u64)> {
    let began: u64 = began.parse()?;
    let numbers: Vec<u64> = heard.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [p50, p99, bytes] = numbers.as_slice() else { anyhow::bail!("{heard:?}") };
    let ms = |at: u64| at.saturating_sub(began) as f64 / 1e3;
    Ok((ms(*p50), ms(*p99), *bytes))
}

/// Holds the sockets. Answers lines: `connect`; `ask MSN PART` sends a request on each socket;
/// `collect [BYTES]` waits until each has its answer (of that length), and prints when half and
/// 99 % had and how long an answer is.
pub(crate) fn client_main(address: &str, count: usize) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready")?;
    let mut sockets: Vec<OwnedFd> = Vec::new();
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["connect"] => {
                for index in 0..count {
                    let socket = TcpStream::connect(address)?;
                    socket.set_nonblocking(true)?;
                    let socket = OwnedFd::from(socket);
                    let data = epoll::EventData::new_u64(index as u64);
                    epoll::add(&poll, &socket, data, epoll::EventFlags::IN)?;
                    sockets.push(socket);
                }
                writeln!(stdout, "connected")?;
            }
            ["ask", msn, part] => {
                let request = format!(
                    "GET {BASE}?_HLS_msn={msn}&_HLS_part={part} HTTP/1.1\r\nHost: bench\r\n\r\n"
                );
                for socket in &sockets {
                    rustix::net::send(socket, request.as_bytes(), SendFlags::NOSIGNAL)?;
                }
                writeln!(stdout, "asked")?;
            }
            ["collect", rest @ ..] => {
                let length = rest.first().map(|l| l.parse()).transpose()?;
                let (mut times, bytes) = collect(&poll, &sockets, length)?;
                times.sort_unstable();
                let at = |percent: usize| times[(times.len() - 1) * percent / 100];
                writeln!(stdout, "{} {} {bytes}", at(50), at(99))?;
            }
            _ => anyhow::bail!("{line:?} is not a thing to do"),
        }
    }
    Ok(())
}

/// When each socket had all of its answer, and how long an answer is.
fn collect(
    poll: &OwnedFd,
    sockets: &[OwnedFd],
    length: Option<usize>,
) -> anyhow::Result<(Vec<u64>, usize)> {
    let mut answers: Vec<Vec<u8>> = vec![Vec::new(); sockets.len()];
    let mut times = Vec::with_capacity(sockets.len());
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0u8; 64 * 1024];
    let mut bytes = 0;
    while times.len() < sockets.len() {
        events.clear();
        epoll::wait(poll, spare_capacity(&mut events), None)?;
        for event in &events {
            let index = usize::try_from(event.data.u64())?;
            let socket = sockets.get(index).context("no such socket")?;
            let got = match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => anyhow::bail!("the server closed a connection"),
                Ok((_, got)) => got,
                Err(rustix::io::Errno::AGAIN) => continue,
                Err(error) => return Err(error.into()),
            };
            let answer = &mut answers[index];
            answer.extend_from_slice(&buffer[..got]);
            let whole = match length {
                Some(length) => Some(length),
                None => http_length(answer)?,
            };
            if whole == Some(answer.len()) {
                times.push(now_us());
                bytes = answer.len();
            }
        }
    }
    Ok((times, bytes))
}

/// How long the answer will be, once its head is there.
fn http_length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "a request was answered {head:?}");
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    let length: usize = length.context("no length")?.parse()?;
    Ok(Some(end + 4 + length))
}
