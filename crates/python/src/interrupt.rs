//! Long work beside the Python thread that asked for it, so that signals are answered.
//!
//! The work runs on a thread of its own. The calling thread runs whatever the work needs of Python
//! (reading a file-like object), in between reports progress, and looks for signals: Python answers
//! them on its main thread alone. An exception from any of these, KeyboardInterrupt included, tells
//! the work to stop, waits for it, and is raised.
//!
//! Where no thread can be started, the calling thread does all of it.

use crate::threads::while_needed;
use pyo3::prelude::*;
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the calling thread waits before it looks for signals.
const STEP: Duration = Duration::from_millis(50);

/// Bytes of work that are worth a thread of their own: less is done before anyone notices.
const LARGE: u64 = 32 << 20;

thread_local! {
    /// The calls that this thread runs Python code for, the innermost last.
    static SERVED: Cell<Vec<Arc<State>>> = const { Cell::new(Vec::new()) };
}

/// Does something with the calls that this thread runs Python code for. It may not run such code itself.
fn with_served<T>(work: impl FnOnce(&mut Vec<Arc<State>>) -> T) -> T {
    let mut served = SERVED.take();
    let done = work(&mut served);
    SERVED.set(served);
    done
}

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
    /// None on the calling thread itself.
    errands: Option<Sender<Errand>>,
    state: Arc<State>,
    /// The calls from whose Python code this one comes.
    outer: Arc<[Arc<State>]>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    done: AtomicU64,
    /// What Python code raised.
    raised: Mutex<Option<PyErr>>,
}

impl State {
    fn raised(&self) -> MutexGuard<'_, Option<PyErr>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the work to stop.
    fn raise(&self, error: PyErr) {
        *self.raised() = Some(error);
        self.stop.store(true, Relaxed);
    }

    /// Runs Python code for a call.
    fn serve<T>(self: &Arc<Self>, code: impl FnOnce() -> T) -> T {
        with_served(|served| served.push(Arc::clone(self)));
        let done = while_needed(code);
        with_served(Vec::pop);
        done
    }
}

impl Desk {
    /// Has the calling thread do something with Python, and waits for it. Fails if the work is to
    /// stop, also because this raised.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        errand: impl FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
    ) -> io::Result<T> {
        self.check()?;
        let Some(errands) = &self.errands else {
            let done = Python::attach(|py| self.state.serve(|| errand(py)));
            return done.map_err(|raised| {
                self.state.raise(raised);
                stopped()
            });
        };
        let (reply, answer) = sync_channel(1);
        let errand = Box::new(move |py: Python<'_>| {
            // Nobody waits for the answer if the work was unwound.
            let _ = reply.send(errand(py)?);
            Ok(())
        });
        errands.send(errand).map_err(|_| stopped())?;
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

    /// Whether this call comes from Python code that runs for another one, which waits for it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.outer.iter().any(|outer| Arc::ptr_eq(outer, &other.state))
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
    let outer = with_served(|served| served.as_slice().into());
    let desk = Desk { errands: Some(errands), state: Arc::clone(&state), outer };
    let result = if call.total < LARGE && !call.has_errands {
        py.detach(|| work(desk))
    } else {
        let mut clerk = Clerk { call, state: &state, reported: Instant::now() };
        py.detach(|| clerk.run(inbox, desk, work))
    };
    state.raised().take().map_or(Ok(()), Err)?;
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
    state: &'a Arc<State>,
    /// When progress was last reported.
    reported: Instant,
}

impl Clerk<'_> {
    /// Does work on a thread of its own, and what comes in meanwhile; or all of it here.
    fn run<T: Send>(
        &mut self,
        inbox: Receiver<Errand>,
        desk: Desk,
        work: impl FnOnce(Desk) -> T + Send,
    ) -> T {
        let here = Desk { errands: None, ..desk.clone() };
        let task = Mutex::new(Some((work, desk)));
        let take = || task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let helped = std::thread::scope(|scope| {
            let helper = std::thread::Builder::new()
                .spawn_scoped(scope, || take().map(|(work, desk)| work(desk)))
                .ok()?;
            self.serve(inbox);
            helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        match (helped, take()) {
            (Some(done), _) => done,
            (None, Some((work, _))) => work(here),
            (None, None) => unreachable!("a task is taken by who does it"),
        }
    }

    /// Does what comes in until the work has ended.
    fn serve(&mut self, inbox: Receiver<Errand>) {
        loop {
            let errand = match inbox.recv_timeout(STEP) {
                Ok(errand) => Some(errand),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // After an exception errands are dropped, which tells those who wait for them.
            if self.state.raised().is_some() {
                continue;
            }
            let state = Arc::clone(self.state);
            let stepped = Python::attach(|py| state.serve(|| self.step(py, errand)));
            stepped.unwrap_or_else(|raised| state.raise(raised));
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
