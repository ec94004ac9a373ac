//! Limits as callers meet them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::Broadcaster;

#[tokio::test]
async fn the_sixth_stream_of_an_owner_and_the_21st_of_all_are_refused_with_code_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut shoal = Broadcaster::start(dir.path(), |_| {});
    for i in 0..20 {
        let (status, body) = shoal.api.add(&format!("s{i}"), &format!("owner{}", i % 4)).await;
        assert_eq!(status, 201, "{body}");
    }
    let (status, body) = shoal.api.add("one-more", "owner0").await;
    assert_eq!(status, 429);
    assert_eq!(
        body,
        json!({"error": {
            "code": "STREAM_LIMIT_EXCEEDED",
            "message": "Maximum 5 concurrent streams reached",
            "running": 5,
            "max": 5,
        }})
    );
    let line = shoal.logs("STREAM_LIMIT_EXCEEDED");
    assert!(
        line.contains("WARN") && line.contains("running=5") && line.contains("max=5"),
        "{line}"
    );
    let (status, body) = shoal.api.add("one-more", "someone-new").await;
    let error = &body["error"];
    assert_eq!((status, &error["code"]), (429, &json!("STREAM_LIMIT_EXCEEDED")));
    assert_eq!(error["message"], "Maximum 20 concurrent streams reached");
    assert_eq!((&error["running"], &error["max"]), (&json!(20), &json!(20)));

    let (status, _) = shoal.api.call(Method::POST, "/streams/s1/stop", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(shoal.api.add("one-more", "someone-new").await.0, 201);
    let (status, _) = shoal.api.call(Method::POST, "/streams/s1/start", Value::Null).await;
    assert_eq!(status, 429, "its place is taken");
}

#[tokio::test]
async fn a_hundred_concurrent_creations_never_exceed_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let shoal = Broadcaster::start(dir.path(), |_| {});
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..100 {
        let api = shoal.api.clone();
        calls.spawn(async move { api.add(&format!("s{i}"), &format!("owner{i}")).await.0 });
    }
    let statuses = calls.join_all().await;
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(429)), (20, 80));
    let (_, body) = shoal.api.call(Method::GET, "/streams", Value::Null).await;
    assert_eq!(body["streams"].as_array().unwrap().len(), 20, "what was refused was not made");
}

#[tokio::test]
async fn metrics_say_how_many_streams_are_on_for_whom_and_what_watching_costs() {
    let dir = tempfile::tempdir().unwrap();
    let shoal = Broadcaster::start(dir.path(), |_| {});
    for (name, owner) in [("a", "x"), ("b", "x"), ("c", "y")] {
        assert_eq!(shoal.api.add(name, owner).await.0, 201);
    }
    shoal.api.call(Method::POST, "/streams/c/stop", Value::Null).await;
    for (metric, value) in [
        ("shoal_streams_active", 2.0),
        ("shoal_streams_active_of{owner=\"x\"}", 2.0),
        ("shoal_stream_starts_total", 3.0),
        ("shoal_stream_stops_total", 1.0),
        ("shoal_force_kills_total", 0.0),
        ("shoal_resource_warnings_total{stream=\"a\"}", 0.0),
    ] {
        assert_eq!(shoal.api.metric(metric).await, Some(value), "{metric}");
    }
    assert!(shoal.api.metric("shoal_monitor_seconds_total").await.is_some());
}

#[tokio::test]
async fn limits_change_without_a_restart_and_show_beside_what_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let shoal = Broadcaster::start(dir.path(), |command| {
        command.args(["--resource-monitor-interval-ms", "100"]);
    });
    assert_eq!(shoal.api.add("a", "x").await.0, 201);
    let change = json!({"max_concurrent_streams_global": 1, "worker_memory_limit_mb": 300});
    let (status, body) = shoal.api.call(Method::PATCH, "/resources", change).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["limits"]["max_concurrent_streams_global"], 1);
    assert_eq!(body["limits"]["max_concurrent_streams_per_user"], 5, "as it was");
    assert_eq!(shoal.api.add("b", "y").await.0, 429);
    for wrong in [json!({"streams": 1}), json!({"worker_memory_limit_mb": 3})] {
        let (status, body) = shoal.api.call(Method::PATCH, "/resources", wrong).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("BAD_REQUEST")), "{body}");
    }
    let seen = loop {
        let (_, body) = shoal.api.call(Method::GET, "/resources", Value::Null).await;
        if !body["host"].is_null() && !body["broadcaster"]["last_check"].is_null() {
            break body;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(seen["active"], json!({"all": 1, "by_owner": {"x": 1}}));
    assert!(seen["host"]["cores"].as_f64().unwrap() > 0.0, "{seen}");
    assert!(seen["broadcaster"]["handles"].as_u64().unwrap() > 0, "{seen}");
    let stream = &seen["streams"][0];
    assert_eq!((&stream["name"], &stream["worker"]), (&json!("a"), &Value::Null));
}
