//! What only the database holds, from several threads and stores, and with ids from outside.

use types::{ApiError, GenerateParams, Message, dataset::FileFormat, generate::FinishReason, id};

use super::*;
use crate::{ConversationDraft, ConversationMessage, DatasetRow, Settings, Theme};

fn said(message: Message) -> ConversationMessage {
    ConversationMessage { message, stats: None }
}

fn draft() -> ConversationDraft {
    ConversationDraft {
        id: None,
        title: None,
        model: MODEL.into(),
        system_prompt: Some("Be brief.".into()),
        params: GenerateParams::greedy(8),
        messages: vec![
            said(Message::user("\n  What is a slip?\nTell me.")),
            said(Message::assistant("Paper.")),
        ],
    }
}

#[test]
fn settings_and_the_current_run_outlive_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let first = store(temp.path());
    assert_eq!(first.settings().unwrap(), Settings::default());
    let settings = Settings {
        theme: Theme::Dark,
        language: Some("de".into()),
        offline: true,
        hub_endpoint: Some("http://127.0.0.1:1234".into()),
        compute_on: "cpu".into(),
        unload_after_minutes: 0,
    };
    first.set_settings(&settings).unwrap();
    let bad = Settings { hub_endpoint: Some("ftp://x".into()), ..settings.clone() };
    let error = ApiError::from(first.set_settings(&bad).unwrap_err());
    assert_eq!(error.status_code, 400);
    assert!(error.to_string().starts_with("hub_endpoint:"), "the field is named: {error}");
    assert_eq!(first.current_run().unwrap(), None, "there is no run at first");
    put_run(&first);
    first.set_current_run(Some(JOB)).unwrap();
    first.set_calibration("cpu", &json!({"flops": 1.5e9})).unwrap();
    first.set_calibration("cpu", &json!({"flops": 2.5e9})).unwrap();
    drop(first);

    let second = store(temp.path());
    assert_eq!(second.settings().unwrap(), settings);
    assert_eq!(second.current_run().unwrap().as_deref(), Some(JOB));
    assert_eq!(second.calibration("cpu").unwrap(), Some(json!({"flops": 2.5e9})), "the last one counts");
    assert_eq!(second.calibration("cuda:0").unwrap(), None, "each device has its own");
    fs::remove_dir_all(second.home().run(JOB).unwrap().path()).unwrap();
    assert_eq!(second.current_run().unwrap(), None, "a run removed by hand is nobody's progress");
    put_run(&second);
    second.set_current_run(None).unwrap();
    assert_eq!(second.current_run().unwrap(), None);
}

#[test]
fn a_conversation_is_kept_whole() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_model(&store, MODEL);
    let made = store.put_conversation(draft()).unwrap();
    assert!(id::is_valid("chat", &made.row.id), "{}", made.row.id);
    assert_eq!(made.row.title, "What is a slip?", "the first line of the first question is the title");
    assert_eq!(store.conversation(&made.row.id).unwrap(), made, "what was put is what is got");
    assert_eq!(store.conversations().unwrap(), std::slice::from_ref(&made.row), "the list tells the same");

    let mut more =
        ConversationDraft { id: Some(made.row.id.clone()), title: Some("Slips".into()), ..draft() };
    let stats = types::GenerateStats {
        prompt_tokens: 3,
        tokens_generated: 2,
        prefill_ms: 1,
        generation_time_ms: 4,
        finish: FinishReason::Eos,
        span: None,
    };
    more.messages.push(said(Message::user("And then?")));
    more.messages.push(ConversationMessage { message: Message::assistant("No."), stats: Some(stats) });
    let replaced = store.put_conversation(more).unwrap();
    assert_eq!(replaced.row.created_at, made.row.created_at);
    assert_eq!((replaced.row.title.as_str(), replaced.row.message_count), ("Slips", 4));
    assert_eq!(store.conversation(&made.row.id).unwrap(), replaced);
    let shown = serde_json::to_value(&replaced).unwrap();
    assert_eq!(shown["messages"][3]["role"], "assistant");
    assert_eq!(shown["messages"][3]["stats"]["finish"], "eos");
    assert!(shown["messages"][0].get("stats").is_none(), "a question has no statistics");

    store.delete_model(MODEL).unwrap();
    assert_eq!(store.conversations().unwrap().len(), 1, "a conversation outlives its model");
    store.delete_conversation(&made.row.id).unwrap();
    assert!(store.conversations().unwrap().is_empty());
    for unknown in [made.row.id.as_str(), "", "../chat_1", "chat_1' OR '1'='1", MODEL, "\0"] {
        let gone = ConversationDraft { id: Some(unknown.to_owned()), ..draft() };
        for result in [
            store.conversation(unknown).map(drop),
            store.delete_conversation(unknown),
            store.put_conversation(gone).map(drop),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, StoreError::UnknownConversation(_)), "{unknown:?}: {error}");
            assert_eq!(ApiError::from(error).status_code, 404);
        }
    }
}

