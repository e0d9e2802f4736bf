//! Questions about accounts and repositories.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Shared,
    auth::{Refusal, signed_in, visible},
    state::{Entry, Role, Trouble, Visibility, pointer},
};

pub(crate) async fn whoami(State(shared): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, Refusal> {
    let user = signed_in(&shared.world(), &headers)?;
    let role = match user.role {
        Role::Read => "read",
        Role::Write => "write",
    };
    let organizations: Vec<Value> = user
        .organizations
        .iter()
        .map(|name| json!({ "type": "org", "name": name, "fullname": name }))
        .collect();
    Ok(Json(json!({
        "type": "user",
        "id": "0123456789abcdef01234567",
        "name": user.name,
        "fullname": format!("{} Example", user.name),
        "orgs": organizations,
        "auth": { "type": "access_token", "accessToken": { "displayName": "test", "role": role } },
    })))
}

#[derive(Deserialize)]
pub(crate) struct Options {
    blobs: Option<String>,
}

pub(crate) async fn model(
    state: State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    options: Query<Options>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    model_at(state, Path((owner, name, "main".into())), options, headers).await
}

pub(crate) async fn model_at(
    State(shared): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    Query(options): Query<Options>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let id = format!("{owner}/{name}");
    let mut world = shared.world();
    let repo = visible(&mut world, &headers, &id)?;
    let sha = repo.resolve(&revision).ok_or_else(no_revision)?.to_string();
    let with_blobs = options.blobs.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
    let mut siblings: Vec<Value> = repo
        .tree(&revision)
        .into_iter()
        .flatten()
        .map(|(path, entry)| match &entry.sha256 {
            _ if !with_blobs => json!({ "rfilename": path }),
            None => json!({ "rfilename": path, "blobId": entry.oid, "size": entry.size }),
            Some(sha256) => {
                let lfs = json!({
                    "sha256": sha256,
                    "size": entry.size,
                    "pointerSize": pointer(sha256, entry.size).len(),
                });
                json!({ "rfilename": path, "blobId": entry.oid, "size": entry.size, "lfs": lfs })
            }
        })
        .collect();
    let mut ballast = String::new();
    for trouble in &repo.troubles {
        match trouble {
            Trouble::HostileName(name) => {
                siblings.push(json!({ "rfilename": name, "blobId": "0".repeat(40), "size": 1 }));
            }
            Trouble::Bloated(bytes) => ballast = "x".repeat(*bytes),
            _ => {}
        }
    }
    let gated = match repo.visibility {
        Visibility::Gated(_) => json!("auto"),
        _ => json!(false),
    };
    Ok(Json(json!({
        "_id": "0123456789abcdef01234567",
        "id": id,
        "modelId": id,
        "author": owner,
        "sha": sha,
        "private": repo.visibility == Visibility::Private,
        "gated": gated,
        "disabled": false,
        "downloads": 42,
        "likes": 7,
        "tags": ["safetensors", "license:apache-2.0"],
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "cardData": { "license": "apache-2.0", "ballast": ballast },
        "createdAt": "2025-01-02T03:04:05.000Z",
        "lastModified": "2025-01-02T03:04:05.000Z",
        "siblings": siblings,
    })))
}

pub(crate) async fn tree(
    State(shared): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let id = format!("{owner}/{name}");
    let mut world = shared.world();
    let repo = visible(&mut world, &headers, &id)?;
    let tree = repo.tree(&revision).ok_or_else(no_revision)?;
    let file = |(path, entry): (&String, &Entry)| {
        let mut value = json!({ "type": "file", "path": path, "size": entry.size, "oid": entry.oid });
        if let Some(sha256) = &entry.sha256 {
            let pointer_size = pointer(sha256, entry.size).len();
            value["lfs"] = json!({ "oid": sha256, "size": entry.size, "pointerSize": pointer_size });
        }
        value
    };
    Ok(Json(tree.iter().map(file).collect()))
}

pub(crate) fn no_revision() -> Refusal {
    Refusal::new(404, "RevisionNotFound", "Invalid rev id")
}
