//! What a finished result was made with, next to what is asked for.

use crate::escape;
use crate::job::{Coder, Job};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use weightzip::{Archive, BaseTensor, Options};

/// Columns of a name in a message.
const SHOWN: usize = 60;

/// How a .wz was made, if not as it would be made now. Both hold the same original.
pub(super) fn difference(job: &Job, result: &Path) -> Option<String> {
    let Coder::Compress(options) = &job.coder else { return None };
    let archive = Archive::open(File::open(result).ok()?).ok()?;
    let found = [level(options, &archive.info().level), sha256(options, archive.info().sha256)];
    let base = base(job, archive.bases());
    let found: Vec<_> = found.into_iter().flatten().chain(base).collect();
    (!found.is_empty()).then(|| found.join(", "))
}

fn level(options: &Options, made: &str) -> Option<String> {
    let wanted = options.level.name();
    (made != wanted).then(|| format!("at level {}, not {wanted}", escape::name(made, SHOWN)))
}

fn sha256(options: &Options, made: Option<[u8; 32]>) -> Option<String> {
    (options.sha256 && made.is_none()).then(|| "without a SHA-256".to_owned())
}

/// Names tell bases: which tensors are used is known only when the file is coded.
fn base(job: &Job, made: &[BaseTensor]) -> Option<String> {
    let used: BTreeSet<&str> = made.iter().map(|tensor| &*tensor.file).collect();
    let Some(first) = used.first() else {
        return (!job.base.is_empty()).then(|| "with nothing of a base".to_owned());
    };
    if job.base.is_empty() {
        return Some(format!("next to the base {}", escape::name(first, SHOWN)));
    }
    // One that can't be read fails before.
    let named = job.base.named().ok()?;
    let names: BTreeSet<_> =
        named.files().filter_map(Path::file_name).map(|name| name.to_string_lossy()).collect();
    let other = used.into_iter().find(|file| !names.contains(*file))?;
    Some(format!("next to another base, {}", escape::name(other, SHOWN)))
}
