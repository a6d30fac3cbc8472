//! `wz chain prune`: steps go, and what is coded against them gets another base.

use crate::args::ChainPrune;
use crate::progress::Bar;
use crate::report::{Status, plain, print_json, say};
use crate::{escape, human};
use anyhow::Result;
use serde::Serialize;
use weightzip::chain::{Chain, Held, Plan, PruneOptions};

/// The JSON object.
#[derive(Serialize)]
struct Pruned {
    command: &'static str,
    dry_run: bool,
    rebased: Vec<Rebased>,
    removed: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<HeldEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<DamagedEntry>,
    /// Bytes of all .wz.
    compressed_before: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    compressed_after: Option<u64>,
}

#[derive(Serialize)]
struct Rebased {
    step: u64,
    base: Option<u64>,
}

/// A step that should go, and stays.
#[derive(Serialize)]
struct HeldEntry {
    step: u64,
    by: String,
}

/// A step that can't be restored, and stays.
#[derive(Serialize)]
struct DamagedEntry {
    step: u64,
    error: String,
}

/// Carries out prune.
pub(crate) fn run(args: &ChainPrune) -> Result<Status> {
    let mut chain = Chain::open(&args.store)?;
    let before = size(&chain);
    let plan = chain.plan(&args.options)?;
    let (plan, after) = match args.dry_run {
        true => (plan, None),
        false => (carry_out(args, &mut chain, &plan)?, Some(size(&chain))),
    };
    let is_whole = plan.damaged.is_empty();
    for damaged in &plan.damaged {
        super::tell_damage(damaged, "it stays, and so does what it may need");
    }
    if args.ui.json {
        let held =
            plan.held.iter().map(|Held { number, by }| HeldEntry { step: *number, by: plain(by) });
        let damaged = plan.damaged.iter();
        let damaged =
            damaged.map(|d| DamagedEntry { step: d.number, error: d.error().to_string() });
        let (held, damaged) = (held.collect(), damaged.collect());
        let rebased = plan.rebase.into_iter().map(|(step, base)| Rebased { step, base });
        print_json(&Pruned {
            command: "chain prune",
            dry_run: args.dry_run,
            rebased: rebased.collect(),
            removed: plan.remove,
            held,
            damaged,
            compressed_before: before,
            compressed_after: after,
        })?;
    } else if !args.ui.quiet {
        lines(&plan, before, after).iter().for_each(|line| say(line));
    }
    Ok(if is_whole { Status::Done } else { Status::SomeFailed })
}

fn carry_out(args: &ChainPrune, chain: &mut Chain, plan: &Plan) -> Result<Plan> {
    let rebased = |number: u64| plan.rebase.iter().any(|(step, _)| *step == number);
    let steps = chain.steps().iter().filter(|step| rebased(step.number));
    // Each byte counts twice: it is read back, too.
    let total = steps.map(|step| step.info.original_bytes).fold(0, u64::saturating_add);
    let bar = Bar::new(args.ui, escape::path(&args.store), Some(total.saturating_mul(2)));
    let progress = Some(bar.callback());
    Ok(chain.prune(&PruneOptions { progress, ..args.options.clone() })?)
}

/// Bytes of all steps' files.
fn size(chain: &Chain) -> u64 {
    chain.steps().iter().map(|step| step.info.compressed_bytes).sum()
}

fn lines(plan: &Plan, before: u64, after: Option<u64>) -> Vec<String> {
    let would = if after.is_none() { "would be " } else { "" };
    let mut lines = Vec::new();
    for (step, base) in &plan.rebase {
        let on = base.map_or_else(|| "a keyframe".to_owned(), |base| format!("on step {base}"));
        lines.push(format!("step {step}: {would}coded anew, {on}"));
    }
    lines.extend(plan.remove.iter().map(|step| format!("step {step}: {would}removed")));
    lines.extend(plan.held.iter().map(|Held { number, by }| {
        format!("step {number}: stays, {} needs it, or may", escape::path(by))
    }));
    let removed = super::steps(plan.remove.len());
    let sizes = after.map(|after| (human::bytes(before), human::bytes(after)));
    lines.push(match sizes {
        Some((before, after)) => format!("{removed} removed, {before} -> {after}"),
        None => format!("{removed} {would}removed"),
    });
    lines
}
