//! Chains: checkpoints in a folder, each coded against the one before.
//!
//! A store is a folder of ordinary `.wz` files, each named by its checkpoint: the last number in the name is its
//! step. Which one is coded against which is read from the files themselves; there is no other state. Whoever
//! changes a store locks its folder, and the names in it change when a file is complete, so that a crash leaves the
//! store as it was before or as it was meant to be.
//!
//! ```
//! use weightzip::chain::{AddOptions, Chain, PruneOptions};
//! # let model = |step: u8| {
//! #     let json = br#"{"w":{"dtype":"F32","shape":[1000],"data_offsets":[0,4000]}}"#;
//! #     let weights = (0..4000u32).map(|i| (i * i * 7 >> 3) as u8 ^ u8::from(i % 100 == 0) * step);
//! #     (json.len() as u64).to_le_bytes().into_iter().chain(*json).chain(weights).collect::<Vec<u8>>()
//! # };
//! let folder = tempfile::tempdir()?;
//! let mut chain = Chain::create(&folder.path().join("run"))?;
//! for step in [100, 200, 300] {
//!     let name = format!("step-{step:05}.safetensors");
//!     chain.add(&name, model(step as u8).as_slice(), &AddOptions::default())?;
//! }
//! assert_eq!(chain.step(300)?.bases, [200]);
//!
//! // The last one stays, and is coded against none that goes.
//! chain.prune(&PruneOptions { keep_last: Some(1), ..PruneOptions::default() })?;
//! assert_eq!(chain.steps().len(), 1);
//! let mut restored = Vec::new();
//! std::io::copy(&mut chain.open_step(300)?.reader(), &mut restored)?;
//! assert!(restored == model(300u32 as u8));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod add;
mod coding;
mod graph;
mod prune;
mod store;

pub use crate::base::MAX_DEPTH;
pub use add::AddOptions;
pub use prune::{Plan, PruneOptions};
pub use store::step_of;

use crate::archive::Archive;
use crate::base::Base;
use crate::container::footer::Info;
use crate::error::{Error, Result};
use crate::options::DecodeOptions;
use crate::output::{folder_of, sync_folder};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A store, as its folder was when it was last read.
#[derive(Clone, Debug)]
pub struct Chain {
    folder: PathBuf,
    steps: Vec<Step>,
}

/// A checkpoint in a store.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The number in its name.
    pub number: u64,
    /// Its `.wz`.
    pub path: PathBuf,
    /// The steps that it is coded against; none if it is a keyframe.
    pub bases: Vec<u64>,
    /// The names of files that it is coded against, too, and that aren't in the store.
    pub missing: Vec<String>,
    /// How many steps must be read, one behind the other, to restore it, besides itself.
    pub depth: usize,
    /// What its file says of itself.
    pub info: Info,
}

impl Step {
    /// The checkpoint's name: the file's, without `.wz`.
    pub fn name(&self) -> &str {
        self.path.file_stem().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Whether it stands alone.
    pub fn is_keyframe(&self) -> bool {
        self.bases.is_empty() && self.missing.is_empty()
    }
}

impl Chain {
    /// Opens the store in a folder; reads the directory of each `.wz` whose name has a number in it, and leaves
    /// everything else alone.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if it can't be read, [`InvalidArgument`](crate::Kind::InvalidArgument) if two files
    /// are the same step, and what [`Archive::open`] reports, with the file's path.
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self { folder: folder.to_owned(), steps: store::read(folder)? })
    }

    /// Opens the store in a folder, which is made if there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Io`](crate::Kind::Io) if the folder can't be made.
    pub fn create(folder: &Path) -> Result<Self> {
        match fs::create_dir(folder) {
            Ok(()) => sync_folder(folder_of(folder))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(format!("can't make {}", folder.display()), e)),
        }
        Self::open(folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step of a number.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is none.
    pub fn step(&self, number: u64) -> Result<&Step> {
        let found = self.steps.binary_search_by_key(&number, |step| step.number);
        let found = found.map_err(|_| Error::argument(format!("there is no step {number}")))?;
        Ok(&self.steps[found])
    }

    /// Opens a step, with all that it is coded against.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is no such step, or what it is coded against is
    /// not in the store; and what [`Archive::open`] reports.
    pub fn open_step(&self, number: u64) -> Result<Archive<File>> {
        let step = self.step(number)?;
        let options = DecodeOptions { base: self.base_of(number)?, ..DecodeOptions::default() };
        let archive = Archive::open_with(step.open()?, options);
        archive.map_err(|e| step.failed(e))
    }

    /// All that a step is coded against, for who opens its file otherwise than [`open_step`](Self::open_step) does.
    ///
    /// # Errors
    /// As [`open_step`](Self::open_step).
    pub fn base_of(&self, number: u64) -> Result<Base> {
        let mut base = Base::new();
        for needed in self.needs(self.step(number)?)? {
            needed.add_to(&mut base)?;
        }
        Ok(base)
    }

    /// A step as a base, with all that it is coded against.
    fn base(&self, step: &Step) -> Result<Base> {
        let mut base = self.base_of(step.number)?;
        step.add_to(&mut base)?;
        Ok(base)
    }

    /// The steps that one can't be restored without, each after those that it needs itself.
    fn needs<'a>(&'a self, step: &'a Step) -> Result<Vec<&'a Step>> {
        let mut found = vec![step];
        let mut next = 0;
        while let Some(&step) = found.get(next) {
            if let Some(missing) = step.missing.first() {
                return Err(Error::argument(format!(
                    "step {} needs {missing}, which is not in the store; put it there, or make the step stand alone with wz rebase",
                    step.number
                )));
            }
            for &number in &step.bases {
                if found.iter().all(|known| known.number != number) {
                    found.push(self.step(number)?);
                }
            }
            next += 1;
        }
        found.remove(0);
        found.sort_by_key(|step| step.depth);
        Ok(found)
    }
}

impl Step {
    fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| self.failed(Error::io("can't open", e)))
    }

    fn add_to(&self, base: &mut Base) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        base.add(&name, self.open()?).map_err(|e| self.failed(e))
    }

    fn failed(&self, error: Error) -> Error {
        store::in_file(&self.path, &error)
    }
}
