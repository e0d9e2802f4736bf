//! The one route that is no operation: a dataset, sent as it is, goes to disk piece by piece.

use std::sync::Arc;

use api::{Api, Upload, UploadInput, UploadedDataset};
use axum::{
    Json,
    body::HttpBody,
    extract::Request,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use serde_json::{Map, Value};
use tokio::time::timeout;
use types::{ApiError, Input};

use crate::{
    Limits,
    answer::refusal,
    request::{invalid, query},
};

/// Takes the body of a request as a dataset.
///
/// # Errors
/// As [`Upload`]; 408 for a body that does not come, 413 for one that is too large, 415 for a form.
pub async fn upload(api: &Arc<Api>, request: Request, limits: &Limits) -> Result<Response, ApiError> {
    let slow = || refusal(StatusCode::REQUEST_TIMEOUT, "The file did not arrive in time.");
    let uploaded = timeout(limits.upload, receive(api, request, limits)).await.map_err(|_| slow())??;
    Ok(Json(uploaded).into_response())
}

async fn receive(api: &Arc<Api>, request: Request, limits: &Limits) -> Result<UploadedDataset, ApiError> {
    let input = input(request.uri().query().unwrap_or_default())?;
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.trim_start().to_ascii_lowercase().starts_with("multipart/") {
        let text = "The body must be the file itself, not a form: curl sends it so with --data-binary @file.";
        return Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let most = limits.upload_bytes;
    let too_large =
        || refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("The file must be at most {most} bytes long."));
    let body = request.into_body();
    let size = HttpBody::size_hint(&body);
    // Told before any of it is read.
    if size.lower() > most {
        return Err(too_large());
    }
    let mut upload = Upload::begin(Arc::clone(api), input, size.exact()).await?;
    let mut taken = 0;
    let mut pieces = body.into_data_stream();
    loop {
        let Ok(piece) = timeout(limits.body, pieces.next()).await else {
            let text = format!("Nothing of the file arrived for {} s.", limits.body.as_secs_f32());
            return Err(refusal(StatusCode::REQUEST_TIMEOUT, text));
        };
        let Some(piece) = piece else { return upload.finish().await };
        let piece = piece.map_err(|_| ApiError::bad_request("The file broke off."))?;
        taken += piece.len() as u64;
        if taken > most {
            return Err(too_large());
        }
        upload.write(&piece).await?;
    }
}

/// The fields after the question mark, where alone they can be.
fn input(text: &str) -> Result<UploadInput, ApiError> {
    let mut fields = Map::new();
    for (name, value) in query(text)? {
        if fields.insert(name.clone(), Value::from(value)).is_some() {
            return Err(invalid(&["query", &name], "value_error", "is there twice"));
        }
    }
    UploadInput::read(&fields).map_err(|mut errors| {
        errors.iter_mut().for_each(|error| error.place("query"));
        ApiError::invalid(errors)
    })
}
