//! The first rows of a dataset exactly as the model would see them.

use std::path::Path;

use types::{
    Strategy, Task,
    dataset::{PreviewRow, PreviewToken},
};

use crate::{
    encode::Encoded, error::DataError, example::Example, scan, text_stream::TextStream, tokenizer::Tokenizer,
};

/// The first `rows` usable rows, each in at most `max_len` tokens. A row with two answers to compare gives two, the
/// better one first.
///
/// # Errors
/// As [`scan::examples`], and what is wrong with the first row that the tokenizer or the template refuses.
pub fn preview(
    path: &Path,
    task: Task,
    tokenizer: &Tokenizer,
    max_len: usize,
    rows: usize,
) -> Result<Vec<PreviewRow>, DataError> {
    let mut examples = match scan::examples(path, task, Strategy::Sft) {
        Err(DataError::WrongForm { form: types::dataset::RowForm::Preference, .. }) => {
            scan::examples(path, task, Strategy::Dpo)?
        }
        other => other?,
    };
    let mut shown = Vec::new();
    let mut usable = 0;
    while usable < rows
        && let Some(row) = examples.next_row()?
    {
        let Ok(row) = row else { continue };
        usable += 1;
        let mut encoded = encode(&row.example, task, tokenizer, max_len)?;
        let rejected = encoded.rejected.take();
        shown.push(preview_row(row.row, &encoded, tokenizer));
        shown.extend(rejected.map(|rejected| preview_row(row.row, &rejected, tokenizer)));
    }
    Ok(shown)
}

fn encode(
    example: &Example,
    task: Task,
    tokenizer: &Tokenizer,
    max_len: usize,
) -> Result<Encoded, DataError> {
    let Some(model) = tokenizer.encoder_decoder() else {
        return tokenizer.encode_example(example, task, max_len);
    };
    let Encoded { mut ids, mut trained, source, cut_tokens, .. } =
        tokenizer.encode_pair(model, example, task, max_len)?;
    // What is read comes before what is written.
    trained.splice(0..0, source.iter().map(|_| false));
    ids.splice(0..0, source);
    Ok(Encoded { ids, trained, cut_tokens, ..Encoded::default() })
}

fn preview_row(row: u64, encoded: &Encoded, tokenizer: &Tokenizer) -> PreviewRow {
    let mut stream = TextStream::with(tokenizer, false);
    let mut tokens: Vec<PreviewToken> = encoded
        .ids
        .iter()
        .zip(&encoded.trained)
        .map(|(&id, &trained)| PreviewToken {
            id,
            text: stream.push(id).unwrap_or_default(),
            trained,
            special: tokenizer.is_special(id),
        })
        .collect();
    if let Some(last) = tokens.last_mut() {
        last.text.push_str(&stream.finish());
    }
    let text = tokens.iter().map(|token| token.text.as_str()).collect();
    PreviewRow { row, text, tokens, cut_tokens: encoded.cut_tokens as u64 }
}
