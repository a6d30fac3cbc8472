//! Tensors are rounded between reading and coding, as the rules say.

use super::batch::{Batch, Cut};
use super::stages::{Stage, Timers};
use crate::container::losses::Losses;
use crate::error::{Error, Result};
use crate::lossy::{Account, Part, Rules, round_part};
use crate::options::Options;
use crate::plan;
use crate::runner::try_fill;
use rayon::ThreadPool;
use std::convert::Infallible;
use std::sync::OnceLock;

/// Fed with the source in order.
pub(super) struct Rounder {
    account: Account,
    /// Of the source.
    whole: blake3::Hasher,
}

impl Rounder {
    /// `None` if there are no rules.
    pub(super) fn new(options: &Options, segments: &mut [plan::Segment]) -> Result<Option<Self>> {
        if options.lossy.is_empty() {
            return Ok(None);
        }
        if options.losses.is_some() {
            return Err(Error::argument(
                "this was rounded before; what is lost can only be told of one rounding, so start from the source",
            ));
        }
        let account = Account::open(&options.lossy, segments)?;
        Ok(Some(Self { account, whole: blake3::Hasher::new() }))
    }

    /// Hashes what was read, and rounds it.
    pub(super) fn round(&mut self, batch: &mut Batch, pool: Option<&ThreadPool>, timers: &Timers) {
        let mut work = |in_pool| {
            timers.time(Stage::Hash, || self.hash(batch, in_pool));
            timers.time(Stage::Encode, || self.round_in(batch, in_pool));
        };
        match pool {
            None => work(false),
            Some(pool) => pool.install(|| work(true)),
        }
    }

    fn hash(&mut self, batch: &Batch, in_pool: bool) {
        let data = &batch.buffer[..batch.len()];
        match in_pool {
            true => self.whole.update_rayon(data),
            false => self.whole.update(data),
        };
    }

    fn round_in(&mut self, batch: &mut Batch, in_pool: bool) {
        let len = batch.len();
        let (parts, data) = (&batch.parts, &mut batch.buffer[..len]);
        // Sums are made block by block, in order: they do not depend on threads.
        let cuts: Vec<(&Cut, OnceLock<Vec<Part>>)> =
            batch.blocks.iter().map(|cut| (cut, OnceLock::new())).collect();
        let round = |(cut, found): &(&Cut, OnceLock<Vec<Part>>), data: &mut [u8]| {
            let rounding = &parts[cut.part].shared.plan.rounding;
            found.get_or_init(|| round_part(rounding, cut.start, data));
            Ok::<_, Infallible>(())
        };
        let Ok(()) = try_fill(&cuts, data, in_pool, &|(cut, _)| cut.bytes.start as u64, &round);
        for (_, found) in cuts {
            self.account.add(&found.into_inner().unwrap_or_default());
        }
    }

    /// What was lost.
    pub(super) fn finish(self, rules: &Rules) -> Result<Losses> {
        self.account.close(rules, *self.whole.finalize().as_bytes())
    }
}
