//! A new step.

use super::coding::{Against, Coding, Nearer};
use super::lock::Lock;
use super::mark::Mark;
use super::store::step_of;
use super::{Chain, Damaged, MAX_DEPTH, Step};
use crate::container::footer::Info;
use crate::error::{Error, Result};
use crate::formats::Layout;
use crate::lossy::Rules;
use crate::options::{Level, Options, Progress};
use crate::output::Output;
use crate::pipeline::Summary;
use crate::source::{FromStart, Source};
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

/// What a new step may be coded against.
struct Pick<'a> {
    base: &'a Step,
    /// What it is coded against if that is much smaller; and what a step takes by such a base: bytes coded, of so many.
    nearer: Option<(&'a Step, (u64, u64))>,
}

/// What [`Chain::add`] did.
pub struct Added {
    /// What was written.
    pub summary: Summary,
    /// What it would have been coded against, but for its damage: so it stands alone.
    pub damaged: Option<Damaged>,
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
    /// deep, twice. The first one marks the folder as a store; other `.wz` files that are there are left alone.
    ///
    /// If the base is damaged, it stands alone, too. Damage that is only seen when it is coded takes the checkpoint again: that is
    /// an error without [`source`](AddOptions::source), of kind [`Corruption`](crate::Kind::Corruption).
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Kind::InvalidArgument) if the name has no number, or one that isn't beyond those of all steps;
    /// [`Io`](crate::Kind::Io), also while another process changes the store; and what [`Archive`](crate::Archive)
    /// reports of the last step. The store is as it was then.
    pub fn add(&mut self, name: &str, reader: impl Read, options: &AddOptions) -> Result<Added> {
        check_depth(options.max_depth)?;
        let number = step_of(name)?;
        let lock = Lock::take(&self.folder)?;
        lock.clean(&self.folder);
        let mut mark = Mark::load(&self.folder)?.unwrap_or_else(Mark::new);
        self.read_again(&mark)?;
        self.check_new(number)?;
        let suffix = if options.lossy.is_empty() { ".wz" } else { ".lossy.wz" };
        let file = format!("{name}{suffix}");
        let target = self.folder.join(&file);
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
        let (output, summary, damaged) = self.code(&coding, reader, options)?;
        // Before it has its name: a name without a file does no harm, a step that isn't known would.
        mark.add(&file, &summary.blake3);
        mark.save(&self.folder, Some(&file))?;
        output.commit(false)?;
        self.read_again(&mark)?;
        Ok(Added { summary, damaged })
    }

    /// Codes a checkpoint against what is best, or alone if that is damaged.
    fn code(
        &self,
        coding: &Coding<'_>,
        mut reader: impl Read,
        options: &AddOptions,
    ) -> Result<(Output, Summary, Option<Damaged>)> {
        let alone = |reader: &mut dyn Read, damaged| {
            let (output, summary) = coding.write(reader, None)?;
            Ok((output, summary, Some(damaged)))
        };
        if let Some(damaged) = self.newest_is_damaged() {
            return alone(&mut reader, damaged.clone());
        }
        let Some(pick) = self.pick(options) else {
            let (output, summary) = coding.write(reader, None)?;
            return Ok((output, summary, None));
        };
        let against = match self.against_picked(&pick) {
            Ok(against) => against,
            Err(why) => {
                return alone(&mut reader, Damaged::new(pick.base.number, &pick.base.path, &why));
            }
        };
        let error = match coding.write(reader, Some(&against)) {
            Ok((output, summary)) => return Ok((output, summary, None)),
            Err(error) => error,
        };
        let bases = [Some(pick.base), pick.nearer.map(|(near, _)| near)];
        let damaged = bases.into_iter().flatten().find_map(|base| self.damage_of(base.number));
        match (damaged, &options.source) {
            (None, _) => Err(error),
            (Some(damaged), Some(source)) => alone(&mut FromStart::new(&**source), damaged),
            (Some(damaged), None) => Err(Error::corrupt(format!(
                "{damaged}; add this one as a keyframe, which doesn't need that step"
            ))),
        }
    }

    /// The damaged step that is beyond all others, if there is one.
    fn newest_is_damaged(&self) -> Option<&Damaged> {
        let newest = self.steps().last().map(|step| step.number);
        self.damaged().last().filter(|damaged| newest.is_none_or(|newest| damaged.number > newest))
    }

    /// What a new step may be coded against.
    fn pick(&self, options: &AddOptions) -> Option<Pick<'_>> {
        let steps = self.steps();
        let deltas = steps.iter().rev().take_while(|step| !step.is_keyframe()).count();
        let is_due = options.keyframe_every != 0 && deltas + 1 >= options.keyframe_every;
        let last = steps.last().filter(|_| !is_due)?;
        let may_be_base = |step: &Step| step.depth < options.max_depth;
        let group = &steps[steps.len().saturating_sub(deltas + 1)..];
        let far = if options.shallow { further_back(group) } else { None };
        let Some((far, near_step)) = far.filter(|(far, _)| may_be_base(far)) else {
            return may_be_base(last).then_some(Pick { base: last, nearer: None });
        };
        let info = &near_step.info;
        let size = (info.compressed_bytes, info.original_bytes);
        Some(Pick { base: far, nearer: may_be_base(last).then_some((last, size)) })
    }

    fn against_picked(&self, pick: &Pick<'_>) -> Result<Against<'_>> {
        let mut against = self.against(pick.base)?;
        if let Some((near, size)) = pick.nearer {
            against.nearer = Some(Nearer { base: self.base(near)?, size });
        }
        Ok(against)
    }

    fn check_new(&self, number: u64) -> Result<()> {
        let whole = self.steps().iter().map(|step| step.number);
        let numbers = whole.chain(self.damaged().iter().map(|damaged| damaged.number));
        let Some(last) = numbers.clone().max().filter(|&last| number <= last) else {
            return Ok(());
        };
        Err(Error::argument(match numbers.clone().any(|known| known == number) {
            true => format!("step {number} is there already; add one beyond {last}"),
            false => {
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
