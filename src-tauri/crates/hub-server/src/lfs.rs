//! Git LFS: the batch question, uploads whole and in parts, the check afterwards.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::ETAG},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    Shared,
    auth::Refusal,
    files::{SIGNATURE, Signed, refuse},
    push::writable,
    state::{git_hash, hex},
};

/// Larger objects are uploaded in parts.
const LARGEST_PART: u64 = 4 << 20;

#[derive(Deserialize)]
pub(crate) struct Batch {
    operation: String,
    transfers: Vec<String>,
    hash_algo: String,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
pub(crate) struct Object {
    oid: String,
    size: u64,
}

pub(crate) async fn batch(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    // Its type is application/vnd.git-lfs+json, which the extractor of JSON takes as well.
    Json(batch): Json<Batch>,
) -> Result<Json<Value>, Refusal> {
    let id = repo_id(&owner, &name)?;
    let mut world = shared.world();
    writable(&mut world, &headers, &id)?;
    if batch.operation != "upload" || batch.hash_algo != "sha256" {
        return Err(Refusal::new(400, "", "This Hub takes uploads by SHA-256"));
    }
    let in_parts = batch.transfers.iter().any(|transfer| transfer == "multipart");
    let objects: Vec<Value> = batch
        .objects
        .iter()
        .map(|Object { oid, size }| {
            if world.object_entry(oid, *size).is_some() {
                return json!({ "oid": oid, "size": size });
            }
            let verify = json!({ "href": format!("{}/{owner}/{name}/info/lfs/verify", shared.url) });
            let upload = match in_parts && *size > LARGEST_PART {
                true => in_parts_action(&shared, oid, *size, &id),
                false => json!({ "href": address(&shared, oid, &id), "header": {} }),
            };
            json!({ "oid": oid, "size": size, "actions": { "upload": upload, "verify": verify } })
        })
        .collect();
    Ok(Json(json!({ "transfer": if in_parts { "multipart" } else { "basic" }, "objects": objects })))
}

fn in_parts_action(shared: &Shared, oid: &str, size: u64, id: &str) -> Value {
    let mut header = Map::new();
    header.insert("chunk_size".into(), json!(LARGEST_PART.to_string()));
    for part in 1..=size.div_ceil(LARGEST_PART) {
        header.insert(format!("{part:05}"), json!(address(shared, &format!("{oid}/{part}"), id)));
    }
    json!({ "href": format!("{}/api/complete_multipart?signature={SIGNATURE}", shared.url), "header": header })
}

fn address(shared: &Shared, object: &str, id: &str) -> String {
    format!("{}/objects/{object}?signature={SIGNATURE}&repo={id}", shared.storage)
}

pub(crate) async fn take(
    State(shared): State<Shared>,
    Path(oid): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let id = signed.check(&headers)?;
    refuse(&mut shared.world(), id)?;
    keep(&shared, &oid, body)?;
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn take_part(
    State(shared): State<Shared>,
    Path((oid, part)): Path<(String, u64)>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let id = signed.check(&headers)?;
    refuse(&mut shared.world(), id)?;
    if body.len() as u64 > LARGEST_PART {
        return Err(Refusal::new(413, "", "A part is too large"));
    }
    let etag = format!("\"{}\"", git_hash(&body));
    shared.world().parts.entry(oid).or_default().insert(part, body);
    let etag = HeaderValue::from_str(&etag).map_err(|e| Refusal::new(500, "", e.to_string()))?;
    Ok((StatusCode::OK, [(ETAG, etag)]).into_response())
}

#[derive(Deserialize)]
pub(crate) struct Complete {
    oid: String,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    part_number: u64,
    etag: String,
}

pub(crate) async fn complete(
    State(shared): State<Shared>,
    Query(signed): Query<Signed>,
    Json(complete): Json<Complete>,
) -> Result<Json<Value>, Refusal> {
    // The Hub's own address: a token may come along, the signature must.
    signed.check(&HeaderMap::new())?;
    let parts = shared.world().parts.remove(&complete.oid).unwrap_or_default();
    let mut whole = Vec::new();
    for (index, part) in complete.parts.iter().enumerate() {
        let bytes =
            parts.get(&part.part_number).filter(|bytes| format!("\"{}\"", git_hash(bytes)) == part.etag);
        match bytes {
            Some(bytes) if part.part_number == index as u64 + 1 => whole.extend_from_slice(bytes),
            _ => {
                return Err(Refusal::new(
                    400,
                    "",
                    format!("Part {} is not the one that came", part.part_number),
                ));
            }
        }
    }
    keep(&shared, &complete.oid, whole.into())?;
    Ok(Json(json!({ "success": true })))
}

pub(crate) async fn verify(
    State(shared): State<Shared>,
    Path((owner, name)): Path<(String, String)>,
    headers: HeaderMap,
    Json(object): Json<Object>,
) -> Result<Json<Value>, Refusal> {
    let mut world = shared.world();
    writable(&mut world, &headers, &repo_id(&owner, &name)?)?;
    match world.object_entry(&object.oid, object.size) {
        Some(_) => Ok(Json(json!({}))),
        None => Err(Refusal::new(404, "", "The object is not there")),
    }
}

fn keep(shared: &Shared, oid: &str, bytes: Bytes) -> Result<(), Refusal> {
    if hex(&Sha256::digest(&bytes)) != oid {
        return Err(Refusal::new(422, "", "The content does not have this SHA-256"));
    }
    shared.world().keep_object(bytes.to_vec().into());
    Ok(())
}

fn repo_id(owner: &str, name: &str) -> Result<String, Refusal> {
    let name =
        name.strip_suffix(".git").ok_or_else(|| Refusal::new(404, "", "Git LFS is asked below name.git"))?;
    Ok(format!("{owner}/{name}"))
}
