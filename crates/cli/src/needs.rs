//! `wz inspect DIR --needs BASE`: the files that can't be restored without a base.

use crate::report::{Status, plain, print_json, tell_failure};
use crate::{escape, job, walk};
use anyhow::{Context, Result};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use weightzip::{Archive, Base};

/// Everything that is printed; also the JSON object.
#[derive(Serialize)]
struct Dependents {
    base: String,
    files: Vec<Dependent>,
    /// What could not be read.
    failed: usize,
}

/// A file that needs the base.
#[derive(Serialize)]
struct Dependent {
    file: String,
    /// Tensors that it is coded against, and those of them that the base has.
    tensors: usize,
    in_base: usize,
}

/// Lists which of these files, and of the .wz in these folders, need `base`.
pub(crate) fn run(paths: &[PathBuf], base: &Path, json: bool) -> Result<Status> {
    let mut found = Dependents { base: plain(base), files: Vec::new(), failed: 0 };
    let mut models = Base::new();
    models.load(base)?;
    let mut files: Vec<PathBuf> = Vec::new();
    for path in paths {
        if path.is_dir() {
            let inside = walk::walk(path)?.files.into_iter().map(|entry| entry.path);
            files.extend(inside.filter(|file| job::without_suffix(file).is_some()));
        } else {
            files.push(path.clone());
        }
    }
    for file in files {
        match dependent(&file, &models) {
            Ok(dependent) => found.files.extend(dependent),
            Err(error) => {
                tell_failure(&file, &error);
                found.failed += 1;
            }
        }
    }
    if json {
        print_json(&found)?;
    } else {
        let mut stdout = io::stdout().lock();
        for Dependent { file, tensors, in_base } in &found.files {
            let file = escape::text(file);
            writeln!(stdout, "{file}: needs {in_base} of its {tensors} base tensors from there")?;
        }
        stdout.flush()?;
    }
    Ok(if found.failed == 0 { Status::Done } else { Status::SomeFailed })
}

/// `None` if the file doesn't need any of these models.
fn dependent(file: &Path, models: &Base) -> Result<Option<Dependent>> {
    let archive = Archive::open(weightzip::open_at_random(file).context("can't open")?)?;
    let (tensors, in_base) = (archive.bases().len(), models.count_of(archive.bases())?);
    Ok((in_base > 0).then(|| Dependent { file: plain(file), tensors, in_base }))
}
