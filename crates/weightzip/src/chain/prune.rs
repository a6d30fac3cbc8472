//! Steps that go, without a later one breaking.

use super::add::check_depth;
use super::coding::Coding;
use super::lock::Lock;
use super::mark::{MARK, Mark};
use super::store::Dependent;
use super::{Chain, Damaged, Step, graph};
use crate::archive::Archive;
use crate::container::directory::Hash;
use crate::error::{Error, Result};
use crate::options::{Level, Options, Progress};
use crate::output;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Choices for [`Chain::prune`]: which steps stay, and how the others go.
#[derive(Clone)]
pub struct PruneOptions {
    /// So many of the last steps stay. With this or [`keep_every`](Self::keep_every), what neither of them keeps goes,
    /// but for the last step.
    pub keep_last: Option<usize>,
    /// Steps whose number is a multiple of this stay.
    pub keep_every: Option<u64>,
    /// Steps that go whatever else is said.
    pub remove: Vec<u64>,
    /// How many steps may be needed, one behind the other, to restore one that gets another base: at most
    /// [`MAX_DEPTH`](super::MAX_DEPTH), 16 by default; or as many as before.
    pub max_depth: usize,
    /// Worker threads; 0 means one per core.
    pub threads: usize,
    /// Told of every finished piece of the steps that get another base: as each is coded, then as it is read back.
    pub progress: Option<Progress>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        let (keep_last, keep_every, remove) = (None, None, Vec::new());
        Self { keep_last, keep_every, remove, max_depth: 16, threads: 0, progress: None }
    }
}

/// What pruning does, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps that stay and get another base, or none.
    pub rebase: Vec<(u64, Option<u64>)>,
    /// Steps that go, each before those that it is coded against.
    pub remove: Vec<u64>,
    /// Steps that should go, and stay.
    pub held: Vec<Held>,
    /// Steps that can't be restored: they stay, and so does what they might need.
    pub damaged: Vec<Damaged>,
}

/// A step that should go, and stays since something needs it, or might.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The step.
    pub number: u64,
    /// What needs it.
    pub by: PathBuf,
}

impl Chain {
    /// What [`prune`](Self::prune) would do with the steps as they were last read.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the folder has no [mark](Self::is_marked), the options say nothing, or
    /// name a step that isn't there.
    pub fn plan(&self, options: &PruneOptions) -> Result<Plan> {
        match self.is_marked() {
            true => self.plan_around(options, &[]),
            false => Err(self.unmarked()),
        }
    }

    fn unmarked(&self) -> Error {
        Error::argument(format!(
            "{} has no {MARK}, so nothing says which files are steps; name them with wz chain adopt",
            self.folder.display()
        ))
    }

    /// The same, with steps whose damage was found when they were to be restored.
    fn plan_around(&self, options: &PruneOptions, found: &[Damaged]) -> Result<Plan> {
        check_depth(options.max_depth)?;
        let steps = self.steps();
        let is_found = |number| found.iter().any(|damaged| damaged.number == number);
        let restores = |step: &Step| {
            !is_found(step.number)
                && self
                    .needs(step)
                    .is_ok_and(|needs| !needs.iter().any(|step| is_found(step.number)))
        };
        let whole: Vec<bool> = steps.iter().map(restores).collect();
        let place = |number| steps.iter().position(|step| step.number == number);
        let places = steps.iter().map(|s| s.bases.iter().copied().filter_map(place));
        let mut bases: graph::Bases = places.map(Iterator::collect).collect();
        let mut goes = self.goes(options, &whole)?;
        let held = self.hold(&mut goes, &whole, &bases)?;
        let number = |place: usize| steps[place].number;
        let rebases = graph::rebases(&mut bases, &goes, &whole, options.max_depth);
        let rebase = rebases.into_iter().map(|(step, base)| (number(step), base.map(number)));
        let depths = graph::depths(&bases).unwrap_or_default();
        let mut remove: Vec<usize> = (0..goes.len()).filter(|&step| goes[step]).collect();
        remove.sort_by_key(|&step| std::cmp::Reverse((depths[step], step)));
        Ok(Plan {
            rebase: rebase.collect(),
            remove: remove.into_iter().map(number).collect(),
            held,
            damaged: [self.damaged(), found].concat(),
        })
    }

    /// Which steps should go. Of the last ones that stay, those count that can be restored.
    fn goes(&self, options: &PruneOptions, whole: &[bool]) -> Result<Vec<bool>> {
        let PruneOptions { keep_last, keep_every, remove, .. } = options;
        let by_rule = keep_last.is_some() || keep_every.is_some();
        if !by_rule && remove.is_empty() {
            return Err(Error::argument("nothing says which steps stay, or go"));
        }
        if *keep_last == Some(0) || *keep_every == Some(0) {
            return Err(Error::argument("what stays can't be counted by 0; name steps to remove"));
        }
        for &number in remove {
            self.step(number)?;
        }
        let mut last = (0..whole.len()).rev().filter(|&i| whole[i]);
        let last = last.nth(keep_last.unwrap_or(1) - 1).unwrap_or(0);
        let goes = self.steps().iter().enumerate().map(|(i, step)| {
            let kept = i >= last || keep_every.is_some_and(|every| step.number % every == 0);
            by_rule && !kept || remove.contains(&step.number)
        });
        Ok(goes.collect())
    }

