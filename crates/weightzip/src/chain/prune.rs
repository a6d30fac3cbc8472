//! Steps that go, without a later one breaking.

use super::add::check_depth;
use super::coding::Coding;
use super::store::{Lock, read};
use super::{Chain, graph};
use crate::error::{Error, Result};
use crate::options::{Level, Options, Progress};
use crate::output;
use std::fs;

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
}

impl Chain {
    /// What [`prune`](Self::prune) would do with the steps as they were last read.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the options say nothing, or name a step that isn't there;
    /// or if a step that stays needs what isn't in the store.
    pub fn plan(&self, options: &PruneOptions) -> Result<Plan> {
        check_depth(options.max_depth)?;
        let goes = self.goes(options)?;
        for (step, _) in self.steps.iter().zip(&goes).filter(|(_, goes)| !**goes) {
            self.needs(step)?;
        }
        let place = |number| self.steps.iter().position(|step| step.number == number);
        let places = self.steps.iter().map(|s| s.bases.iter().copied().filter_map(place));
        let mut bases = places.map(Iterator::collect).collect();
        let number = |place: usize| self.steps[place].number;
        let rebases = graph::rebases(&mut bases, &goes, options.max_depth);
        let rebase = rebases.into_iter().map(|(step, base)| (number(step), base.map(number)));
        let depths = graph::depths(&bases).unwrap_or_default();
        let mut remove: Vec<usize> = (0..goes.len()).filter(|&step| goes[step]).collect();
        remove.sort_by_key(|&step| std::cmp::Reverse((depths[step], step)));
        Ok(Plan { rebase: rebase.collect(), remove: remove.into_iter().map(number).collect() })
    }

    /// Which steps go.
    fn goes(&self, options: &PruneOptions) -> Result<Vec<bool>> {
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
        let last = self.steps.len().saturating_sub(keep_last.unwrap_or(1));
        let goes = self.steps.iter().enumerate().map(|(i, step)| {
            let kept = i >= last || keep_every.is_some_and(|every| step.number % every == 0);
            by_rule && !kept || remove.contains(&step.number)
        });
        Ok(goes.collect())
    }

    /// Removes steps. One that stays and is coded against one that goes is first coded against the nearest earlier one
    /// that stays and isn't too deep, or alone, as [`add`](Self::add) would do it, read back and replaced. Then only do the others go, one by one.
    /// Wherever that is stopped, each step that is there can be restored, and pruning again does the rest.
    ///
    /// Returns what was done. Reads the folder anew; leftovers of a crash go.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), [`Io`](crate::Kind::Io), also while another process changes the store, and
    /// what [`Archive`](crate::Archive) reports of steps that get another base.
    pub fn prune(&mut self, options: &PruneOptions) -> Result<Plan> {
        let lock = Lock::take(&self.folder)?;
        lock.clean(&self.folder);
        self.steps = read(&self.folder)?;
        let mut plan = self.plan(options)?;
        for (number, base) in &mut plan.rebase {
            self.rebase(*number, *base, options)?;
            self.steps = read(&self.folder)?;
            *base = self.step(*number)?.bases.last().copied();
        }
        let left = self.steps.iter().filter(|step| !plan.remove.contains(&step.number));
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
        self.steps = read(&self.folder)?;
        Ok(plan)
    }

    /// Codes a step against another base, or none, in its place.
    fn rebase(&self, number: u64, base: Option<u64>, options: &PruneOptions) -> Result<()> {
        let step = self.step(number)?;
        let archive = self.open_step(number)?;
        let metadata = fs::metadata(&step.path);
        let metadata = metadata.map_err(|e| step.failed(Error::io("can't open", e)))?;
        let coding = Coding {
            target: &step.path,
            options: Options {
                level: Level::from_name(&step.info.level).unwrap_or_default(),
                threads: options.threads,
                sha256: step.info.sha256.is_some(),
                layout: Some(archive.layout()?),
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
