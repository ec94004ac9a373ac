//! Errors of the API, as their callers see them.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::resource::cost::CAPACITY_EXCEEDED;
use crate::streams::choice::ChoiceError;
use crate::streams::limit::STREAM_LIMIT_EXCEEDED;
use crate::streams::store::StoreError;
use crate::supervise::registry::RegistryError;

/// An error with its status, a stable code and one line for people.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// How many run and how many may, where that is the reason.
    counts: Option<(usize, usize)>,
}

impl ApiError {
    /// An error.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), counts: None }
    }

    /// A field of the request cannot be used.
    pub fn field(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": { "code": self.code, "message": self.message } });
        if let Some((running, max)) = self.counts {
            body["error"]["running"] = running.into();
            body["error"]["max"] = max.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

/// What a path names. A name that cannot be one names nothing, and that is said as every error is.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(rejection) => Err(ApiError::not_found(rejection.body_text())),
        }
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        match error {
            RegistryError::Limit(limit) => Self {
                counts: Some((limit.running, limit.max)),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, STREAM_LIMIT_EXCEEDED, message)
            },
            RegistryError::Capacity(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, CAPACITY_EXCEEDED, message)
            }
            RegistryError::Unknown(_) | RegistryError::Store(StoreError::Unknown(_)) => {
                Self::not_found(message)
            }
            RegistryError::Store(StoreError::Exists(_)) => {
                Self::new(StatusCode::CONFLICT, "STREAM_EXISTS", message)
            }
            RegistryError::Store(StoreError::Field { .. }) => Self::field(message),
            RegistryError::Store(StoreError::Full) => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "STORE_FULL", message)
            }
            RegistryError::Store(StoreError::Choice(ChoiceError::Unknown(_))) => {
                Self::not_found(message)
            }
            RegistryError::Store(StoreError::Choice(
                ChoiceError::NotVideo(_) | ChoiceError::TooMany,
            )) => Self::field(message),
            RegistryError::Store(StoreError::Choice(ChoiceError::Last(_))) => {
                Self::new(StatusCode::CONFLICT, "LAST_QUALITY", message)
            }
            RegistryError::ShuttingDown => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN", message)
            }
            RegistryError::Store(_) | RegistryError::Feed(_) => {
                // What exactly failed concerns the operator's log, not every caller.
                tracing::error!("{message}");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "INTERNAL",
                    "the broadcaster cannot do this now; its log says why",
                )
            }
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            // The message names the field.
            JsonRejection::JsonDataError(error) => Self::field(error.body_text()),
            JsonRejection::JsonSyntaxError(error) => Self::field(error.body_text()),
            other => Self::new(other.status(), "BAD_REQUEST", other.body_text()),
        }
    }
}
