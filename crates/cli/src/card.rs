//! `wz compress --print-card` and `--append-card`: a text for the model card of a repository with the results.

use crate::output::Output;
use crate::report::InFile;
use crate::source::SourceFile;
use crate::{escape, human, job, walk};
use anyhow::{Context, Result, ensure};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use weightzip::Archive;

const INTRO: &str = "\
## Compressed with weightzip

The weights in this repository are compressed without loss: unpacking them, or loading them as told
below, gives back every file and every tensor identical to the last bit.

| file | original | here | of original | BLAKE3 of the original |
| --- | ---: | ---: | ---: | --- |
";

const IDENTICAL: &str = "
Each `.wz` holds the hash of its original; `wz verify` decodes everything and checks it. Programs that
know safetensors only don't find these weights: they need the original files, by the last command below.
";

/// How a loader is told, for files whose names begin like this.
const LOADERS: [(&str, &str); 2] = [
    (
        "model",
        r#"
With transformers, for any of its model classes:

```python
from transformers import AutoModelForCausalLM
from weightzip.transformers import from_pretrained

model = from_pretrained(AutoModelForCausalLM, "OWNER/NAME")
```
"#,
    ),
    (
        "diffusion_pytorch_model",
        r#"
With diffusers, for any of its model classes:

```python
from diffusers import UNet2DConditionModel
from weightzip.diffusers import from_pretrained

unet = from_pretrained(UNet2DConditionModel, "OWNER/NAME", subfolder="unet")
```
"#,
    ),
];

const ORIGINALS: &str = "
The original files, for any other program:

```sh
hf download OWNER/NAME --local-dir model.wz
wz decompress model.wz -o model
```
";

/// A compressed file of the repository.
struct Packed {
    /// Its place in the repository.
    name: String,
    original: u64,
    compressed: u64,
    blake3: String,
}

/// The marks that a card is between in a README, so that it can be found and replaced.
const BEGIN: &[u8] =
    b"\n<!-- weightzip card: wz compress --append-card replaces it, up to its end -->\n";
const END: &[u8] = b"\n<!-- end of the weightzip card -->\n";

/// Prints the card of these results, files or folders, to stdout.
pub(crate) fn print(results: &[PathBuf]) -> Result<()> {
    let card = text(&packed(results)?);
    let mut stdout = io::stdout().lock();
    stdout.write_all(card.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes the card of a folder's results into its README.md, in the place of the one that is there.
pub(crate) fn append(folder: &Path) -> Result<()> {
    let readme = folder.join("README.md");
    let card = text(&packed(&[folder.to_owned()])?);
    write_into(&readme, &card).context(InFile(readme))
}

fn write_into(readme: &Path, card: &str) -> Result<()> {
    let there = fs::symlink_metadata(readme).ok();
    ensure!(
        there.as_ref().is_none_or(Metadata::is_file),
        "not a regular file, so no card is written into it; use --print-card"
    );
    let before = if there.is_some() { fs::read(readme).context("can't read")? } else { Vec::new() };
    let after = with(&before, card)?;
    if after != before {
        let output = Output::create(readme, true, there.is_some())?;
        output.file()?.write_all(&after).context("can't write")?;
        // With the time that it had: a card is no change that somebody made by hand.
        output.seal(there.as_ref())?;
        output.commit()?;
    }
    Ok(())
}

/// A README with this card.
fn with(readme: &[u8], card: &str) -> Result<Vec<u8>> {
    let place = place(readme);
    ensure!(
        place.is_some() || find(readme, BEGIN).is_none(),
        "the end of the card that is in it is missing; remove its beginning too"
    );
    let (before, after) = match place {
        Some(place) => (&readme[..place.start], &readme[place.end..]),
        None => (readme, &[][..]),
    };
    Ok([before, BEGIN, card.as_bytes(), END, after].concat())
}

/// A README without the card that is in it.
pub(crate) fn without(readme: &[u8]) -> Cow<'_, [u8]> {
    match place(readme) {
        Some(place) => [&readme[..place.start], &readme[place.end..]].concat().into(),
        None => readme.into(),
    }
}

/// Where a card is, with its marks.
fn place(readme: &[u8]) -> Option<Range<usize>> {
    let start = find(readme, BEGIN)?;
    let end = start + find(&readme[start..], END)? + END.len();
    Some(start..end)
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|part| part == mark)
}

/// The compressed files among these results, and in those that are folders.
fn packed(results: &[PathBuf]) -> Result<Vec<Packed>> {
    let mut files = Vec::new();
    for result in results {
        if result.is_dir() {
            for entry in walk::walk(result)?.files {
                files.extend(look(&entry.path, &entry.relative)?);
            }
        } else {
            files.extend(look(result, Path::new(result.file_name().unwrap_or_default()))?);
        }
    }
    ensure!(!files.is_empty(), "there is no .wz among the results, so there is nothing for a card");
    Ok(files)
}

