//! What a run records: one JSON object a line, each written as soon as it is known, so that a client that is killed
//! loses at most its last line.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC` of the one machine on which all clients run.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A line of a history.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// An object was made.
    Object(ObjectMade),
    /// A call ended, or will never be known to have ended.
    Call(Operation),
    /// A session ended.
    SessionEnd(SessionEnd),
}

/// An object of a built-in type, made before any call of it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ObjectMade {
    /// Its ident.
    pub object: u64,
    /// Its type.
    pub typeid: String,
    /// The constructor's positional arguments.
    pub args: Vec<serde_json::Value>,
}

/// A call, and what its client knows of it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Operation {
    /// Which client process.
    pub client: u32,
    /// Its session.
    pub session: u64,
    /// Which thread or task of the session: together they are the owner of what is granted.
    pub owner: u64,
    /// The object called.
    pub object: u64,
    /// The method.
    pub method: String,
    /// Positional arguments.
    pub args: Vec<serde_json::Value>,
    /// How long it may park; `None`: for ever.
    pub deadline_ms: Option<u64>,
    /// The lock's ident and the fence under which the call was made.
    pub guard: Option<(u64, u64)>,
    /// Read before the call was sent.
    pub invoked_ns: u64,
    /// Read after the reply came; `None` if none did.
    pub returned_ns: Option<u64>,
    /// What the client was told.
    pub outcome: Outcome,
    /// Where the reply stands, if it came out of a step of the object.
    pub at: Option<At>,
    /// What the reply granted.
    pub grant: Option<Grant>,
}

/// What a client was told of its call.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A result.
    Returned(serde_json::Value),
    /// The method ran and raised.
    Raised {
        /// The fault's kind, such as `KeyError`.
        kind: String,
    },
    /// It did not happen.
    Refused {
        /// The fault's kind, such as `StaleFence`.
        kind: String,
    },
    /// It may have happened, or may happen yet: the client died, or lost its session, before the reply.
    Unknown,
}

/// A reply's place in the life of its object.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// The host's epoch.
    pub epoch: u64,
    /// The object's version after the step.
    pub version: u64,
    /// Which of the step's replies.
    pub index: u64,
}

/// A grant of a lock or a permit.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Greater than that of each earlier grant of the object.
    pub fence: u64,
    /// An earlier holder's session was lost.
    pub abandoned: bool,
}

/// A session ended, somewhere between two times.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct SessionEnd {
    /// Which session.
    pub session: u64,
    /// Its last sign of life, or when its client was killed.
    pub from_ns: u64,
    /// When it is known to have ended; `None` if that is not known.
    pub until_ns: Option<u64>,
    /// It said goodbye.
    pub orderly: bool,
}

/// Where a client writes its records.
#[derive(Debug)]
pub struct Log {
    file: BufWriter<File>,
}

impl Log {
    /// Opens the file, makes it if it is missing, and goes on behind what is there. A torn last line is closed first, so
    /// that it does not spoil the next record.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut last = [b'\n'];
        if file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
        }
        Ok(Self { file: BufWriter::new(file) })
    }

    /// Writes a record and hands it to the system: from then on only the machine's end can lose it.
    ///
    /// # Errors
    /// Those of the file.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, record)?;
        self.file.write_all(b"\n")?;
        self.file.flush()
    }
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no record.
    #[error("{}:{line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Reads the records of a file. A last line that does not end was torn by its writer's death and is left out.
///
/// # Errors
/// What the file's system says, or the first line that is no record.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<Record>, ReadError> {
    let path = path.as_ref();
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut lines = BufReader::new(File::open(path).map_err(io)?);
    let mut records = Vec::new();
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        lines.read_until(b'\n', &mut bytes).map_err(io)?;
        if bytes.pop() != Some(b'\n') {
            break;
        }
        let record = serde_json::from_slice(&bytes);
        records.push(record.map_err(|source| ReadError::Line { path: path.to_owned(), line, source })?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session_end(session: u64) -> Record {
        Record::SessionEnd(SessionEnd { session, from_ns: 1, until_ns: None, orderly: false })
    }

    #[test]
    fn what_is_recorded_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let call = Operation {
            client: 1,
            session: 2,
            owner: 3,
            object: 4,
            method: "put".to_owned(),
            args: vec![serde_json::json!([1, "a", null, 1.5])],
            deadline_ms: Some(5),
            guard: Some((6, 7)),
            invoked_ns: u64::MAX,
            returned_ns: Some(9),
            outcome: Outcome::Raised { kind: "Full".to_owned() },
            at: Some(At { epoch: 1, version: 2, index: 3 }),
            grant: Some(Grant { fence: 4, abandoned: true }),
        };
        let object = ObjectMade { object: 4, typeid: "Queue".to_owned(), args: vec![serde_json::json!(1)] };
        let records = [Record::Object(object), Record::Call(call), session_end(2)];
        let mut log = Log::open(&path).unwrap();
        for record in &records {
            log.record(record).unwrap();
        }
        assert_eq!(read(&path).unwrap(), records);
    }

    #[test]
    fn a_torn_last_line_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        Log::open(&path).unwrap().record(&session_end(1)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let torn = [&whole[..], &whole[..whole.len() - 1]].concat();
        std::fs::write(&path, torn).unwrap();
        assert_eq!(read(&path).unwrap(), [session_end(1)]);
    }

    #[test]
    fn an_error_names_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        Log::open(&path).unwrap().record(&session_end(1)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"call\": {\n");
        std::fs::write(&path, bytes).unwrap();
        let text = read(&path).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{}:2: ", path.display())), "{text}");
        assert!(read(directory.path().join("none")).unwrap_err().to_string().contains("none: "));
    }
}
