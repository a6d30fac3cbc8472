//! What was measured so far, as lines of JSON, so that a search goes on where it was stopped.

use super::super::Rules;
use super::Measured;
use crate::error::{Error, Result};
use crate::options::Level;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How every log begins.
const BEGIN: &[u8] = b"{\"blake3\":\"";

/// What a log's measures are of: others are of no use. Its first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// [`Model::blake3`](super::Model::blake3), in hex.
    pub blake3: String,
    /// What gives the score: a command, or the name of a function.
    pub evaluate: String,
    /// The name of the level.
    pub level: String,
}

/// One measure.
#[derive(Serialize, Deserialize)]
struct Line {
    rules: String,
    bytes: u64,
    /// As text: JSON has no number for what is none, and its readers may round.
    score: String,
}

/// A file of measures that is read, and added to, by one process at a time.
pub struct Log {
    path: PathBuf,
    file: File,
    known: HashMap<String, Measured>,
}

impl Key {
    /// The key of a model, what gives the score, and the level that sizes are of.
    pub fn new(blake3: [u8; 32], evaluate: &str, level: Level) -> Self {
        let blake3 = blake3.iter().map(|b| format!("{b:02x}")).collect();
        Self { blake3, evaluate: evaluate.to_owned(), level: level.name().to_owned() }
    }

    fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.blake3 != other.blake3 {
            return Some("another model");
        }
        if self.evaluate != other.evaluate {
            return Some("another evaluation");
        }
        (self.level != other.level).then_some("another level")
    }
}

impl Log {
    /// Opens a log, or makes one. The last line is ignored if it was not written to its end.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the file is something else, or of another key;
    /// [`Io`](crate::Kind::Io), also if another process has it.
    pub fn open(path: &Path, key: &Key) -> Result<Self> {
        let cant = |e| Error::io(format!("can't use the log {}", path.display()), e);
        let mut file = open_alone(path).map_err(cant)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(cant)?;
        let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
        let (lines, unfinished) = bytes.split_at(end);
        let (first, known) = read(lines, unfinished).map_err(|why| refused(path, &why))?;
        if let Some(difference) = first.as_ref().and_then(|first| key.difference(first)) {
            return Err(refused(path, &format!("is of {difference}")));
        }
        file.set_len(end as u64).map_err(cant)?;
        file.seek(SeekFrom::End(0)).map_err(cant)?;
        let mut log = Self { path: path.to_owned(), file, known };
        if first.is_none() {
            log.write(key)?;
        }
        Ok(log)
    }

    /// What was measured of a model that is rounded by these rules.
    pub fn get(&self, rules: &Rules) -> Option<Measured> {
        self.known.get(&rules.to_string()).copied()
    }

    /// How many measures it has.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing was measured yet.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Adds a measure, and brings it to disk.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io).
    pub fn add(&mut self, rules: &Rules, measured: Measured) -> Result<()> {
        let (rules, Measured { bytes, score }) = (rules.to_string(), measured);
        let line = Line { rules, bytes, score: score.to_string() };
        self.write(&line)?;
        self.known.insert(line.rules, measured);
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let cant = |e| Error::io(format!("can't write the log {}", self.path.display()), e);
        let mut bytes = serde_json::to_vec(line).map_err(|e| cant(e.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).and_then(|()| self.file.sync_data()).map_err(cant)
    }
}

/// Opens or makes a file that no other process has open in this way.
fn open_alone(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "another process has it; try again when that is done",
        )),
        Err(TryLockError::Error(e)) if e.kind() != io::ErrorKind::Unsupported => Err(e),
        _ => Ok(file),
    }
}

/// The key and the measures in the lines of a log; or why they are none.
fn read(
    lines: &[u8],
    unfinished: &[u8],
) -> Result<(Option<Key>, HashMap<String, Measured>), String> {
    let other = || "is something else".to_owned();
    let mut known = HashMap::new();
    if lines.is_empty() {
        let begins = BEGIN.starts_with(&unfinished[..unfinished.len().min(BEGIN.len())]);
        return if begins { Ok((None, known)) } else { Err(other()) };
    }
    let mut lines = lines.split(|b| *b == b'\n');
    let key = lines.next().and_then(|first| serde_json::from_slice(first).ok());
    let key = Some(key.ok_or_else(other)?);
    for (number, line) in (2..).zip(lines.filter(|line| !line.is_empty())) {
        let Line { rules, bytes, score } = serde_json::from_slice(line)
            .map_err(|e| format!("is damaged in line {number} ({e})"))?;
        let score =
            score.parse().map_err(|_| format!("has no score in line {number}, {score:?}"))?;
        known.insert(rules, Measured { bytes, score });
    }
    Ok((key, known))
}