/// What a card says of a file, if it is a .wz.
fn look(path: &Path, name: &Path) -> Result<Option<Packed>> {
    if !weightzip::is_weightzip(&job::prefix(path)?) {
        return Ok(None);
    }
    let source = SourceFile::open(path)?;
    let archive = Archive::open(source.file())
        .with_context(|| format!("can't read {}", escape::path(path)))?;
    Ok(Some(Packed {
        name: escape::path(name),
        original: archive.info().original_bytes,
        compressed: archive.info().compressed_bytes,
        blake3: human::hex(&archive.info().blake3),
    }))
}

fn text(files: &[Packed]) -> String {
    let mut card = intro(files);
    card += "\n### Use\n";
    let safetensors: Vec<&str> = files
        .iter()
        .map(|f| f.name.as_str())
        .filter(|name| name.ends_with(".safetensors.wz"))
        .collect();
    for (prefix, text) in LOADERS {
        if safetensors.iter().any(|name| is_saved_as(name, prefix)) {
            card += text;
        }
    }
    if let Some(name) = safetensors.first() {
        card += "\nTensors alone:\n\n```python\nfrom weightzip.torch import load_file\n\n";
        let _ = writeln!(card, "tensors = load_file({})\n```", python_string(name));
    }
    card += ORIGINALS;
    card
}

/// Whether a file's name is `prefix`, perhaps with a variant or the number of a shard.
fn is_saved_as(name: &str, prefix: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or_default();
    base.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['.', '-']))
}

/// What it is, how much smaller, and what identical means.
fn intro(files: &[Packed]) -> String {
    let mut card = INTRO.to_owned();
    let mut row = |name: &str, original, compressed, hash: &str| {
        let share = human::percent(human::ratio(compressed, original));
        let (from, to) = (human::bytes(original), human::bytes(compressed));
        // Writing to a String can't fail.
        let _ = writeln!(card, "| {name} | {from} | {to} | {share} | {hash} |");
    };
    for file in files {
        row(&code_span(&file.name), file.original, file.compressed, &code_span(&file.blake3));
    }
    if files.len() > 1 {
        let sum = |of: fn(&Packed) -> u64| files.iter().map(of).sum();
        row("together", sum(|f| f.original), sum(|f| f.compressed), "");
    }
    card += IDENTICAL;
    card
}

/// A name as code in a cell of a table.
fn code_span(name: &str) -> String {
    let name = name.replace('|', "\\|");
    if name.contains('`') { format!("`` {name} ``") } else { format!("`{name}`") }
}

/// A name as a string of Python.
fn python_string(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(name: &str) -> Packed {
        Packed { name: name.to_owned(), original: 1000, compressed: 665, blake3: "00ff".to_owned() }
    }

    #[test]
    fn loaders_are_named_where_their_files_are() {
        let of = |name: &str| text(&[packed(name)]);
        let llama = of("model-00001-of-00002.safetensors.wz");
        assert!(llama.contains("weightzip.transformers") && !llama.contains("weightzip.diffusers"));
        let unet = of("unet/diffusion_pytorch_model.fp16.safetensors.wz");
        assert!(unet.contains("weightzip.diffusers") && !unet.contains("weightzip.transformers"));
        let other = of("modelling.safetensors.wz");
        assert!(other.contains("weightzip.torch") && !other.contains("weightzip.transformers"));
        assert!(!of("notes.bin.wz").contains("python"));
    }

    #[test]
    fn a_card_is_replaced_and_leaves_the_rest_as_it_was() {
        for readme in ["", "# Model", "# Model\n\ntext\n"] {
            let first = with(readme.as_bytes(), "a card").unwrap();
            assert_eq!(without(&first), readme.as_bytes());
            let edited = [&first[..], b"more"].concat();
            let second = with(&edited, "another").unwrap();
            let shown = String::from_utf8_lossy(&second);
            assert!(shown.starts_with(readme) && shown.ends_with("more"), "{shown}");
            assert!(shown.contains("another") && !shown.contains("a card"), "{shown}");
            assert_eq!(with(&second, "another").unwrap(), second);
        }
        assert!(with(BEGIN, "a card").is_err());
    }

    #[test]
    fn names_stay_in_their_cell() {
        assert_eq!(code_span("a|b"), "`a\\|b`");
        assert_eq!(code_span("a`b"), "`` a`b ``");
        assert_eq!(python_string("a\"\\b"), "\"a\\\"\\\\b\"");
    }

    #[test]
    fn sums_are_there_for_more_than_one() {
        assert!(!intro(&[packed("a.wz")]).contains("together"));
        assert!(
            intro(&[packed("a.wz"), packed("b.wz")])
                .contains("| together | 2.00 kB | 1.33 kB | 66.5 % |")
        );
    }
}
