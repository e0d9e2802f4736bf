//! Databases of an older layout, and damaged ones: what is carried over and what is told.

use rusqlite::Connection;

use super::*;
use crate::{ConversationDraft, Session, Settings};

fn session() -> Session {
    Session { task: Some("summarization".into()), selected_model: None, is_custom_model: true }
}

fn conversation(title: String) -> ConversationDraft {
    ConversationDraft {
        id: None,
        title: Some(title),
        model: MODEL.into(),
        system_prompt: None,
        params: types::GenerateParams::default(),
        messages: vec![crate::ConversationMessage {
            message: types::Message::user("word ".repeat(300)),
            stats: None,
        }],
    }
}

#[test]
fn every_older_layout_is_brought_up_to_date() {
    let newest = table::MIGRATIONS.len();
    for layout in 1..newest {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path()).unwrap();
        let db = Connection::open(home.database()).unwrap();
        table::MIGRATIONS[..layout].iter().for_each(|migration| db.execute_batch(migration).unwrap());
        db.pragma_update(None, "user_version", layout as i64).unwrap();
        if layout >= 3 {
            db.execute("INSERT INTO session VALUES (1, 'summarization', NULL, 1)", []).unwrap();
        }
        db.close().unwrap();

        let store = Store::open(home).unwrap();
        let want = if layout >= 3 { session() } else { Session::default() };
        assert_eq!(store.session().unwrap(), want, "layout {layout}: what was kept stays");
        assert_eq!(store.settings().unwrap(), Settings::default());
        assert!(store.conversations().unwrap().is_empty() && store.datasets().unwrap().is_empty());
        assert_eq!((store.current_run().unwrap(), store.calibration("cpu").unwrap()), (None, None));
        store.put_conversation(conversation("new".into())).unwrap();
        assert_eq!((store.moved_aside(), store.lost()), (None, &[][..]));
    }
}

#[test]
fn a_database_that_is_none_any_more_costs_what_only_it_held() {
    let temp = tempfile::tempdir().unwrap();
    let first = store(temp.path());
    put_model(&first, MODEL);
    put_run(&first);
    first.set_session(&session()).unwrap();
    let database = first.home().database();
    drop(first);
    files::write(&database, b"this is no database, but it is long enough to be taken for one").unwrap();

    let second = store(temp.path());
    let kept = second.moved_aside().unwrap();
    assert!(fs::read(kept).unwrap().starts_with(b"this is no database"), "the damaged file is kept");
    assert_eq!(second.lost(), table::ONLY_HERE, "what could not be read is told");
    assert_eq!(second.models().unwrap()[0].model_id, MODEL, "models come back from their manifests");
    assert_eq!(second.runs().unwrap()[0].row.job_id, JOB, "runs come back from their descriptions");
    assert_eq!(second.session().unwrap(), Default::default(), "nothing is chosen any more");
}

#[test]
fn what_a_damaged_database_still_tells_is_carried_over() {
    const CONVERSATIONS: usize = 200;
    let temp = tempfile::tempdir().unwrap();
    let first = store(temp.path());
    put_model(&first, MODEL);
    let settings = Settings { offline: true, ..Settings::default() };
    first.set_session(&session()).unwrap();
    first.set_settings(&settings).unwrap();
    (0..CONVERSATIONS).for_each(|n| drop(first.put_conversation(conversation(format!("{n}"))).unwrap()));
    let database = first.home().database();
    drop(first);
    // Zeroes a page in the middle of the conversations: the last page of the file is theirs too.
    let mut bytes = fs::read(&database).unwrap();
    let page = 4096;
    let middle = bytes.len() / page * 2 / 3 * page;
    bytes[middle..middle + page].fill(0);
    files::write(&database, &bytes).unwrap();

    let second = store(temp.path());
    assert!(second.moved_aside().is_some(), "the damage is found on opening");
    assert_eq!(second.lost(), ["conversations"], "only the table with the damage lost anything");
    assert_eq!((second.session().unwrap(), second.settings().unwrap()), (session(), settings));
    let rows = second.conversations().unwrap();
    assert!(
        rows.len() > CONVERSATIONS / 2 && rows.len() < CONVERSATIONS,
        "most conversations are on pages that can be read, on either side of the damage: {}",
        rows.len()
    );
    for row in rows {
        assert_eq!(second.conversation(&row.id).unwrap().row, row, "what is listed can be read");
    }
    assert_eq!(second.models().unwrap()[0].model_id, MODEL);
    drop(second);
    let third = store(temp.path());
    assert_eq!((third.moved_aside(), third.lost()), (None, &[][..]), "the new database is sound");
}

#[test]
fn several_openers_repair_a_database_once() {
    let temp = tempfile::tempdir().unwrap();
    let home = Home::at(temp.path()).unwrap();
    files::write(&home.database(), &[b'x'; 9000]).unwrap();
    let repaired = std::thread::scope(|scope| {
        let open = || Store::open(home.clone()).unwrap().moved_aside().is_some();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).filter(|&moved| moved).count()
    });
    assert_eq!(repaired, 1, "nobody moves the repaired database aside again");
}
