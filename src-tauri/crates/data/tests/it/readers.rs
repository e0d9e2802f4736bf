//! Whatever bytes a file holds, reading it ends, and never in a panic.

use data::{check, open};
use proptest::prelude::*;
use types::Task;

use crate::support::file;

/// Bytes that look enough like a dataset to get past the first check.
fn nearly_rows() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"{\"input\": \"a\", \"output\": \"b\"}".to_vec()),
        Just(b"{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}".to_vec()),
        Just(b"input,output\n".to_vec()),
        prop::sample::select(b"{}[]\",:\\\n\r \xef\xff\x001n".to_vec()).prop_map(|b| vec![b]),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn any_bytes_are_read_to_the_end(bytes in nearly_rows()) {
        for name in ["a.jsonl", "a.json", "a.csv", "a.parquet", "a"] {
            let (_folder, path) = file(name, &bytes);
            if let Ok(rows) = open(&path) {
                let numbers: Vec<u64> = rows.map(|row| row.map_or_else(|e| e.row, |r| r.row)).collect();
                let count = numbers.len() as u64;
                prop_assert!(numbers.iter().copied().eq(1..=count), "{}: every row has its number", name);
                prop_assert!(count <= bytes.len() as u64, "{}: no more rows than bytes", name);
            }
            let _ = check(&path, Task::TextGeneration, types::Strategy::Sft, 3);
        }
    }

    #[test]
    fn a_json_array_is_split_as_serde_reads_it(
        texts in prop::collection::vec("\\PC*|[\"\\\\{}\\[\\],:\n]*", 0..8), pretty: bool, bom: bool,
    ) {
        let rows: Vec<_> = texts.iter().map(|t| serde_json::json!({"a": [t, {"b": t}], t: null})).collect();
        let text = if pretty { serde_json::to_string_pretty(&rows) } else { serde_json::to_string(&rows) };
        let text = format!("{}{}", if bom { "\u{feff}" } else { "" }, text.unwrap());
        let (_folder, path) = file("a.json", &text);
        let got: Vec<_> = open(&path).unwrap().map(|row| serde_json::Value::Object(row.unwrap().values)).collect();
        prop_assert_eq!(got, rows);
    }
}
