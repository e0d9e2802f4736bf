//! Writing a job's event log. Only who holds the job's lock may: its engine, or the app while the engine cannot begin yet.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
};

use crate::{EventLine, JobFolder, TrainEvent, id};

/// A job's log, to be appended to.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    next: u64,
    last: Option<TrainEvent>,
}

impl EventLog {
    /// Opens the log of a job and goes on after its last whole line. A line that a killed process left half written is cut
    /// off.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(job: &JobFolder) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(job.events())?;
        let (mut end, mut next, mut last) = (0, 0, None);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                break;
            }
            let Ok(event) = serde_json::from_slice::<EventLine>(&line) else { break };
            end += length as u64;
            next = event.seq + 1;
            last = Some(event.event);
        }
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        Ok(Self { file, next, last })
    }

    /// The last event in the log, from an earlier process too.
    pub fn last(&self) -> Option<&TrainEvent> {
        self.last.as_ref()
    }

    /// Appends an event and gives its line, with the end of the line.
    ///
    /// # Errors
    /// The log cannot be written, a full disk for example.
    pub fn append(&mut self, event: TrainEvent) -> io::Result<Vec<u8>> {
        let line = EventLine { seq: self.next, time: id::now_rfc3339(), event };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        // What ends or secures a run must outlive a power cut; how far it is need not.
        if !matches!(line.event, TrainEvent::Step(_) | TrainEvent::Download(_)) {
            self.file.sync_data()?;
        }
        self.next += 1;
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
}
