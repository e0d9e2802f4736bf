//! Making a repository and committing to it.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Shared,
    auth::{Refusal, may_write, signed_in, visible},
    info::no_revision,
    state::{Entry, Repo, Trouble, Visibility, World, is_large},
};

const ATTRIBUTES: &[u8] = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n";

#[derive(Deserialize)]
pub(crate) struct Create {
    name: String,
    organization: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    private: Option<bool>,
    visibility: Option<String>,
}

pub(crate) async fn create(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Json(wanted): Json<Create>,
) -> Result<Json<Value>, Refusal> {
    let mut world = shared.world();
    let user = signed_in(&world, &headers)?;
    if wanted.kind.as_deref().is_some_and(|kind| kind != "model") {
        return Err(Refusal::new(400, "", "This Hub has models only"));
    }
    let owner = wanted.organization.filter(|owner| !owner.is_empty()).unwrap_or_else(|| user.name.clone());
    let id = format!("{owner}/{}", wanted.name);
    may_write(&user, &id)?;
    if world.repos.contains_key(&id) {
        return Err(Refusal::new(409, "", format!("You already created this model repo: {id}")));
    }
    let is_private = wanted.private == Some(true) || wanted.visibility.as_deref() == Some("private");
    let visibility = if is_private { Visibility::Private } else { Visibility::Public };
    world.repos.insert(id.clone(), Repo::new(visibility));
    let attributes = world.keep_blob(ATTRIBUTES.to_vec());
    world.commit(&id, "initial commit", vec![(".gitattributes".into(), Some(attributes))]);
    Ok(Json(json!({ "url": format!("{}/{id}", shared.url), "name": id, "id": "0123456789abcdef01234567" })))
}

#[derive(Deserialize)]
pub(crate) struct Card {
    content: String,
}

pub(crate) async fn validate_yaml(Json(card): Json<Card>) -> Result<Json<Value>, Refusal> {
    let opens = card.content.starts_with("---\n");
    if opens && !card.content.get(4..).is_some_and(|rest| rest.contains("\n---")) {
        return Err(Refusal::new(400, "", "The card's metadata does not end"));
    }
    Ok(Json(json!({ "errors": [], "warnings": [] })))
}

#[derive(Deserialize)]
pub(crate) struct Preupload {
    files: Vec<PreuploadFile>,
}

#[derive(Deserialize)]
struct PreuploadFile {
    path: String,
    size: u64,
    sample: String,
}

pub(crate) async fn preupload(
    State(shared): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
    Json(question): Json<Preupload>,
) -> Result<Json<Value>, Refusal> {
    let id = format!("{owner}/{name}");
    let mut world = shared.world();
    let repo = writable(&mut world, &headers, &id)?;
    let tree = repo.tree(&revision).ok_or_else(no_revision)?;
    let mut files = Vec::new();
    for file in question.files {
        let sample =
            BASE64.decode(&file.sample).map_err(|_| Refusal::new(400, "", "A sample is no base64"))?;
        if sample.len() as u64 != file.size.min(512) {
            return Err(Refusal::new(400, "", "A sample has the wrong length"));
        }
        let mode = if is_large(&file.path, file.size) { "lfs" } else { "regular" };
        let oid = tree.get(&file.path).map(Entry::etag);
        files.push(json!({ "path": file.path, "uploadMode": mode, "shouldIgnore": false, "oid": oid }));
    }
    Ok(Json(json!({ "files": files })))
}

#[derive(Deserialize)]
struct Line {
    key: String,
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    summary: String,
    parent_commit: Option<String>,
}

#[derive(Deserialize)]
struct RegularFile {
    path: String,
    encoding: String,
    content: String,
}

#[derive(Deserialize)]
struct LargeFile {
    path: String,
    algo: String,
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Deleted {
    path: String,
}

pub(crate) async fn commit(
    State(shared): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
    body: String,
) -> Result<Json<Value>, Refusal> {
    let id = format!("{owner}/{name}");
    let mut world = shared.world();
    let repo = writable(&mut world, &headers, &id)?;
    if revision != "main" || repo.head.is_empty() {
        return Err(no_revision());
    }
    if repo.troubles.contains(&Trouble::NoCommits) {
        return Err(Refusal::new(500, "", "The commit failed"));
    }
    let (head, troubles) = (repo.head.clone(), repo.troubles.clone());
    if headers.get("content-type").is_none_or(|kind| kind != "application/x-ndjson") {
        return Err(Refusal::new(400, "", "A commit is application/x-ndjson"));
    }
    let mut title = None;
    let mut changes = Vec::new();
    for line in body.lines() {
        let line: Line = parse(serde_json::from_str(line))?;
        if title.is_none() != (line.key == "header") {
            return Err(Refusal::new(400, "", "A commit has one header, at its start"));
        }
        match line.key.as_str() {
            "header" => {
                let Header { summary, parent_commit } = parse(serde_json::from_value(line.value))?;
                if parent_commit.is_some_and(|parent| parent != head) {
                    return Err(Refusal::new(412, "", "A commit has happened since"));
                }
                title = Some(summary);
            }
            "file" => {
                let file: RegularFile = parse(serde_json::from_value(line.value))?;
                let bytes = BASE64.decode(&file.content).ok().filter(|_| file.encoding == "base64");
                let bytes = bytes.ok_or_else(|| Refusal::new(400, "", "A file is no base64"))?;
                if is_large(&file.path, bytes.len() as u64) {
                    return Err(Refusal::new(400, "", format!("{} belongs into Git LFS", file.path)));
                }
                let mut bytes = bytes;
                if let Some(last) = bytes.last_mut().filter(|_| troubles.contains(&Trouble::KeepsWrong)) {
                    *last ^= 1;
                }
                changes.push((file.path, Some(world.keep_blob(bytes))));
            }
            "lfsFile" => {
                let file: LargeFile = parse(serde_json::from_value(line.value))?;
                let entry = world.object_entry(&file.oid, file.size).filter(|_| file.algo == "sha256");
                let entry =
                    entry.ok_or_else(|| Refusal::new(400, "", format!("{} was not uploaded", file.path)))?;
                changes.push((file.path, Some(entry)));
            }
            "deletedFile" => changes.push((parse(serde_json::from_value::<Deleted>(line.value))?.path, None)),
            other => return Err(Refusal::new(400, "", format!("A commit has no {other}"))),
        }
    }
    let title = title.ok_or_else(|| Refusal::new(400, "", "A commit has a header"))?;
    let sha = world.commit(&id, &title, changes).ok_or_else(no_revision)?;
    if troubles.contains(&Trouble::AnswerLost) {
        return Err(Refusal::new(500, "", "The answer is lost"));
    }
    let url = format!("{}/{id}/commit/{sha}", shared.url);
    Ok(Json(json!({ "success": true, "commitOid": sha, "commitUrl": url, "hookOutput": "" })))
}

fn parse<T>(result: serde_json::Result<T>) -> Result<T, Refusal> {
    result.map_err(|error| Refusal::new(400, "", error.to_string()))
}

/// The repository, for someone who may write to it.
pub(crate) fn writable<'w>(world: &'w mut World, headers: &HeaderMap, id: &str) -> Result<&'w Repo, Refusal> {
    let user = signed_in(world, headers)?;
    visible(world, headers, id)?;
    may_write(&user, id)?;
    visible(world, headers, id)
}
