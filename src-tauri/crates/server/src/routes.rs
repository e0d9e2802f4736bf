//! The routes: one for each row of the table of operations.

use std::sync::Arc;

use api::{Api, Method, OPERATIONS, Operation, UPLOAD_PATH};
use axum::{
    Json, Router,
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodFilter, get, on, post},
};
use tokio::sync::watch;
use types::ApiError;

use crate::{
    Limits, answer,
    request::{fields, invalid},
    upload::upload,
};

/// What the handlers need.
struct Routes {
    api: Arc<Api>,
    limits: Limits,
    closes: watch::Receiver<bool>,
}

/// Every operation at its route and the one for datasets that are sent, with and without a slash at the end.
pub fn router(api: Arc<Api>, limits: &Limits, closes: watch::Receiver<bool>) -> Router {
    let routes = Arc::new(Routes { api, limits: limits.clone(), closes });
    let mut router = Router::new();
    for operation in OPERATIONS {
        let path = operation.path.trim_end_matches('/');
        for path in [path, &format!("{path}/")] {
            let routes = Arc::clone(&routes);
            let handler = move |path: Result<RawPathParams, RawPathParamsRejection>, request: Request| async move {
                routes.answer(operation, path, request).await.unwrap_or_else(answer::error)
            };
            router = router.route(path, on(filter(operation.method), handler));
        }
    }
    for path in [UPLOAD_PATH, &format!("{UPLOAD_PATH}/")] {
        let routes = Arc::clone(&routes);
        let handler = move |request: Request| async move {
            upload(&routes.api, request, &routes.limits).await.unwrap_or_else(answer::error)
        };
        router = router.route(path, post(handler));
    }
    let document = Json(api::openapi());
    router
        .route("/api/openapi.json", get(async move || document))
        .fallback(async || answer::error(answer::refusal(StatusCode::NOT_FOUND, "Not Found")))
        .method_not_allowed_fallback(async || {
            answer::error(answer::refusal(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"))
        })
}

impl Routes {
    async fn answer(
        &self,
        operation: &'static Operation,
        path: Result<RawPathParams, RawPathParamsRejection>,
        request: Request,
    ) -> Result<Response, ApiError> {
        let path = path.map_err(|_| invalid(&["path"], "value_error", "must be UTF-8"))?;
        let fields = fields(operation, &path, request, &self.limits).await?;
        if operation.is_stream() {
            let items = operation.stream(&self.api, fields).await?;
            Ok(answer::events(items, self.limits.keep_alive, self.closes.clone()))
        } else {
            Ok(Json(operation.call(&self.api, fields).await?).into_response())
        }
    }
}

fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Delete => MethodFilter::DELETE,
    }
}
