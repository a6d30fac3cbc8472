//! A new step.

use super::coding::{Against, Coding, Nearer};
use super::store::{Lock, read, step_of};
use super::{Chain, MAX_DEPTH, Step};
use crate::container::footer::Info;
use crate::error::{Error, Result};
use crate::formats::Layout;
use crate::lossy::Rules;
use crate::options::{Level, Options, Progress};
use crate::pipeline::Summary;
use crate::source::Source;
use std::fs::{self, Metadata};
use std::io::Read;
use std::sync::Arc;

/// Choices for [`Chain::add`].
#[derive(Clone)]
pub struct AddOptions {
    /// How hard to try.
    pub level: Level,
    /// Worker threads; 0 means one per core. The result does not depend on it.
    pub threads: usize,
    /// The checkpoint again, if it can be read at random, too (see [`Options::source`]).
    pub source: Option<Arc<dyn Source + Send>>,
    /// What [`scan`](crate::scan) found in the checkpoint, if it could be read at random
    /// (see [`Options::layout`]).
    pub layout: Option<Layout>,
    /// How tensors may be rounded: not at all without a rule. Each step is rounded from the checkpoint itself, so
    /// that errors don't add up.
    pub lossy: Rules,
    /// Store the original's SHA-256 too.
    pub sha256: bool,
    /// Of so many steps one stands alone; 0: only where it must. 16 by default.
    pub keyframe_every: usize,
    /// How many steps may be needed, one behind the other, to restore the new one: at most [`MAX_DEPTH`].
    pub max_depth: usize,
    /// Code a step against one further back than the last where that costs little, so that fewer are needed to restore it.
    pub shallow: bool,
    /// A file, such as the checkpoint, whose mode and modification time the step gets.
    pub like: Option<Metadata>,
    /// Told of every finished piece: first as it is coded, then as it is read back.
    pub progress: Option<Progress>,
}

impl Default for AddOptions {
    fn default() -> Self {
        Self {
            level: Level::Default,
            threads: 0,
            source: None,
            layout: None,
            lossy: Rules::default(),
            sha256: false,
            keyframe_every: 16,
            max_depth: MAX_DEPTH,
            shallow: false,
            like: None,
            progress: None,
        }
    }
}

impl Chain {
    /// Adds a checkpoint, `name.wz` (`name.lossy.wz` if it may be rounded), as the last step, coded against the one that was the last.
    ///
    /// If it is to be [`shallow`](AddOptions::shallow), step `i` behind a keyframe is coded against step `i & (i - 1)`: of `n` steps
    /// none needs more than log2(n) others. If it is more than a sixteenth larger by that than the latest step that is coded
    /// against the one before it, it is coded against the last one after all, and so are those that follow, up to the next keyframe.
    ///
    /// It stands alone if it is the first, if [`keyframe_every`](AddOptions::keyframe_every) or
    /// [`max_depth`](AddOptions::max_depth) say so, or if its base makes it less than a 32nd smaller. To see that,
    /// it is coded alone, too, unless it takes a 32nd less, for its size, than the keyframe it leads to. The file gets its name when it is on
    /// disk and was decoded again. Reads the folder anew; leftovers of a crash go. Decodes as many steps as it is
    /// deep, twice.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the name has no number, or one that isn't beyond those of all steps;
    /// [`Io`](crate::Kind::Io), also while another process changes the store; and what [`Archive`](crate::Archive)
    /// reports of the last step. The store is as it was then.
    pub fn add(&mut self, name: &str, reader: impl Read, options: &AddOptions) -> Result<Summary> {
        check_depth(options.max_depth)?;
        let number = step_of(name)?;
        let lock = Lock::take(&self.folder)?;
        lock.clean(&self.folder);
        self.steps = read(&self.folder)?;
        self.check_new(number)?;
        let suffix = if options.lossy.is_empty() { ".wz" } else { ".lossy.wz" };
        let target = self.folder.join(format!("{name}{suffix}"));
        if fs::symlink_metadata(&target).is_ok() {
            let target = target.display();
            return Err(Error::argument(format!("{target} is there already, and is no step")));
        }
        let coding = Coding {
            target: &target,
            options: Options {
                level: options.level,
                threads: options.threads,
                source: options.source.clone(),
                layout: options.layout.clone(),
                lossy: options.lossy.clone(),
                sha256: options.sha256,
                progress: options.progress.clone(),
                ..Options::default()
            },
            like: options.like.as_ref(),
        };
        let against = self.against_for(options)?;
        let (output, summary) = coding.write(reader, against.as_ref())?;
        output.commit(false)?;
        self.steps = read(&self.folder)?;
        Ok(summary)
    }

