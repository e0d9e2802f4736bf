//! The export for llama.cpp and the programs built on it: one file with the tokenizer and the chat template inside.

use data::{Cutting, Tokenizer, Vocabulary};
use models::export::{
    Merged,
    gguf::{Plan, Value},
};
use types::{export::ExportRequest, files};

use super::{check_room, progress};
use crate::EngineError;

/// Writes the file and says whether what it holds is what it should.
pub fn export(request: &ExportRequest, merged: &Merged) -> Result<bool, EngineError> {
    let info = models::read_info(&request.base_dir)?;
    let tokenizer = Tokenizer::load(&request.base_dir)?;
    let vocabulary = tokenizer.vocabulary(&request.base_dir, info.vocab_size)?;
    let plan = Plan::new(&request.base_dir, merged, request.dtype, &request.name, metadata(vocabulary))?;
    check_room(request, plan.bytes())?;
    let mut progress = progress(plan.bytes());
    progress(0)?;
    // The ending says what the weights are, as usual for such files.
    let dtype = plan.dtype().name().to_uppercase();
    let path = request.folder.join(format!("{}-{dtype}.gguf", files::file_name(&request.name)));
    plan.write(merged, &path, &mut progress)?;
    Ok(plan.holds(merged, &path)?)
}

/// The tokenizer in the keys of GGUF.
fn metadata(vocabulary: Vocabulary) -> Vec<(String, Value)> {
    let Vocabulary { tokens, kinds, cutting, bos, eos, eot, unknown, adds_bos, chat_template } = vocabulary;
    let text = |text: &str| Value::Text(text.to_owned());
    let mut fields = match cutting {
        Cutting::Bytes { pre, merges } => {
            vec![("model", text("gpt2")), ("pre", text(pre)), ("merges", Value::Texts(merges))]
        }
        Cutting::Characters { scores, space_prefix } => vec![
            ("model", text("llama")),
            ("pre", text("default")),
            ("scores", Value::F32s(scores)),
            ("add_space_prefix", Value::Bool(space_prefix)),
        ],
    };
    fields.push(("tokens", Value::Texts(tokens)));
    fields.push(("token_type", Value::I32s(kinds.into_iter().map(|kind| kind as i32).collect())));
    for (name, id) in [
        ("bos_token_id", bos),
        ("eos_token_id", Some(eos)),
        ("eot_token_id", eot),
        ("unknown_token_id", unknown),
    ] {
        fields.extend(id.map(|id| (name, Value::U32(id))));
    }
    fields.push(("add_bos_token", Value::Bool(adds_bos)));
    fields.push(("add_eos_token", Value::Bool(false)));
    let mut all: Vec<(String, Value)> =
        fields.into_iter().map(|(name, value)| (format!("tokenizer.ggml.{name}"), value)).collect();
    all.push(("tokenizer.chat_template".into(), Value::Text(chat_template)));
    all
}
