//! SIGINT and SIGTERM: unfinished files are removed before the process ends.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files that exist under a temporary name now.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The list. A file is created while this is held, so that a signal never comes between
/// its creation and its entry.
pub(crate) fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a file off the list.
pub(crate) fn finished(path: &Path) {
    unfinished().retain(|p| p != path);
}

/// Starts to watch for signals.
#[cfg(unix)]
pub(crate) fn install() -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // Held to the end: nothing new is created any more.
            let files = unfinished();
            for path in files.iter() {
                // Already gone, or beyond help.
                let _ = std::fs::remove_file(path);
            }
            // The shell sees what it would have seen without this handler.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// Other systems: the temporary file stays, under its temporary name.
#[cfg(not(unix))]
pub(crate) fn install() -> std::io::Result<()> {
    Ok(())
}