    /// What a new step may be coded against.
    fn against_for(&self, options: &AddOptions) -> Result<Option<Against<'_>>> {
        let deltas = self.steps.iter().rev().take_while(|step| !step.is_keyframe()).count();
        let is_due = options.keyframe_every != 0 && deltas + 1 >= options.keyframe_every;
        let Some(last) = self.steps.last().filter(|_| !is_due) else { return Ok(None) };
        let may_be_base = |step: &Step| step.depth < options.max_depth;
        let group = &self.steps[self.steps.len().saturating_sub(deltas + 1)..];
        let far = if options.shallow { further_back(group) } else { None };
        let Some((far, near_step)) = far.filter(|(far, _)| may_be_base(far)) else {
            return may_be_base(last).then(|| self.against(last)).transpose();
        };
        let mut against = self.against(far)?;
        if may_be_base(last) {
            let info = &near_step.info;
            let size = (info.compressed_bytes, info.original_bytes);
            against.nearer = Some(Nearer { base: self.base(last)?, size });
        }
        Ok(Some(against))
    }

    fn check_new(&self, number: u64) -> Result<()> {
        let Some(last) = self.steps.last().filter(|last| number <= last.number) else {
            return Ok(());
        };
        let last = last.number;
        Err(Error::argument(match self.step(number) {
            Ok(_) => format!("step {number} is there already; add one beyond {last}"),
            Err(_) => {
                format!(
                    "step {number} is not beyond the last one; add steps in order, from {last} on"
                )
            }
        }))
    }

    pub(super) fn against(&self, step: &Step) -> Result<Against<'_>> {
        Ok(Against { base: self.base(step)?, keyframe: self.keyframe(step)?, nearer: None })
    }

    /// The keyframe that a step leads to.
    fn keyframe(&self, step: &Step) -> Result<&Info> {
        let mut at = self.step(step.number)?;
        while let Some(&base) = at.bases.last() {
            at = self.step(base)?;
        }
        Ok(&at.info)
    }
}

/// Of a keyframe and the steps behind it, the one that a shallow step would be coded against, unless that is the last; and
/// the latest that is coded against the one before it. Nothing if the last one had too little from such a base.
///
/// Step `i` is coded against `i` without its lowest bit, which is how far back that is. What comes next carries: as far as the
/// bits are those from 1 on, they become the next one. So it goes on when steps at the front are pruned.
fn further_back(group: &[Step]) -> Option<(&Step, &Step)> {
    let base_of = |i: usize| match group[i].bases[..] {
        [base] => group[..i].iter().rposition(|step| step.number == base),
        _ => None,
    };
    let lowest_bit = |i: usize| base_of(i).map(|base| (i - base).next_power_of_two());
    let last = group.len() - 1;
    let gave_up = lowest_bit(last) == Some(1) && lowest_bit(last - 1) == Some(1);
    let (mut at, mut bit) = (last, 1);
    while let Some(base) = base_of(at).filter(|_| lowest_bit(at) == Some(bit)) {
        (at, bit) = (base, 2 * bit);
    }
    let near = (1..group.len()).rfind(|&i| base_of(i) == Some(i - 1)).filter(|_| !gave_up)?;
    (at < last).then(|| (&group[at], &group[near]))
}

/// Refuses a depth that isn't possible.
pub(super) fn check_depth(max_depth: usize) -> Result<()> {
    match (1..=MAX_DEPTH).contains(&max_depth) {
        true => Ok(()),
        false => Err(Error::argument(format!("the depth must be from 1 to {MAX_DEPTH}"))),
    }
}