#[test]
fn a_conversation_has_a_title_that_fits_a_list() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let long = "ä".repeat(100);
    let cut = format!("{}…", "ä".repeat(59));
    for (title, messages, want) in [
        (Some("Mine"), draft().messages, "Mine"),
        (Some("  "), draft().messages, "What is a slip?"),
        (None, vec![said(Message::user(&long))], cut.as_str()),
        (None, vec![said(Message::assistant("Hello"))], "New conversation"),
        (None, vec![said(Message::user(" \n "))], "New conversation"),
    ] {
        let made = store.put_conversation(ConversationDraft {
            title: title.map(str::to_owned),
            messages,
            ..draft()
        });
        assert_eq!(made.unwrap().row.title, want);
    }
    for (bad, field) in [
        (ConversationDraft { title: Some("x".repeat(201)), ..draft() }, "title"),
        (ConversationDraft { model: " ".into(), ..draft() }, "model"),
        (
            ConversationDraft { params: GenerateParams { top_p: f64::NAN, ..draft().params }, ..draft() },
            "params",
        ),
    ] {
        let error = store.put_conversation(bad).unwrap_err();
        assert!(matches!(&error, StoreError::Invalid(problem) if problem.field() == field), "{error}");
    }
}

#[test]
fn conversations_made_at_once_are_different() {
    let temp = tempfile::tempdir().unwrap();
    // Two stores stand for two processes: each has a connection of its own.
    let stores: Vec<Store> = (0..2).map(|_| store(temp.path())).collect();
    std::thread::scope(|scope| {
        for store in stores.iter().chain(&stores) {
            scope.spawn(|| (0..10).for_each(|_| drop(store.put_conversation(draft()).unwrap())));
        }
    });
    assert_eq!(stores[0].conversations().unwrap().len(), 40, "no conversation takes another's place");
}

#[test]
fn a_dataset_is_known_once_a_task() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let path = temp.path().join("rows ' ü.jsonl");
    files::write(&path, b"{}").unwrap();
    let row = |task: &str, rows: u64, checked_at: &str| DatasetRow {
        name: "rows ' ü.jsonl".into(),
        path: path.to_string_lossy().into_owned(),
        task: task.into(),
        format: FileFormat::Jsonl,
        rows,
        usable_rows: rows,
        bytes: u64::MAX >> 1,
        checked_at: checked_at.into(),
    };
    let newest = row("summarization", 3, "2026-01-03T00:00:00Z");
    let other = row("text-generation", 2, "2026-01-02T00:00:00Z");
    for row in [&row("summarization", 1, "2026-01-01T00:00:00Z"), &other, &newest] {
        store.put_dataset(row).unwrap();
    }
    let found = store.datasets().unwrap();
    assert_eq!(
        found.iter().map(|d| &d.row).collect::<Vec<_>>(),
        [&newest, &other],
        "the last check comes first"
    );
    assert!(found.iter().all(|dataset| dataset.exists));
    fs::remove_file(&path).unwrap();
    assert!(store.datasets().unwrap().iter().all(|dataset| !dataset.exists), "looked up when it is asked");
    store.remove_dataset(&newest.path, "summarization").unwrap();
    assert_eq!(store.datasets().unwrap().len(), 1, "the other task's entry stays");
    let error = store.remove_dataset(&newest.path, "summarization").unwrap_err();
    assert_eq!(ApiError::from(error).status_code, 404);
}
