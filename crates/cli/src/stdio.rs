//! Stdin and stdout for data, which must be there: the runtime puts /dev/null in the place of what was closed.

use anyhow::{Result, bail, ensure};
use std::io::{self, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static NO_STDIN: AtomicBool = AtomicBool::new(false);
static NO_STDOUT: AtomicBool = AtomicBool::new(false);

/// Looks which of stdin and stdout are closed. A program calls this before its runtime starts, if it can.
pub fn note_closed() {
    #[cfg(unix)]
    {
        let is_closed = |fd| rustix::io::fcntl_getfd(fd).is_err();
        NO_STDIN.store(is_closed(rustix::stdio::stdin()), Relaxed);
        NO_STDOUT.store(is_closed(rustix::stdio::stdout()), Relaxed);
    }
}

/// Stdin for data.
pub(crate) fn data_stdin() -> Result<impl Read> {
    ensure!(!NO_STDIN.load(Relaxed), "stdin is closed; name a file, or use a pipe");
    Ok(io::stdin().lock())
}

/// Stdout for data that is not text.
pub(crate) fn data_stdout() -> Result<impl Write> {
    ensure!(!NO_STDOUT.load(Relaxed), "stdout is closed; use -o or a pipe");
    let stdout = io::stdout();
    if stdout.is_terminal() {
        bail!("this is binary data and stdout is a terminal; use -o or a pipe");
    }
    Ok(stdout.lock())
}
