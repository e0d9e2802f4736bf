//! Following an event log that grows, is torn, is cut and begins again.

use super::*;

fn log_path(store: &Store) -> std::path::PathBuf {
    store.home().run(JOB).unwrap().events()
}

fn write(store: &Store, bytes: &[u8]) {
    fs::File::options().create(true).append(true).open(log_path(store)).unwrap().write_all(bytes).unwrap();
}

fn cut(store: &Store, length: u64) {
    fs::File::options().write(true).open(log_path(store)).unwrap().set_len(length).unwrap();
}

fn length(store: &Store) -> u64 {
    fs::metadata(log_path(store)).unwrap().len()
}

fn seqs(batch: Vec<EventLine>) -> Vec<u64> {
    batch.into_iter().map(|line| line.seq).collect()
}

#[test]
fn a_tail_gives_each_whole_line_once() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    let mut tail = store.event_tail(JOB, None).unwrap();
    let mut next = |rule: &str, want: &[u64]| assert_eq!(seqs(tail.next_batch().unwrap()), want, "{rule}");
    next("a log that does not exist yet is empty", &[]);
    append(&store, [started(None), step(1)]);
    next("what is there comes first", &[0, 1]);
    next("nothing comes twice", &[]);
    let whole = serde_json::to_vec(&EventLine { seq: 2, time: String::new(), event: step(2) }).unwrap();
    write(&store, &whole[..10]);
    next("half a line is no line", &[]);
    write(&store, &whole[10..]);
    next("a line without its end may still go on", &[]);
    write(&store, b"\n");
    next("it comes when it is whole", &[2]);
    let end = length(&store);
    write(&store, b"{\"seq\": 3, \"ti");
    next("a killed engine leaves half a line", &[]);
    cut(&store, end);
    append(&store, [started(Some(2))]);
    next("the next engine cuts it off and goes on", &[3]);
    fs::remove_file(log_path(&store)).unwrap();
    next("a log that went away has no lines", &[]);
}

#[test]
fn a_log_that_lost_lines_goes_on_where_it_ends_now() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    append(&store, [started(None), step(1)]);
    let kept = length(&store);
    append(&store, [step(2), step(3), TrainEvent::Stopped { step: 3, checkpoint: None }]);
    let mut tail = store.event_tail(JOB, None).unwrap();
    assert_eq!(seqs(tail.next_batch().unwrap()), [0, 1, 2, 3, 4]);
    assert_eq!(store.run(JOB).unwrap().status, RunStatus::Stopped);
    cut(&store, kept);
    assert_eq!(seqs(tail.next_batch().unwrap()), [0; 0], "what is still there has been given out");
    let run = store.run(JOB).unwrap();
    assert_eq!((run.step, run.status), (1, RunStatus::Interrupted), "a run stands as its log tells now");
    append(&store, [step(2)]);
    assert_eq!(seqs(tail.next_batch().unwrap()), [2], "a number that is given anew is a new line");
    assert_eq!(store.run(JOB).unwrap().step, 2);
    cut(&store, 0);
    assert_eq!(store.run(JOB).unwrap().updated_at, None, "an emptied log tells nothing");
    assert_eq!(seqs(tail.next_batch().unwrap()), [0; 0]);
    append(&store, [started(None)]);
    assert_eq!(seqs(tail.next_batch().unwrap()), [0]);
}

#[test]
fn events_can_be_read_from_any_line_on() {
    const LINES: u64 = 5000;
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    append(&store, (0..LINES).map(step));
    for (after, limit, want) in [
        (None, 2, 0..2),
        (None, usize::MAX, 0..LINES),
        (Some(0), 3, 1..4),
        (Some(1023), 2, 1024..1026),
        (Some(1024), 2, 1025..1027),
        (Some(3000), 1500, 3001..4501),
        (Some(LINES - 2), 9, LINES - 1..LINES),
        (Some(LINES - 1), 9, 0..0),
        (Some(u64::MAX), 9, 0..0),
        (Some(7), 0, 0..0),
    ] {
        let found = seqs(store.events_after(JOB, after, limit).unwrap());
        assert_eq!(found, want.collect::<Vec<_>>(), "after {after:?}, at most {limit}");
    }
    let mut tail = store.event_tail(JOB, Some(u64::MAX)).unwrap();
    assert_eq!(seqs(tail.next_batch().unwrap()), [0; 0]);
    append(&store, [step(1)]);
    assert_eq!(seqs(tail.next_batch().unwrap()), [LINES], "a number from elsewhere does not silence the log");
}

#[test]
fn what_was_read_once_is_not_read_again() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    put_run(&store);
    append(&store, [started(None), step(1)]);
    assert_eq!(store.run(JOB).unwrap().step, 1);
    // Were it read again, the log would end here.
    let begun = "x\n".repeat(usize::try_from(length(&store)).unwrap() / 2 + 1);
    let begun = &begun.as_bytes()[..usize::try_from(length(&store)).unwrap()];
    files::write(&log_path(&store), begun).unwrap();
    let line = EventLine { seq: 2, time: String::new(), event: step(2) };
    write(&store, format!("{}\n", serde_json::to_string(&line).unwrap()).as_bytes());
    assert_eq!(store.run(JOB).unwrap().step, 2, "only what is new is read");
}

#[test]
fn a_log_that_is_no_log_ends_where_it_stops_making_sense() {
    for junk in [
        b"no json\n".to_vec(),
        b"{\"seq\":2}\n".to_vec(),
        b"{\"seq\":-1,\"time\":\"\",\"event\":\"step\"}\n".to_vec(),
        b"\xff\xfe\n".to_vec(),
        b"\n".to_vec(),
        [vec![b'['; 2 << 20], vec![b'\n']].concat(),
        vec![b' '; 3 << 20],
    ] {
        let temp = tempfile::tempdir().unwrap();
        let store = store(temp.path());
        put_run(&store);
        append(&store, [started(None), step(1)]);
        write(&store, &junk);
        let mut tail = store.event_tail(JOB, None).unwrap();
        let rule =
            format!("what comes before {:?} counts", String::from_utf8_lossy(&junk[..junk.len().min(20)]));
        assert_eq!(seqs(tail.next_batch().unwrap()), [0, 1], "{rule}");
        append(&store, [step(2)]);
        assert_eq!(seqs(tail.next_batch().unwrap()), [0; 0], "nothing after it is taken for an event");
        assert_eq!(store.run(JOB).unwrap().step, 1, "{rule}");
    }
}
