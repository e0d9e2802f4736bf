//! Writing a job's event log. Only who holds the job's lock may: its engine, or the app while the engine cannot begin yet.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    mem,
};

use serde::Deserialize;

use crate::{EventLine, JobFolder, TrainEvent, id};

/// What must be known of each event to go on after it.
#[derive(Deserialize)]
struct Head {
    seq: u64,
    event: String,
    #[serde(default)]
    step: Option<u64>,
}

/// A job's log, to be appended to.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    /// Bytes of all whole lines.
    end: u64,
    next: u64,
    last: Option<TrainEvent>,
    saved: Option<u64>,
}

impl EventLog {
    /// Opens the log of a job and goes on after its last whole line. A line that a killed process left half written is cut
    /// off; one that another version wrote stays.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(job: &JobFolder) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(job.events())?;
        let (mut end, mut next, mut saved) = (0, 0, None);
        let mut last = Vec::new();
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            let Ok(head) = serde_json::from_slice::<Head>(&line) else { break };
            end += length as u64;
            next = head.seq + 1;
            if head.event == "checkpoint" {
                saved = head.step;
            }
            mem::swap(&mut last, &mut line);
        }
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        let last = serde_json::from_slice::<EventLine>(&last).ok().map(|line| line.event);
        Ok(Self { file, end, next, last, saved })
    }

    /// The last event in the log, from an earlier process too.
    pub fn last(&self) -> Option<&TrainEvent> {
        self.last.as_ref()
    }

    /// The step of the last checkpoint in the log.
    pub fn saved(&self) -> Option<u64> {
        self.saved
    }

    /// Appends an event and gives its line, with the end of the line.
    ///
    /// # Errors
    /// The log cannot be written, a full disk for example.
    pub fn append(&mut self, event: TrainEvent) -> io::Result<Vec<u8>> {
        let line = EventLine { seq: self.next, time: id::now_rfc3339(), event };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // Half a line would join with the next one.
            self.file.set_len(self.end).and_then(|()| self.file.seek(SeekFrom::Start(self.end)))?;
            return Err(error);
        }
        self.end += text.len() as u64;
        // What ends or secures a run must outlive a power cut; how far it is need not.
        if !matches!(line.event, TrainEvent::Step(_) | TrainEvent::Download(_)) {
            self.file.sync_data()?;
        }
        self.next += 1;
        if let TrainEvent::Checkpoint { step, .. } = &line.event {
            self.saved = Some(*step);
        }
        self.last = Some(line.event);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_count_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path());
        let warning = |text: &str| TrainEvent::Warning { message: text.into() };
        let mut log = EventLog::open(&job).unwrap();
        log.append(warning("one")).unwrap();
        log.append(warning("two")).unwrap();
        drop(log);
        OpenOptions::new().append(true).open(job.events()).unwrap().write_all(b"{\"seq\":2,\"ti").unwrap();
        let mut log = EventLog::open(&job).unwrap();
        assert_eq!(log.last(), Some(&warning("two")), "the last whole event is the last one");
        log.append(warning("three")).unwrap();
        let text = std::fs::read_to_string(job.events()).unwrap();
        let seqs: Vec<u64> =
            text.lines().map(|l| serde_json::from_str::<EventLine>(l).unwrap().seq).collect();
        assert_eq!(seqs, [0, 1, 2], "no event is lost, torn or counted twice");
    }

    #[test]
    fn what_another_version_told_stays_and_the_last_checkpoint_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path());
        let saved = |step| TrainEvent::Checkpoint { step, path: job.checkpoint(step) };
        let mut log = EventLog::open(&job).unwrap();
        assert_eq!((log.saved(), log.last()), (None, None));
        log.append(saved(3)).unwrap();
        log.append(saved(7)).unwrap();
        drop(log);
        let newer = b"{\"seq\":2,\"time\":\"\",\"event\":\"moon_phase\",\"step\":9}\n";
        OpenOptions::new().append(true).open(job.events()).unwrap().write_all(newer).unwrap();
        let mut log = EventLog::open(&job).unwrap();
        assert_eq!((log.saved(), log.last()), (Some(7), None), "an event that is not known is no checkpoint");
        log.append(saved(8)).unwrap();
        assert_eq!(log.saved(), Some(8));
        let text = std::fs::read_to_string(job.events()).unwrap();
        assert_eq!(text.lines().count(), 4, "nothing is cut off that is whole: {text}");
    }
}
