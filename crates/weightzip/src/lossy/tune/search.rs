//! From sizes and scores to rules: the coarsest bound for all, then coarser ones for the groups that bear them.

use super::super::Rules;
use super::groups::Groups;
use super::{Measured, Options, Trial};
use crate::span::TensorInfo;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// How much coarser a group gets at first.
const STRIDE: i32 = 2;

/// A search over the rules for some tensors.
///
/// 1. The original's score.
/// 2. Bisection: the coarsest bound for all tensors that is within tolerance.
/// 3. How sensitive each group is: its score when it alone is two steps coarser, beside the bytes that this saves.
/// 4. One step coarser for all but the group that loses most for a byte, which gets one step finer, as long as that
///    is within tolerance and smaller.
/// 5. Two steps, then one, coarser for one group at a time, by bytes saved per score lost. A group that fails is not
///    tried again.
///
/// Scores needn't be monotonic: what counts at the end is what was measured. The same measures give the same
/// result, and more evaluations go on where fewer have stopped.
pub struct Search {
    groups: Groups,
    /// Positions of the knob, the higher the coarser.
    steps: RangeInclusive<i32>,
    options: Options,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found {
    /// All rules that were tried, in order; the original, which has none, is the first.
    pub trials: Vec<Trial>,
    /// Which of them is the smallest one within tolerance; `None` if that is the original.
    pub best: Option<usize>,
}

impl Found {
    /// The smallest trial within tolerance; `None` if that is the original.
    pub fn best(&self) -> Option<&Trial> {
        self.trials.get(self.best?)
    }
}

/// A bound for each group, as positions of the knob, and one for the rest.
#[derive(Clone)]
struct Setting {
    rest: i32,
    groups: Vec<i32>,
}

/// What loosening a group alone has done.
struct Sensitivity {
    saved: f64,
    lost: f64,
    /// Whether that was within tolerance.
    within: bool,
}

impl Search {
    /// Plans a search over tensors, given with their bytes, from the finest to the coarsest position of the knob:
    /// powers of two for abs, minus the number of bits for rel. [`Model`](super::Model) knows both.
    pub fn new(
        tensors: impl IntoIterator<Item = (TensorInfo, u64)>,
        steps: RangeInclusive<i32>,
        options: Options,
    ) -> Self {
        Self { groups: Groups::of(tensors), steps, options }
    }

    /// How many groups may get bounds of their own.
    pub fn groups(&self) -> usize {
        self.groups.bytes.len()
    }

    /// How many evaluations are likely; never more than were allowed.
    pub fn expected(&self) -> usize {
        let positions = self.steps.clone().count() + 1;
        let bisection = positions.next_power_of_two().trailing_zeros() as usize;
        let groups = if self.groups() > 1 { 3 * self.groups() + 2 } else { 0 };
        (1 + bisection + groups).min(self.options.max_evaluations)
    }

    /// Searches, asking for what must be measured.
    ///
    /// # Errors
    /// What `measure` fails with.
    pub fn run<E>(
        &self,
        measure: &mut dyn FnMut(&Rules) -> Result<Measured, E>,
    ) -> Result<Found, E> {
        let trials = Vec::new();
        let mut run = Run { search: self, measure, trials, known: HashMap::new() };
        if let Some(original) = run.measured(Rules::default())?
            && original.measured.score.is_finite()
            && let Some(step) = run.bisect()?
        {
            run.loosen(step)?;
        }
        let smallest = |(_, trial): &(usize, &Trial)| trial.measured.bytes;
        let within = run.trials.iter().enumerate().filter(|(_, trial)| trial.within);
        let best = within.min_by_key(smallest).map(|(place, _)| place).filter(|place| *place > 0);
        Ok(Found { trials: run.trials, best })
    }

    fn rules(&self, setting: &Setting) -> Rules {
        let knob = self.options.knob;
        let bounds: Vec<_> = setting.groups.iter().map(|step| knob.bound(*step)).collect();
        self.groups.rules(knob.bound(setting.rest), &bounds)
    }

    fn uniform(&self, step: i32) -> Setting {
        Setting { rest: step, groups: vec![step; self.groups()] }
    }

    fn clamp(&self, step: i32) -> i32 {
        step.clamp(*self.steps.start(), *self.steps.end())
    }
}

/// A search that is going on.
struct Run<'a, E> {
    search: &'a Search,
    measure: &'a mut dyn FnMut(&Rules) -> Result<Measured, E>,
    trials: Vec<Trial>,
    /// Trials by their rules.
    known: HashMap<String, usize>,
}

