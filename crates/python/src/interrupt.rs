//! Long work beside the Python thread that asked for it, so that signals are answered.
//!
//! The work runs on a thread of its own. The calling thread runs whatever the work needs of Python
//! (reading a file-like object), in between reports progress, and looks for signals: Python answers
//! them on its main thread alone. An exception from any of these, KeyboardInterrupt included, tells
//! the work to stop, waits for it, and is raised.

use crate::threads::while_needed;
use pyo3::prelude::*;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::time::{Duration, Instant};

/// How long the calling thread waits before it looks for signals.
const STEP: Duration = Duration::from_millis(50);

/// Bytes of work that are worth a thread of their own: less is done before anyone notices.
const LARGE: u64 = 32 << 20;

/// Something for the calling thread to do.
type Errand = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// What a caller wants besides the result.
pub(crate) struct Call<'a> {
    /// Called with the bytes done and all bytes.
    pub(crate) progress: Option<&'a Py<PyAny>>,
    /// Bytes to be done; 0 if nobody knows.
    pub(crate) total: u64,
    /// Whether the work runs errands.
    pub(crate) has_errands: bool,
}

/// Where work hands in errands, and says how far it is.
#[derive(Clone)]
pub(crate) struct Desk {
    errands: Sender<Errand>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    done: AtomicU64,
}

impl Desk {
    /// Has the calling thread do something with Python, and waits for it. Fails if the work is to
    /// stop, also because this raised.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        errand: impl FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
    ) -> io::Result<T> {
        self.check()?;
        let (reply, answer) = sync_channel(1);
        let errand = Box::new(move |py: Python<'_>| {
            // Nobody waits for the answer if the work was unwound.
            let _ = reply.send(errand(py)?);
            Ok(())
        });
        self.errands.send(errand).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())
    }

    /// Counts bytes as done.
    pub(crate) fn count(&self, bytes: u64) {
        self.state.done.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes as done. Fails if the work is to stop.
    pub(crate) fn advance(&self, bytes: u64) -> io::Result<()> {
        self.count(bytes);
        self.check()
    }

    /// Fails if the work is to stop.
    pub(crate) fn check(&self) -> io::Result<()> {
        if self.state.stop.load(Relaxed) { Err(stopped()) } else { Ok(()) }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the call was interrupted")
}

/// Does `work`: what it returns is the inner result. The outer one is what the calling thread
/// raised meanwhile.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    call: &Call<'_>,
    work: impl FnOnce(Desk) -> T + Send,
) -> PyResult<T> {
    let (errands, inbox) = channel();
    let state = Arc::new(State::default());
    let desk = Desk { errands, state: Arc::clone(&state) };
    let result = if call.total < LARGE && !call.has_errands {
        py.detach(|| work(desk))
    } else {
        let mut clerk = Clerk { call, state: &state, reported: Instant::now(), raised: None };
        let result = py.detach(|| {
            std::thread::scope(|scope| {
                let helper = scope.spawn(|| work(desk));
                clerk.serve(inbox);
                helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        clerk.raised.map_or(Ok(()), Err)?;
        result
    };
    call.report(py, state.done.load(Relaxed))?;
    Ok(result)
}

impl Call<'_> {
    fn report(&self, py: Python<'_>, done: u64) -> PyResult<()> {
        let Some(progress) = self.progress else { return Ok(()) };
        progress.call1(py, (done, self.total.max(done)))?;
        Ok(())
    }
}

/// The calling thread, while the work runs.
struct Clerk<'a> {
    call: &'a Call<'a>,
    state: &'a State,
    /// When progress was last reported.
    reported: Instant,
    raised: Option<PyErr>,
}

impl Clerk<'_> {
    /// Does what comes in until the work has ended.
    fn serve(&mut self, inbox: Receiver<Errand>) {
        loop {
            let errand = match inbox.recv_timeout(STEP) {
                Ok(errand) => Some(errand),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // After an exception errands are dropped, which tells those who wait for them.
            if self.raised.is_none()
                && let Err(raised) = Python::attach(|py| while_needed(|| self.step(py, errand)))
            {
                self.raised = Some(raised);
                self.state.stop.store(true, Relaxed);
            }
        }
    }

    fn step(&mut self, py: Python<'_>, errand: Option<Errand>) -> PyResult<()> {
        errand.map_or(Ok(()), |errand| errand(py))?;
        py.check_signals()?;
        if self.reported.elapsed() >= STEP {
            self.reported = Instant::now();
            self.call.report(py, self.state.done.load(Relaxed))?;
        }
        Ok(())
    }
}
