//! Calls that cannot be done, and what their callers read.

use common::rendition::default_audio;
use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::Broadcaster;

#[tokio::test]
async fn what_is_chosen_for_a_quality_is_checked_alike_for_a_new_stream_and_for_one_that_is_there()
{
    let dir = tempfile::tempdir().unwrap();
    let shoal = Broadcaster::start(dir.path(), |_| {});
    let create = async |name: &str, quality: &str, choice: Value| {
        let new = json!({"name": name, "ladder": ["720p"], "qualities": {quality: choice}});
        shoal.api.call(Method::POST, "/streams", new).await
    };
    let change = async |quality: &str, choice: Value| {
        let path = format!("/streams/show/renditions/{quality}");
        shoal.api.call(Method::PATCH, &path, choice).await
    };
    let off = json!({"enabled": false});
    assert_eq!(create("show", "720p", off.clone()).await.0, 201);
    assert_eq!(change("720p", off.clone()).await.0, 200);
    let sound = default_audio()[0].id.to_string();
    for (quality, choice, status) in [
        ("480p", off.clone(), 404),
        (sound.as_str(), off.clone(), 400),
        ("720p", json!({"enabled": "no"}), 400),
        ("720p", json!({"on": false}), 400),
    ] {
        let (created, refusal) = create("other", quality, choice.clone()).await;
        assert_eq!(created, 400, "{refusal}");
        let (changed, as_well) = change(quality, choice).await;
        assert_eq!(changed, status, "{as_well}");
        let words = |body: &Value| body["error"]["message"].as_str().unwrap().to_owned();
        let (of_new, of_old) = (words(&refusal), words(&as_well));
        let same = of_new.strip_prefix("qualities: ") == Some(&of_old);
        // What is no choice at all is told with its place in the request, which differs.
        assert!(same || of_new.contains("qualities") && choice_is_unreadable(&of_old), "{of_new}");
        let (status, _) = shoal.api.call(Method::GET, "/streams/other", Value::Null).await;
        assert_eq!(status, 404, "nothing is made");
    }
}

fn choice_is_unreadable(message: &str) -> bool {
    message.contains("deserialize")
}

#[tokio::test]
async fn a_path_that_cannot_name_anything_is_answered_in_the_form_of_every_error() {
    let dir = tempfile::tempdir().unwrap();
    let shoal = Broadcaster::start(dir.path(), |_| {});
    assert_eq!(shoal.api.add("show", "a").await.0, 201);
    for (method, path) in [
        (Method::GET, "/streams/Not%20A%20Name"),
        (Method::DELETE, "/streams/Not%20A%20Name"),
        (Method::POST, "/streams/%FF/stop"),
        (Method::PATCH, "/streams/show/renditions/..%2F..%2Fx"),
    ] {
        let body = if method == Method::PATCH { json!({}) } else { Value::Null };
        let (status, body) = shoal.api.call(method, path, body).await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("NOT_FOUND")), "{path}");
        assert!(body["error"]["message"].is_string(), "{path}");
    }
    let response = shoal.api.get("/healthz/Not%20A%20Name/720p").await.unwrap();
    assert_eq!(response.status().as_u16(), 404);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "NOT_FOUND");
}
