//! Chains: checkpoints in a folder, each coded against the one before.
//!
//! A store is a folder of ordinary `.wz` files, each named by its checkpoint: the last number in the name is its
//! step. Which one is coded against which is read from the files themselves. The file [`MARK`] marks the folder and names
//! its steps: no other file is ever removed, nor a step that another `.wz` of the folder needs. Whoever
//! changes a store locks its folder, and the names in it change when a file is complete, so that a crash leaves the
//! store as it was before or as it was meant to be. A step that can't be read is left alone, and nothing is coded against it.
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
mod lock;
mod mark;
mod prune;
mod store;

pub use crate::base::MAX_DEPTH;
pub use add::{AddOptions, Added};
pub use lock::Lock;
pub use mark::MARK;
pub use prune::{Held, Plan, PruneOptions};
pub use store::step_of;

use crate::archive::Archive;
use crate::base::Base;
use crate::container::footer::Info;
use crate::error::{Error, Kind, Result};
use crate::options::DecodeOptions;
use crate::output::{folder_of, sync_folder};
use mark::Mark;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A store, as its folder was when it was last read.
#[derive(Clone, Debug)]
pub struct Chain {
    folder: PathBuf,
    is_marked: bool,
    contents: store::Contents,
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

/// A step that can't be read, or restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The number in its name.
    pub number: u64,
    /// Its `.wz`.
    pub path: PathBuf,
    /// The kind of error that is met.
    pub kind: Kind,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} can't be restored: {}", self.number, self.why)
    }
}

impl Damaged {
    fn new(number: u64, path: &Path, why: &Error) -> Self {
        let (kind, text) = (why.kind(), why.to_string());
        let why = text.strip_prefix(&format!("{kind}: ")).unwrap_or(&text).to_owned();
        Self { number, path: path.to_owned(), kind, why }
    }

    /// The error that says so.
    pub fn error(&self) -> Error {
        Error::new(self.kind, self.to_string())
    }
}

impl Step {
    /// A step that isn't linked yet.
    fn new(number: u64, path: PathBuf, info: Info) -> Self {
        Self { number, path, bases: Vec::new(), missing: Vec::new(), depth: 0, info }
    }

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
    /// Opens the store in a folder; reads the directory of each `.wz`. Without a [mark](Self::is_marked) each one whose name
    /// has a number counts as a step, to be listed and read.
    ///
    /// # Errors
    /// [`Io`](crate::Kind::Io) if it can't be read, [`InvalidArgument`](crate::Kind::InvalidArgument) if two files
    /// are the same step, and if the mark can't be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let mark = Mark::load(folder)?;
        let contents = store::read(folder, mark.as_ref())?;
        Ok(Self { folder: folder.to_owned(), is_marked: mark.is_some(), contents })
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

    /// Takes files of the folder, such as those of an earlier version, as steps, and marks it.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if a name has no number, or that of another step; and what
    /// [`Archive::open`] reports of one. The store is as it was then.
    pub fn adopt(&mut self, names: &[&str]) -> Result<()> {
        let _lock = Lock::take(&self.folder)?;
        let mut mark = Mark::load(&self.folder)?.unwrap_or_else(Mark::new);
        for name in names {
            step_of(name)?;
            let path = self.folder.join(name);
            let file = File::open(&path).map_err(|e| Error::io("can't open", e));
            let archive = file.and_then(Archive::open).map_err(|e| store::in_file(&path, &e))?;
            if !name.ends_with(".wz") {
                return Err(Error::argument(format!("{name} has to end in .wz to be a step")));
            }
            mark.add(name, &archive.info().blake3);
        }
        let contents = store::read(&self.folder, Some(&mark))?;
        mark.save(&self.folder, None)?;
        (self.contents, self.is_marked) = (contents, true);
        Ok(())
    }

    /// Reads the folder again, with the mark that it has now.
    fn read_again(&mut self, mark: &Mark) -> Result<()> {
        self.contents = store::read(&self.folder, Some(mark))?;
        self.is_marked = true;
        Ok(())
    }

    /// Whether the folder is marked as a store: the first [`add`](Self::add) does that, or [`adopt`](Self::adopt).
    pub fn is_marked(&self) -> bool {
        self.is_marked
    }

    /// Steps whose files can't be read.
    pub fn damaged(&self) -> &[Damaged] {
        &self.contents.damaged
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.contents.steps
    }

    /// The step of a number.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if there is none.
    pub fn step(&self, number: u64) -> Result<&Step> {
        if let Some(damaged) = self.damaged().iter().find(|damaged| damaged.number == number) {
            return Err(damaged.error());
        }
        let found = self.steps().binary_search_by_key(&number, |step| step.number);
        let found = found.map_err(|_| Error::argument(format!("there is no step {number}")))?;
        Ok(&self.steps()[found])
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
                return Err(self.lacks(step.number, missing));
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

    /// That a step needs a file which is no step, or damaged.
    fn lacks(&self, number: u64, missing: &str) -> Error {
        let file = format!("{}.wz", missing.strip_suffix(".wz").unwrap_or(missing));
        let is_it = |damaged: &&Damaged| damaged.path.file_name() == Some(file.as_ref());
        match self.damaged().iter().find(is_it) {
            Some(damaged) => {
                Error::corrupt(format!("step {number} needs {missing}: {}", damaged.why))
            }
            None => Error::argument(format!(
                "step {number} needs {missing}, which is no step of the store; put it there, or make the step stand alone with wz rebase"
            )),
        }
    }

    /// Restores a step, to nowhere; says what is wrong with it, if anything is.
    fn damage_of(&self, number: u64) -> Option<Damaged> {
        let step = self.step(number).ok()?;
        let restore = || {
            let options = DecodeOptions { base: self.base_of(number)?, ..DecodeOptions::default() };
            let archive = Archive::open_with(step.open()?, options)?;
            let restored = io::copy(&mut archive.reader(), &mut io::sink());
            restored.map_err(|e| e.downcast().unwrap_or_else(|e| Error::io("can't read", e)))
        };
        restore().err().map(|why| Damaged::new(number, &step.path, &why))
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
