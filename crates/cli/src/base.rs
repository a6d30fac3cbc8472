//! Bases: the models that files are coded against, as the command line has them.

use crate::escape;
use anyhow::Result;
use clap::Args;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use weightzip::{Base, BaseTensor};

/// Which bases a file may have.
#[derive(Args, Clone, Default)]
pub(crate) struct BaseArgs {
    /// A model that files are coded against, or a folder of its files; may be compressed, and given
    /// more than once
    #[arg(long = "base", value_name = "MODEL", value_parser = crate::args::path::local())]
    paths: Vec<PathBuf>,
    /// What was loaded of these.
    #[arg(skip)]
    loaded: OnceLock<Base>,
}

impl BaseArgs {
    /// Whether no model was named.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The models that were named, and what they need themselves.
    pub(crate) fn named(&self) -> Result<Base> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded.clone());
        }
        let mut base = Base::new();
        for path in &self.paths {
            base.load(path)?;
        }
        Ok(self.loaded.get_or_init(|| base).clone())
    }

    /// The models that were named, and those that a .wz needs, from where they are looked for.
    pub(crate) fn of_file(&self, path: Option<&Path>) -> Result<Base> {
        let mut base = self.named()?;
        path.map_or(Ok(()), |path| base.find_for(path))?;
        Ok(base)
    }
}

/// A file that another one can't be restored without.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Need {
    /// Its name when it was used.
    file: String,
    /// Tensors of it that are needed.
    tensors: usize,
    /// BLAKE3 of the first of them.
    blake3: String,
}

/// The files that have these tensors.
pub(crate) fn needs(tensors: &[BaseTensor]) -> Vec<Need> {
    let (mut needs, mut numbers) = (Vec::<Need>::new(), HashMap::new());
    for tensor in tensors {
        let number = *numbers.entry(&*tensor.file).or_insert_with(|| {
            let (file, blake3) = (tensor.file.to_string(), crate::human::hex(&tensor.blake3));
            needs.push(Need { file, tensors: 0, blake3 });
            needs.len() - 1
        });
        needs[number].tensors += 1;
    }
    needs
}

/// Most files that people are told of, one a line.
const TOLD: usize = 20;

/// What to tell people of them.
pub(crate) fn lines(needs: &[Need]) -> impl Iterator<Item = String> {
    let told = needs.iter().take(TOLD).map(|Need { file, tensors, blake3 }| {
        let (file, some) = (escape::text(file), if *tensors == 1 { "tensor" } else { "tensors" });
        format!(
            "needs base {file}, {tensors} {some}, the first with blake3 {blake3}; without it this file cannot be restored"
        )
    });
    let more = needs.len().saturating_sub(TOLD);
    told.chain((more > 0).then(|| format!("needs {more} more bases; --json lists them")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn many_bases_are_counted_at_once_and_told_briefly() {
        let tensor = |i: u32| BaseTensor {
            file: format!("{}.safetensors", i / 2).into(),
            name: i.to_string(),
            bytes: 1,
            blake3: [0; 32],
        };
        let tensors: Vec<_> = (0..400_000).map(tensor).collect();
        let start = Instant::now();
        let needs = needs(&tensors);
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!((needs.len(), needs[7].tensors), (200_000, 2));
        let lines: Vec<_> = lines(&needs).collect();
        assert_eq!((lines.len(), &*lines[20]), (21, "needs 199980 more bases; --json lists them"));
    }
}
