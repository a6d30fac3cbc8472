//! Signals: unfinished files and folders are removed before the process ends.

/// Starts to watch for signals that end a process. Those that were ignored when it started stay so, as `nohup` and a shell's
/// background jobs want it. Where no thread can be started, they end the process as if nobody watched.
#[cfg(unix)]
pub(crate) fn install() -> std::io::Result<()> {
    use signal_hook::consts::{
        SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGXFSZ,
    };
    // Whoever writes beyond the largest size is told so by the write.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
    let ignored = ignored();
    let all = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU];
    let watched: Vec<i32> =
        all.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect();
    // The thread comes first: a signal that is caught without one would do nothing.
    let (begun, begins) = std::sync::mpsc::channel();
    let watch = move || match signal_hook::iterator::Signals::new(watched) {
        Ok(signals) => {
            // Nobody waits any more if the process ends.
            let _ = begun.send(Ok(()));
            end_by_signal(signals);
        }
        Err(error) => drop(begun.send(Err(error))),
    };
    match std::thread::Builder::new().name("signals".to_owned()).spawn(watch) {
        Ok(_) => begins.recv().unwrap_or(Ok(())),
        Err(_) => Ok(()),
    }
}

#[cfg(unix)]
fn end_by_signal(mut signals: signal_hook::iterator::Signals) {
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
}

/// The signals that this process ignores, as bits, where the system says so.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Other systems: the temporary file stays, under its temporary name.
#[cfg(not(unix))]
pub(crate) fn install() -> std::io::Result<()> {
    Ok(())
}
