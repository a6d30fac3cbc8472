//! `wz chain adopt`: files of a folder become steps of its store.

use crate::args::ChainAdopt;
use crate::escape;
use crate::report::{InFile, Status, print_json, say};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs;
use std::path::Path;
use weightzip::chain::Chain;
use weightzip::output::folder_of;

/// The JSON object.
#[derive(Serialize)]
struct Adopted<'a> {
    command: &'static str,
    adopted: Vec<&'a str>,
    /// Steps that the store has now.
    steps: usize,
}

/// Carries out adopt.
pub(crate) fn run(args: &ChainAdopt) -> Result<Status> {
    let mut chain = Chain::open(&args.store)?;
    let names = args.files.iter().map(|file| name_in(&args.store, file));
    let adopted = names.collect::<Result<Vec<_>>>()?;
    chain.adopt(&adopted)?;
    let steps = chain.steps().len();
    if args.ui.json {
        print_json(&Adopted { command: "chain adopt", adopted, steps })?;
    } else if !args.ui.quiet {
        say(&format!("{}: a store of {}", escape::path(&args.store), super::steps(steps)));
    }
    Ok(Status::Done)
}

/// The name of a file that must be in the store's folder.
fn name_in<'a>(store: &Path, file: &'a Path) -> Result<&'a str> {
    let name = || -> Result<_> {
        let name = file.file_name().and_then(|name| name.to_str());
        let name = name.context("not a name of a file in UTF-8, which bases are known by")?;
        let folder = fs::canonicalize(folder_of(file)).context("can't open its folder")?;
        if folder != fs::canonicalize(store).context("can't open the store")? {
            bail!("not in {}; move it there first", escape::path(store));
        }
        Ok(name)
    };
    name().with_context(|| InFile(file.to_owned()))
}
