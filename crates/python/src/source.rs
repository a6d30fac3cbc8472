//! Where a `.wz` is read from: a file, memory, or a file-like Python object.

use crate::errors;
use crate::interrupt::Desk;
use crate::memory::Buffer;
use pyo3::prelude::*;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use weightzip::Source;

/// An opened input; clones are the same one.
#[derive(Clone)]
pub(crate) enum Input {
    File(Arc<File>),
    Memory(Arc<Buffer>),
    FileLike(Arc<FileLike>),
}

impl Input {
    /// Opens a path, an object with a buffer, or one with `seek` and `read`; and what it is called.
    pub(crate) fn open(file: &Bound<'_, PyAny>) -> PyResult<(Self, Option<String>)> {
        if let Ok(buffer) = Buffer::of(file) {
            return Ok((Self::Memory(Arc::new(buffer)), None));
        }
        if file.hasattr("read")? && file.hasattr("seek")? {
            let name = file.getattr_opt("name")?.and_then(|name| name.extract().ok());
            return Ok((Self::FileLike(Arc::new(FileLike::new(file))), name));
        }
        let path: PathBuf = file.extract()?;
        let opened = file.py().detach(|| weightzip::open_at_random(&path));
        let opened = opened.map_err(|e| errors::at_path(e, &path))?;
        Ok((Self::File(Arc::new(opened)), Some(path.display().to_string())))
    }

    /// Whether it must be read on the calling thread.
    pub(crate) fn has_errands(&self) -> bool {
        matches!(self, Self::FileLike(_))
    }

    /// The buffer that it is, if it is one.
    pub(crate) fn buffer(&self) -> Option<&Buffer> {
        if let Self::Memory(buffer) = self { Some(buffer) } else { None }
    }

    /// Does `work` that reads this, for a call with this desk.
    pub(crate) fn during<T>(
        &self,
        desk: &Desk,
        work: impl FnOnce() -> weightzip::Result<T>,
    ) -> weightzip::Result<T> {
        let Self::FileLike(file) = self else { return work() };
        let turn = file.turn(desk);
        let _turn = turn.map_err(|e| weightzip::Error::io("can't read the input", e))?;
        work()
    }
}

impl Source for Input {
    fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => file.size(),
            Self::Memory(buffer) => buffer.size(),
            Self::FileLike(file) => file.size(),
        }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file) => Source::read_at(&**file, offset, buf),
            Self::Memory(buffer) => buffer.read_at(offset, buf),
            Self::FileLike(file) => file.read_at(offset, buf),
        }
    }

    fn lend(&self, range: Range<u64>) -> Option<&[u8]> {
        self.buffer().and_then(|buffer| buffer.lend(range))
    }
}

/// A Python object with `seek` and `read`. One call has it at a time: it has one position.
pub(crate) struct FileLike {
    object: Arc<Py<PyAny>>,
    taken: Mutex<()>,
    /// The desk of the call that has it.
    desk: Mutex<Option<Desk>>,
}

/// The time in which a call has a file.
struct Turn<'a> {
    file: &'a FileLike,
    _taken: MutexGuard<'a, ()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.file.desk() = None;
    }
}

impl FileLike {
    fn new(object: &Bound<'_, PyAny>) -> Self {
        let object = Arc::new(object.clone().unbind());
        Self { object, taken: Mutex::default(), desk: Mutex::default() }
    }

    fn desk(&self) -> MutexGuard<'_, Option<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other call has the file. One that has it may be waiting for this one: for `read`, which reads the archive.
    fn turn(&self, desk: &Desk) -> io::Result<Turn<'_>> {
        const STEP: Duration = Duration::from_millis(1);
        let taken = loop {
            match self.taken.try_lock() {
                Ok(taken) => break taken,
                Err(TryLockError::Poisoned(taken)) => break taken.into_inner(),
                Err(TryLockError::WouldBlock) => std::thread::sleep(STEP),
            }
            if self.desk().as_ref().is_some_and(|holder| desk.is_within(holder)) {
                return Err(io::Error::other(
                    "the file-like object reads the archive that is read from it; \
                     open the archive a second time, or read what is needed before",
                ));
            }
            desk.check()?;
        };
        *self.desk() = Some(desk.clone());
        Ok(Turn { file: self, _taken: taken })
    }

    /// Does something with the object on the calling thread.
    fn ask<T: Send + 'static>(
        &self,
        errand: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T> + Send + 'static,
    ) -> io::Result<T> {
        let desk = self.desk().clone().ok_or_else(|| io::Error::other("nobody reads this now"))?;
        let object = Arc::clone(&self.object);
        desk.run(move |py| errand(object.bind(py)))
    }

    fn size(&self) -> io::Result<u64> {
        const END: u8 = 2;
        self.ask(|file| file.call_method1("seek", (0, END))?.extract())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let len = buf.len();
        let bytes = self.ask(move |file| read(file, offset, len))?;
        if bytes.len() != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}

/// So many bytes from an offset on; fewer if the file ends.
fn read(file: &Bound<'_, PyAny>, offset: u64, len: usize) -> PyResult<Vec<u8>> {
    file.call_method1("seek", (offset,))?;
    let (mut bytes, mut filled) = (vec![0; len], 0);
    while filled < len {
        let part = Buffer::of(&file.call_method1("read", (len - filled,))?)?;
        let end = filled + part.len();
        if part.len() == 0 || end > len {
            break;
        }
        part.read_at(0, &mut bytes[filled..end])?;
        filled = end;
    }
    bytes.truncate(filled);
    Ok(bytes)
}