impl<E> Run<'_, E> {
    /// `None` if no evaluation is left.
    fn measured(&mut self, rules: Rules) -> Result<Option<&Trial>, E> {
        let name = rules.to_string();
        if let Some(&place) = self.known.get(&name) {
            return Ok(self.trials.get(place));
        }
        if self.trials.len() >= self.search.options.max_evaluations {
            return Ok(None);
        }
        let measured = (self.measure)(&rules)?;
        let mut trial = Trial { rules, measured, within: false };
        trial.within = self.lost(measured) <= self.most(measured);
        self.known.insert(name, self.trials.len());
        self.trials.push(trial);
        Ok(self.trials.last())
    }

    fn at(&mut self, setting: &Setting) -> Result<Option<&Trial>, E> {
        self.measured(self.search.rules(setting))
    }

    /// How much worse than the original.
    fn lost(&self, measured: Measured) -> f64 {
        let original = self.trials.first().map_or(measured, |trial| trial.measured);
        self.search.options.loss(original.score, measured.score)
    }

    fn most(&self, measured: Measured) -> f64 {
        let original = self.trials.first().map_or(measured, |trial| trial.measured);
        self.search.options.most(original.score)
    }

    /// The coarsest position for all tensors that was within tolerance.
    fn bisect(&mut self) -> Result<Option<i32>, E> {
        let (mut good, mut bad) = (self.search.steps.start() - 1, self.search.steps.end() + 1);
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            match self.at(&self.search.uniform(middle))? {
                Some(trial) if trial.within => good = middle,
                Some(_) => bad = middle,
                None => break,
            }
        }
        Ok(self.search.steps.contains(&good).then_some(good))
    }

    fn loosen(&mut self, step: i32) -> Result<(), E> {
        if self.search.groups() < 2 || step == *self.search.steps.end() {
            return Ok(());
        }
        let Some(sensitivities) = self.sensitivities(step)? else { return Ok(()) };
        let setting = self.balance(step, &sensitivities)?;
        self.one_by_one(step, setting, &sensitivities)
    }

    /// `None` if there were too few evaluations.
    fn sensitivities(&mut self, step: i32) -> Result<Option<Vec<Sensitivity>>, E> {
        let base = self.search.uniform(step);
        let Some(before) = self.at(&base)?.map(|trial| trial.measured) else { return Ok(None) };
        let lost_before = self.lost(before);
        let mut found = Vec::new();
        for group in 0..self.search.groups() {
            let mut coarser = base.clone();
            coarser.groups[group] = self.search.clamp(step + STRIDE);
            let Some((after, within)) = self.at(&coarser)?.map(|t| (t.measured, t.within)) else {
                return Ok(None);
            };
            let lost = self.lost(after) - lost_before;
            let lost = if lost.is_nan() { f64::INFINITY } else { lost };
            let saved = before.bytes as f64 - after.bytes as f64;
            // A little for every group, so that those that lose nothing take turns.
            let least = (self.most(before) / 100.0).max(f64::MIN_POSITIVE);
            found.push(Sensitivity { saved, lost: lost.max(least), within });
        }
        Ok(Some(found))
    }

    /// Makes all coarser but the worst group, which gets finer.
    fn balance(&mut self, step: i32, groups: &[Sensitivity]) -> Result<Setting, E> {
        let mut setting = self.search.uniform(step);
        loop {
            let rates = setting.groups.iter().zip(groups);
            let rates = rates.map(|(now, group)| group.rate(now - step)).enumerate();
            let worst = rates.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place);
            let mut next = setting.clone();
            next.rest = self.search.clamp(setting.rest + 1);
            for (place, now) in next.groups.iter_mut().enumerate() {
                let by = if Some(place) == worst { -1 } else { 1 };
                *now = self.search.clamp(*now + by);
            }
            if !self.improves(&setting, &next)? {
                return Ok(setting);
            }
            setting = next;
        }
    }

    /// Makes one group after the other coarser, those first that save most for what they lose.
    fn one_by_one(
        &mut self,
        step: i32,
        mut setting: Setting,
        groups: &[Sensitivity],
    ) -> Result<(), E> {
        let stride = |group: &Sensitivity| match group.saved > 0.0 {
            true if group.within => STRIDE,
            true => 1,
            false => 0,
        };
        let mut strides: Vec<i32> = groups.iter().map(stride).collect();
        loop {
            let open = (0..groups.len())
                .filter(|&g| strides[g] > 0 && setting.groups[g] < *self.search.steps.end());
            let rate = |&g: &usize| groups[g].rate(setting.groups[g] - step);
            let Some(group) = open.max_by(|a, b| rate(a).total_cmp(&rate(b))) else {
                return Ok(());
            };
            let mut next = setting.clone();
            next.groups[group] = self.search.clamp(setting.groups[group] + strides[group]);
            match self.improves(&setting, &next)? {
                true => setting = next,
                false => strides[group] /= 2,
            }
        }
    }

    /// Whether what is within tolerance stays so, and gets smaller.
    fn improves(&mut self, from: &Setting, to: &Setting) -> Result<bool, E> {
        let before = self.at(from)?.map(|trial| trial.measured.bytes);
        let after = self.at(to)?.filter(|trial| trial.within);
        Ok(after.is_some_and(|after| before.is_some_and(|before| after.measured.bytes < before)))
    }
}

impl Sensitivity {
    /// Bytes that the next step is likely to save for what it loses, so many steps further on: errors grow
    /// fourfold, squared, with each.
    fn rate(&self, steps: i32) -> f64 {
        self.saved / self.lost / 4f64.powi(steps)
    }
}
