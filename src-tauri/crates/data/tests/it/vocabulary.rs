//! Tokenizers as llama.cpp has them.

use data::{Cutting, TokenKind, Tokenizer};

use crate::support::golden_tokenizer;

#[test]
fn a_byte_level_tokenizer_becomes_gpt2s() {
    let path = golden_tokenizer("byte-level");
    let dir = path.parent().unwrap();
    let tokenizer = Tokenizer::load(dir).unwrap();
    let known = tokenizer.vocab_size();
    let vocabulary = tokenizer.vocabulary(dir, known + 2).unwrap();
    assert_eq!(vocabulary.tokens.len(), known + 2, "an id for each row of the embedding");
    assert_eq!(vocabulary.tokens[known], format!("[PAD{known}]"));
    assert_eq!(vocabulary.kinds[known], TokenKind::Unused);
    assert_eq!(
        vocabulary.kinds[..4],
        [TokenKind::Control, TokenKind::Control, TokenKind::Control, TokenKind::Normal]
    );
    let Cutting::Bytes { pre, merges } = &vocabulary.cutting else { panic!("{:?}", vocabulary.cutting) };
    assert_eq!(*pre, "gpt-2");
    assert_eq!(merges[1..3], ["h e", "Ġ t"]);
    assert_eq!((vocabulary.bos, vocabulary.eos, vocabulary.adds_bos), (Some(0), 2, false));
    assert!(tokenizer.vocabulary(dir, known - 1).is_err(), "a model with fewer rows than tokens");
}

#[test]
fn a_tokenizer_with_bytes_as_tokens_becomes_that_of_sentencepiece() {
    let path = golden_tokenizer("sentencepiece-like");
    let dir = path.parent().unwrap();
    let tokenizer = Tokenizer::load(dir).unwrap();
    let vocabulary = tokenizer.vocabulary(dir, tokenizer.vocab_size()).unwrap();
    let Cutting::Characters { scores, space_prefix } = &vocabulary.cutting else {
        panic!("{:?}", vocabulary.cutting)
    };
    assert!(space_prefix, "a text begins as if after a space");
    let score = |text: &str| scores[vocabulary.tokens.iter().position(|token| token == text).unwrap()];
    assert!(score("he") > score("▁t") && score("▁t") > score("▁the"), "earlier merges have higher scores");
    assert_eq!(vocabulary.kinds[0], TokenKind::Unknown);
    assert_eq!(vocabulary.kinds[3], TokenKind::Byte, "{}", vocabulary.tokens[3]);
    assert_eq!((vocabulary.unknown, vocabulary.bos, vocabulary.adds_bos), (Some(0), Some(1), true));
}