fn refused(path: &Path, why: &str) -> Error {
    let path = path.display();
    Error::argument(format!("the log {path} {why}; remove it or name another one"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn rules(text: &str) -> Rules {
        let mut rules = Rules::default();
        rules.add(text).unwrap();
        rules
    }

    #[test]
    fn a_log_goes_on_where_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let key = Key::new([7; 32], "eval", Level::Default);
        let (some, bad) = (Measured { bytes: 7, score: 0.1 }, f64::NAN);
        let mut log = Log::open(&path, &key).unwrap();
        assert!(log.is_empty());
        log.add(&Rules::default(), some).unwrap();
        log.add(&rules("abs=2^-3"), Measured { bytes: 5, score: bad }).unwrap();
        if cfg!(unix) {
            assert!(
                Log::open(&path, &key).is_err_and(|e| e.to_string().contains("another process"))
            );
        }
        drop(log);
        let whole = fs::read(&path).unwrap();
        let lines: Vec<usize> = (1..=whole.len()).filter(|&end| whole[end - 1] == b'\n').collect();
        for end in 0..=whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let mut log = Log::open(&path, &key).unwrap();
            let measures = lines.iter().filter(|line| **line <= end).count().saturating_sub(1);
            assert_eq!(log.len(), measures, "{end}");
            log.add(&rules("rel=2^-3"), some).unwrap();
            drop(log);
            let log = Log::open(&path, &key).unwrap();
            assert_eq!(log.len(), measures + 1);
            assert_eq!(log.get(&rules("rel=2^-3")), Some(some));
            assert_eq!(log.get(&Rules::default()), (measures > 0).then_some(some));
            let nan = log.get(&rules("abs=2^-3"));
            assert_eq!(nan.is_some_and(|m| m.score.is_nan()), measures > 1);
        }
    }

    #[test]
    fn any_score_comes_back() {
        arbtest::arbtest(|u| {
            let score = f64::from_bits(u.arbitrary()?);
            let line =
                Line { rules: String::new(), bytes: u.arbitrary()?, score: score.to_string() };
            let lines = [
                b"{\"blake3\":\"\",\"evaluate\":\"\",\"level\":\"\"}\n",
                &serde_json::to_vec(&line).unwrap()[..],
            ]
            .concat();
            let (_, known) = read(&lines, b"").unwrap();
            assert_eq!(known[""].bytes, line.bytes);
            assert!(known[""].score == score || score.is_nan() && known[""].score.is_nan());
            Ok(())
        });
    }

    #[test]
    fn other_logs_and_other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let key = Key::new([7; 32], "eval", Level::Default);
        Log::open(&path, &key)
            .unwrap()
            .add(&Rules::default(), Measured { bytes: 1, score: 1.0 })
            .unwrap();
        let refused = |key: &Key| Log::open(&path, key).err().unwrap().to_string();
        for (key, why) in [
            (Key::new([8; 32], "eval", Level::Default), "another model"),
            (Key::new([7; 32], "other", Level::Default), "another evaluation"),
            (Key::new([7; 32], "eval", Level::Max), "another level"),
        ] {
            assert!(refused(&key).contains(why));
        }
        let mut unscored = fs::read(&path).unwrap();
        unscored.extend(b"{\"rules\":\"\",\"bytes\":1,\"score\":\"x\"}\n");
        let mut damaged = fs::read(&path).unwrap();
        damaged.extend(b"x\n");
        for (bytes, why) in [
            (&damaged[..], "damaged in line 3"),
            (&unscored, "no score in line 3"),
            (b"weights", "something else"),
            (b"weights\n", "something else"),
            (b"\n", "something else"),
        ] {
            fs::write(&path, bytes).unwrap();
            let told = refused(&key);
            assert!(told.contains(why) && told.contains("remove it"), "{told}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }
}
