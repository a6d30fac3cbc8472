//! The command that gives a model its score.

use crate::escape;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// What stands for the model.
const MODEL: &str = "{model}";

/// Bytes of what a command prints that are kept: the last ones.
const KEPT: usize = 64 << 10;

/// Lines of a failed command's stderr that are shown.
const SHOWN: usize = 10;

/// A command line with a place for the model.
#[derive(Clone)]
pub(crate) struct Evaluation {
    /// As it was typed.
    pub(crate) text: String,
    words: Vec<String>,
}

impl Evaluation {
    /// Splits a command line as a shell does, but expands nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        let words = words.ok_or("no command, or a quote without its end")?;
        if !words.iter().any(|word| word.contains(MODEL)) {
            return Err(format!("{MODEL} must say where the model goes"));
        }
        Ok(Self { text: text.to_owned(), words })
    }

    /// The score of a model: the last number in the last line on stdout that isn't empty.
    pub(crate) fn score(&self, model: &Path) -> Result<f64> {
        let words: Vec<OsString> = self.words.iter().map(|word| filled(word, model)).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let program = escape::path(Path::new(&words[0]));
        let mut child = command.spawn().with_context(|| format!("can't run {program}"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = std::thread::scope(|scope| {
            let stderr = std::thread::Builder::new()
                .spawn_scoped(scope, || end_of(stderr))
                .context("can't start a thread to read what the evaluation says")?;
            anyhow::Ok((end_of(stdout), stderr.join().unwrap_or_default()))
        })?;
        let status = child.wait().with_context(|| format!("can't wait for {program}"))?;
        if !status.success() {
            bail!("the evaluation failed ({status}){}", shown(&stderr));
        }
        let Some(line) = stdout.lines().rev().find(|line| !line.trim().is_empty()) else {
            bail!(
                "the evaluation printed nothing to stdout; its last line must end with the score{}",
                shown(&stderr)
            );
        };
        last_number(line).with_context(|| {
            let line = escape::text(line.trim());
            format!("no number in the last line of the evaluation's output, {line:?}; it must have the score")
        })
    }
}

/// A word with the model in its place.
fn filled(word: &str, model: &Path) -> OsString {
    let mut parts = word.split(MODEL);
    let mut out = OsString::from(parts.next().unwrap_or_default());
    for part in parts {
        out.push(model);
        out.push(part);
    }
    out
}

/// The last of what comes through a pipe, as text.
fn end_of(pipe: Option<impl Read>) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; KEPT]);
    let Some(mut pipe) = pipe else { return String::new() };
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => kept.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
        kept.drain(..kept.len().saturating_sub(KEPT));
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The last lines of what a command said.
fn shown(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(SHOWN)..];
    match last.is_empty() {
        true => String::new(),
        false => format!("; it said: {}", last.join(" | ")),
    }
}

/// The last word of a line that is a number; `nan` and `inf` are.
fn last_number(line: &str) -> Option<f64> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '+' | '-' | '_');
    let words = line.rsplit(|c| !is_part(c)).map(|word| word.trim_end_matches('.'));
    words.filter_map(|word| word.parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts() {
        for (line, wanted) in [
            ("0.9312", 0.9312),
            ("epoch 3: accuracy=93.1%", 93.1),
            ("{'loss': -1.5e-3}", -1.5e-3),
            ("[0.5, 0.25].", 0.25),
            ("perplexity 12 (mean of 100)", 100.0),
            ("score 7 v2", 7.0),
            ("+3", 3.0),
        ] {
            assert_eq!(last_number(line), Some(wanted), "{line}");
        }
        assert!(last_number("3 nan").unwrap().is_nan());
        assert_eq!(last_number("loss: inf"), Some(f64::INFINITY));
        assert_eq!(last_number("all done - or not."), None);
    }

    #[test]
    fn words_are_split_and_nothing_is_expanded() {
        let evaluation = Evaluation::parse("run 'a b' $HOME \"*\" --m={model}/x").unwrap();
        let words: Vec<_> =
            evaluation.words.iter().map(|word| filled(word, Path::new("m n"))).collect();
        assert_eq!(words, ["run", "a b", "$HOME", "*", "--m=m n/x"]);
        for bad in ["", "  ", "eval", "eval '{model}", "# {model}"] {
            assert!(Evaluation::parse(bad).is_err(), "{bad}");
        }
    }
}
