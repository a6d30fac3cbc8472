//! SIGINT and SIGTERM: unfinished files and folders are removed before the process ends.

/// Starts to watch for signals.
#[cfg(unix)]
pub(crate) fn install() -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // Held to the end: nothing new is created any more.
            let files = weightzip::output::unfinished();
            for path in files.iter() {
                // Already gone, or beyond help.
                let _ = match path.is_dir() {
                    true => std::fs::remove_dir_all(path),
                    false => std::fs::remove_file(path),
                };
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
