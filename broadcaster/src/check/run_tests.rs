//! The asking side against a server that is right, that is wrong, and that goes away.

use std::time::Duration;

use super::catalog::Rule;
use super::report::Report;
use super::rules::Limits;
use super::run::{Plan, RunError, run};
use super::server::{FakeServer, Fault};

fn plan(url: String, length: Duration) -> Plan {
    // Machines that run tests stall; what is measured in time is tested in the rules.
    let limits = Limits { slack_ms: 10_000, ..Limits::default() };
    Plan { url, length, sample: 1, limits, print: false }
}

fn check(plan: Plan) -> Result<Report, RunError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(plan)).map(|(report, _)| report)
}

fn broken(report: &Report) -> Vec<&'static str> {
    report.broken_rules().map(Rule::name).collect()
}

#[test]
fn a_right_server_that_goes_away_and_comes_back_breaks_no_rule() {
    let mut server = FakeServer::start(Fault::None);
    let url = server.url();
    let checking = std::thread::spawn(move || check(plan(url, Duration::from_secs(6))));
    server.wait_for_parts(4);
    server.stop();
    server.come_back(Duration::from_millis(700));
    let report = checking.join().expect("no panic").expect("it was reached");
    let json = report.json("", 0);
    assert_eq!(broken(&report), [""; 0], "{json:#}");
    assert_eq!(json["outages"].as_array().map(Vec::len), Some(1), "{json:#}");
    // Silence must not be blindness.
    assert_eq!(json["seen"]["renditions"], 3);
    for what in ["playlists", "segments", "parts", "bytes"] {
        assert!(json["seen"][what].as_u64() > Some(20), "{json:#}");
    }
}

#[test]
fn each_fault_of_a_server_is_named() {
    let cases = [
        (Fault::CachedErrors, "error-cacheable"),
        (Fault::MissingSegments, "listed-uri-missing"),
        (Fault::HintsIgnored, "preload-hint-unanswered"),
        (Fault::NoDeltas, "delta-missing"),
    ];
    let checks = cases.map(|(fault, name)| {
        let server = FakeServer::start(fault);
        let checking = std::thread::spawn(move || {
            let report = check(plan(server.url(), Duration::from_secs(3)));
            drop(server);
            report
        });
        (checking, name)
    });
    for (checking, name) in checks {
        let report = checking.join().expect("no panic").expect("it was reached");
        assert_eq!(broken(&report), [name], "{:#}", report.json("", 0));
    }
}

#[test]
fn a_server_that_was_never_there_is_an_error_of_its_own() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("http://{address}/live/s/master.m3u8");
    let error = check(plan(url, Duration::from_millis(300))).expect_err("nobody is there");
    assert!(error.to_string().contains("connection refused"), "{error}");
}