    /// Lets those steps stay that are needed, or may be: by files that are no steps, and by steps that can't be
    /// coded anew since they can't be restored. Returns which, and for what.
    fn hold(&self, goes: &mut [bool], whole: &[bool], bases: &graph::Bases) -> Result<Vec<Held>> {
        let (steps, mut held) = (self.steps(), Vec::new());
        loop {
            let wanted = self.wanted(goes);
            let mut by = Vec::new();
            for (i, step) in steps.iter().enumerate().filter(|(i, _)| goes[*i]) {
                let broken =
                    |&other: &usize| !goes[other] && !whole[other] && graph::needs(bases, other, i);
                let broken = (0..steps.len()).find(broken).map(|other| steps[other].path.clone());
                by.push((i, broken.map_or_else(|| wanted.holds(step), |path| Ok(Some(path)))?));
            }
            let before = held.len();
            for (i, by) in by.into_iter().filter_map(|(i, by)| Some((i, by?))) {
                goes[i] = false;
                held.push(Held { number: steps[i].number, by });
            }
            if held.len() == before {
                return Ok(held);
            }
        }
    }

    /// What is needed by files that stay, and don't say which steps that is.
    fn wanted(&self, goes: &[bool]) -> Wanted<'_> {
        let mut wanted = Wanted::default();
        let place = |number| self.steps().iter().position(|step| step.number == number);
        for dependent in &self.contents.dependents {
            if dependent.number.and_then(place).is_some_and(|place| goes[place]) {
                continue;
            }
            match &dependent.tensors {
                Some(tensors) => {
                    wanted.tensors.extend(tensors.iter().map(|&hash| (hash, &dependent.path)))
                }
                None => wanted.unknown.push(dependent),
            }
        }
        wanted
    }

    /// Removes steps. One that stays and is coded against one that goes is first coded against the nearest earlier one
    /// that stays and isn't too deep, or alone, as [`add`](Self::add) would do it, read back and replaced. Then only do the others go, one by one.
    /// Wherever that is stopped, each step that is there can be restored, and pruning again does the rest.
    ///
    /// Files that the store's mark doesn't name stay, and so do steps that any `.wz` of the folder needs. What can't be
    /// restored stays, with all that it might need.
    ///
    /// Returns what was done. Reads the folder anew; leftovers of a crash go.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), and [`Io`](crate::Kind::Io), also while another process changes the store.
    pub fn prune(&mut self, options: &PruneOptions) -> Result<Plan> {
        let lock = Lock::take(&self.folder)?;
        lock.clean(&self.folder);
        let mark = Mark::load(&self.folder)?.ok_or_else(|| self.unmarked())?;
        self.read_again(&mark)?;
        let (mut done, mut found) = (Vec::new(), Vec::new());
        let mut plan = self.plan_around(options, &found)?;
        while let Some(&(number, base)) = plan.rebase.first() {
            match self.rebase(number, base, options) {
                Ok(()) => {
                    self.read_again(&mark)?;
                    done.push((number, self.step(number)?.bases.last().copied()));
                }
                Err(error) => {
                    let damaged = base.into_iter().chain([number]).find_map(|n| self.damage_of(n));
                    found.push(damaged.ok_or(error)?);
                }
            }
            plan = self.plan_around(options, &found)?;
        }
        plan.rebase = done;
        let left = self.steps().iter().filter(|step| !plan.remove.contains(&step.number));
        let needs = |number| plan.remove.contains(number);
        if let Some(step) = left.into_iter().find(|step| step.bases.iter().any(needs)) {
            let number = step.number;
            return Err(Error::argument(format!(
                "step {number} still needs one that would go; nothing was removed, make it stand alone with wz rebase"
            )));
        }
        for number in &plan.remove {
            output::remove(&self.step(*number)?.path)?;
        }
        self.read_again(&mark)?;
        Ok(plan)
    }

    /// Codes a step against another base, or none, in its place.
    fn rebase(&self, number: u64, base: Option<u64>, options: &PruneOptions) -> Result<()> {
        let step = self.step(number)?;
        let archive = Arc::new(self.open_step(number)?);
        let metadata = fs::metadata(&step.path);
        let metadata = metadata.map_err(|e| step.failed(Error::io("can't open", e)))?;
        let coding = Coding {
            target: &step.path,
            options: Options {
                level: Level::from_name(&step.info.level).unwrap_or_default(),
                threads: options.threads,
                sha256: step.info.sha256.is_some(),
                layout: Some(archive.layout()?),
                source: Some(Arc::clone(&archive) as _),
                losses: step.info.losses.clone(),
                progress: options.progress.clone(),
                ..Options::default()
            },
            like: Some(&metadata),
        };
        let against = base.map(|base| self.against(self.step(base)?)).transpose()?;
        let written = coding.write(archive.reader(), against.as_ref());
        let (output, summary) = written.map_err(|e| step.failed(e))?;
        if summary.blake3 != step.info.blake3 {
            let differs = Error::corrupt("what it decodes to has another hash than it states");
            return Err(step.failed(differs));
        }
        output.commit(true)
    }
}

/// What files need that don't say which steps have it.
#[derive(Default)]
struct Wanted<'a> {
    /// Tensors, by their BLAKE3, and a file that needs each.
    tensors: HashMap<Hash, &'a PathBuf>,
    /// Files that can't be read, and may need any.
    unknown: Vec<&'a Dependent>,
}

impl Wanted<'_> {
    /// A file that needs a step, or may.
    fn holds(&self, step: &Step) -> Result<Option<PathBuf>> {
        let may_be = |dependent: &&&Dependent| dependent.number.is_none_or(|n| step.number < n);
        if let Some(unknown) = self.unknown.iter().find(may_be) {
            return Ok(Some(unknown.path.clone()));
        }
        if self.tensors.is_empty() {
            return Ok(None);
        }
        let archive = Archive::open(step.open()?).map_err(|e| step.failed(e))?;
        let by = archive.tensors().find_map(|tensor| self.tensors.get(&tensor.blake3()));
        Ok(by.map(|by| (*by).clone()))
    }
}
