//! Low-level arguments: exactly what can be typed, with its help.

use super::chain::LowChain;
use super::path::local;
use super::tune::{self, LowTune};
use crate::base::BaseArgs;
use crate::demo::DemoArgs;
use crate::lossy::{self, LossyArgs};
use crate::report::say;
use clap::builder::styling::{AnsiColor, Styles};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use weightzip::{Dtype, Level};

const AFTER_HELP: &str = "\
Exit codes:
  0  everything was done (also when the reader of a pipe went away)
  1  something failed; each failure has a line on stderr
  2  the command line was wrong

With --json one JSON object goes to stdout; failures are in it too, besides their line on stderr.
A folder that is compressed or restored keeps going when one of its files fails.";

const FILES_JSON: &str = "\
JSON: {command, files, failed}; each of files has file, action, bytes, seconds, warnings, and, where
it applies, output, compressed, ratio, format, tensors, blake3, sha256, needs [{file, tensors, blake3}],
lossy {rules, source_blake3, rounded, max_abs, max_rel, snr}, removed, stages, estimate {compressed, ratio,
format, dtypes}; or file and error {kind, message, offset, tensor}. ratio is compressed / bytes. kind is compatibility, corruption,
insufficient_data, invalid_argument, io or refused.";

const FOLDER_HELP: &str = "\
Folders: model files become .wz if that saves something, and so does every file whose name ends in
.wz; the rest is copied. Links are followed inside the folder, and from a snapshot in a hub's cache
to its files. A file counts as finished if its result has its modification time and is for its
size; a rerun skips it. In place, a whole .wz with the name of a result does. One that was made at
another level, next to another base or without the SHA-256 that is asked for stays, with a warning;
-f makes it again. A copied file that was changed after it was copied stays, with a warning, also
with -f.
";

const INSPECT_HELP: &str = "\
Of more than 40 tensors those of one shape whose names differ in numbers share a row, and of more than 40 rows
the largest are shown; --table full lists each. Roles (embedding, attention, mlp, norm, head, other) are
guessed from names. In a folder, what has no tensors is counted and not listed. ~ marks estimates.

JSON: file, format, bytes, compressed, ratio, estimated, archive {writer, wire_version, level, blake3,
sha256, needs [{file, tensors, blake3}], lossy}, tensors [{name, dtype, shape, role, bytes, compressed, ratio,
codings, loss {bound, max_abs, max_rel, rmse, snr}}], roles [{role, tensors, bytes, compressed, ratio}], group,
byte_groups [{dtype, tensors, bytes, remains, groups, group}], warnings; or error. groups are per byte of an
element, top byte first; estimated is true for a plain file. Of several files or a folder: files [as above, or
{file, error}], others, bytes, compressed, ratio, roles, failed. With --needs: base, files [{file, tensors,
in_base}], failed. JSON always has all tensors.";

const BENCH_HELP: &str = "\
The codec runs in memory, over as many copies of the file as make 256 MiB, each with its own input;
output memory is reused and the best run counts. Checksums are included; reading and writing files
is not, nor the check that `wz compress` makes after encoding. GB is 10^9 bytes of original data.

JSON: bytes, compressed, ratio, compress_gbps, decompress_gbps, memcpy_gbps, threads, level, simd;
or error. compressed is the whole .wz, ratio is compressed / bytes.";

const REBASE_HELP: &str = "\
The base that the file has is looked for as by `wz decompress`; --base names the new one, and may name the
old one too. Without --base the result stands alone. The level stays. The file is replaced once the
result was read back from disk and holds the same original.

JSON: as that of `wz compress`, with the action rebased; or error.";

const BASE_HELP: &str = "\
Bases: a tensor is coded by how it differs from the base's tensor that is most like it. Contents decide,
under the same name first; where they can't, and in a pipe, names do. The result needs the base to be
restored: any file that has the same tensors, compressed or not. It is looked for under its name in --base,
beside the .wz, in the folders of WEIGHTZIP_BASE_PATH, and in the cache of Hugging Face's hub.
";

/// Colours of the help on a terminal.
const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Makes AI model files smaller without changing one bit.
#[derive(Parser)]
#[command(name = "wz", version, styles = STYLES, after_help = AFTER_HELP)]
pub(super) struct LowArgs {
    #[command(subcommand)]
    pub(super) command: LowCommand,
}

#[derive(Subcommand)]
pub(super) enum LowCommand {
    /// Compress files or folders to .wz
    #[command(after_help = [FOLDER_HELP, BASE_HELP, lossy::HELP, FILES_JSON].join("\n"))]
    Compress(CompressArgs),
    /// Restore the original files or folders
    #[command(after_help = [FOLDER_HELP, BASE_HELP, FILES_JSON].join("\n"))]
    Decompress(DecompressArgs),
    /// Decode everything and check every hash, without writing anything
    #[command(after_help = FILES_JSON)]
    Verify(VerifyArgs),
    /// List the tensors of model files, .wz or folders
    #[command(after_help = INSPECT_HELP)]
    Inspect(InspectArgs),
    /// Write the bytes of one tensor to stdout
    Cat(CatArgs),
    /// Code a .wz against another base, or against none
    #[command(after_help = REBASE_HELP)]
    Rebase(RebaseArgs),
    /// Keep checkpoints in a folder, each coded against the one before
    Chain {
        #[command(subcommand)]
        command: LowChain,
    },
    /// Find how far a model may be rounded: the smallest file whose score stays close to the original's
    #[command(after_help = tune::HELP)]
    Tune(Box<LowTune>),
    /// Measure size and speed in memory
    #[command(after_help = BENCH_HELP)]
    Bench(BenchArgs),
    /// Compress, check and restore the small model that comes with wz
    Demo(DemoArgs),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff), or that of one command
    Man {
        /// The command, such as `compress` or `chain add`
        command: Vec<String>,
    },
}

#[derive(Args)]
pub(super) struct UiArgs {
    /// Print nothing but warnings and errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Print one JSON object to stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct ThreadsArg {
    /// Worker threads; 0 means one per core. The output does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

impl ThreadsArg {
    /// As many as are used.
    pub(super) fn count(&self) -> usize {
        bounded(self.threads)
    }
}

/// As many threads as are used of so many.
pub(super) fn bounded(asked: usize) -> usize {
    let most = weightzip::max_threads();
    if asked > most {
        say(&format!(
            "wz: --threads {asked}: more than {most} gain nothing here, so {most} are used"
        ));
    }
    asked.min(most)
}

#[derive(Args)]
pub(super) struct LosslessArg {
    /// Refuse what is near-lossless
    #[arg(long)]
    pub(super) require_lossless: bool,
}

#[derive(Args)]
pub(super) struct TimingsArg {
    /// Say how long each stage took, all threads together: with one thread they add up to the whole
    #[arg(long)]
    pub(super) timings: bool,
}

#[derive(Args)]
pub(super) struct LevelArg {
    /// How hard to try
    #[arg(long, default_value = Level::Default.name(), value_parser = level_parser())]
    pub(super) level: Level,
}

#[derive(Args)]
pub(super) struct DtypeArg {
    /// What the numbers of a file without a known format are, from its first byte on: as safetensors
    /// calls it, such as bf16, f32 or f8_e4m3
    #[arg(long, value_name = "DTYPE", value_parser = dtype)]
    pub(super) dtype: Option<Dtype>,
}

#[derive(Args)]
pub(super) struct WriteArgs {
    /// Where to write; `-` means stdout, a folder or a name that ends in a slash takes files under their usual names
    #[arg(short, long, value_name = "OUT", value_parser = local())]
    pub(super) output: Option<PathBuf>,
    /// Replace what is already there
    #[arg(short, long)]
    pub(super) force: bool,
    /// Remove the source once the result was read back from disk and holds the same bytes
    #[arg(long)]
    pub(super) rm: bool,
    /// Replace the files of a folder one at a time; a rerun goes on where the last one stopped
    #[arg(long, conflicts_with_all = ["output", "rm"])]
    pub(super) in_place: bool,
}

#[derive(Args)]
pub(super) struct CompressArgs {
    /// Files or folders; `-` means stdin
    #[arg(required = true, value_name = "FILE", value_parser = local())]
    pub(super) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    pub(super) base: BaseArgs,
    #[command(flatten)]
    pub(super) level: LevelArg,
    #[command(flatten)]
    pub(super) lossy: LossyArgs,
    #[command(flatten)]
    pub(super) dtype: DtypeArg,
    #[command(flatten)]
    pub(super) threads: ThreadsArg,
    /// Copy the files of a folder that would save less than so many percent, or leave them alone in
    /// place; a file by itself is left alone too [default: 2 in folders, 0 for files]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(super) min_saving: Option<f64>,
    /// Estimate from a sample of each file what compressing would save; write nothing
    #[arg(long, conflicts_with_all = ["print_card", "append_card", "rm"])]
    pub(super) dry_run: bool,
    /// Store the original's SHA-256 too
    #[arg(long)]
    pub(super) sha256: bool,
    /// Print a text for the model card of the compressed repository to stdout
    #[arg(long, conflicts_with = "json")]
    pub(super) print_card: bool,
    /// Write this text into the README.md of a folder's result, between two marks; again, it is replaced
    #[arg(long)]
    pub(super) append_card: bool,
    #[command(flatten)]
    pub(super) table: TableArg,
    #[command(flatten)]
    pub(super) timings: TimingsArg,
    #[command(flatten)]
    pub(super) ui: UiArgs,
}

#[derive(Args)]
pub(super) struct DecompressArgs {
    /// .wz files or folders; `-` means stdin
    #[arg(required = true, value_name = "FILE.wz", value_parser = local())]
    pub(super) inputs: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) lossless: LosslessArg,
    #[command(flatten)]
    pub(super) write: WriteArgs,
    #[command(flatten)]
    pub(super) base: BaseArgs,
    #[command(flatten)]
    pub(super) threads: ThreadsArg,
    #[command(flatten)]
    pub(super) timings: TimingsArg,
    #[command(flatten)]
    pub(super) ui: UiArgs,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// .wz files or folders; `-` means stdin
    #[arg(required = true, value_name = "FILE.wz", value_parser = local())]
    pub(super) inputs: Vec<PathBuf>,
    /// The SHA-256 that the original must have (for one file)
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub(super) sha256: Option<[u8; 32]>,
    /// The file that it was made from: all bytes must be the same, or rounded as the .wz says (for one file)
    #[arg(long, value_name = "ORIGINAL", value_parser = local())]
    pub(super) against: Option<PathBuf>,
    #[command(flatten)]
    pub(super) lossless: LosslessArg,
    #[command(flatten)]
    pub(super) base: BaseArgs,
    #[command(flatten)]
    pub(super) threads: ThreadsArg,
    #[command(flatten)]
    pub(super) ui: UiArgs,
}

/// Which rows tables have.
#[derive(Args, Clone, Copy, Default)]
pub(super) struct TableArg {
    /// Rows of a table, for people: at most 40, or all
    #[arg(long, value_enum, default_value_t = Rows::Short)]
    table: Rows,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Rows {
    #[default]
    Short,
    Full,
}

impl TableArg {
    pub(super) fn is_full(self) -> bool {
        self.table == Rows::Full
    }
}

/// What `wz inspect` lists of the tensors, for people. JSON has all of them, in the order of the file.
#[derive(Clone, Copy)]
pub(crate) struct List {
    pub(crate) sort: Option<Sort>,
    pub(crate) top: Option<usize>,
    pub(crate) full: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    Size,
    Name,
    Ratio,
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// Order of the tensors, for people: the largest first, by name, or what shrinks most first; that of the file if not given
    #[arg(long, value_enum)]
    sort: Option<Sort>,
    /// List N tensors, the largest ones or the first by --sort
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "table")]
    top: Option<usize>,
    #[command(flatten)]
    table: TableArg,
}

impl ListArgs {
    pub(super) fn list(&self) -> List {
        List { sort: self.sort, top: self.top, full: self.table.is_full() }
    }
}

#[derive(Args)]
pub(super) struct InspectArgs {
    /// Model files, .wz or folders; of several, and of a folder, what they have together
    #[arg(required = true, value_name = "FILE", value_parser = local())]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) list: ListArgs,
    /// List which .wz of FILE can't be restored without this model, instead
    #[arg(long, value_name = "MODEL", value_parser = local(), conflicts_with_all = ["paths", "dtype", "sort", "top", "table"])]
    pub(super) needs: Option<PathBuf>,
    #[command(flatten)]
    pub(super) dtype: DtypeArg,
    #[command(flatten)]
    pub(super) base: BaseArgs,
    /// Print one JSON object to stdout
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct CatArgs {
    /// The .wz file
    #[arg(value_name = "FILE.wz", value_parser = local())]
    pub(super) file: PathBuf,
    /// The tensor's name, as `wz inspect` lists it
    pub(super) tensor: String,
    /// Only these rows of the outermost dimension: `a:b`, `a:` or `:b`, the first is 0, b is not included
    #[arg(long, value_name = "A:B", value_parser = rows)]
    pub(super) rows: Option<(u64, Option<u64>)>,
    #[command(flatten)]
    pub(super) base: BaseArgs,
    /// Where to write; stdout if not given, a folder or a name that ends in a slash takes TENSOR.bin
    #[arg(short, long, value_name = "OUT", value_parser = local())]
    pub(super) output: Option<PathBuf>,
    /// Replace what is already there
    #[arg(short, long)]
    pub(super) force: bool,
}

#[derive(Args)]
pub(super) struct RebaseArgs {
    /// The .wz file
    #[arg(value_name = "FILE.wz", value_parser = local())]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) base: BaseArgs,
    /// Where to write; FILE.wz itself if not given
    #[arg(short, long, value_name = "OUT", value_parser = local())]
    pub(super) output: Option<PathBuf>,
    /// Replace what is already there
    #[arg(short, long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) ui: UiArgs,
}

#[derive(Args)]
pub(super) struct BenchArgs {
    /// The file to measure with
    #[arg(value_parser = local())]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) level: LevelArg,
    /// Worker threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(super) threads: usize,
    /// How often to measure; the best counts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub(super) runs: usize,
    /// Print one JSON object to stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// The whole command line as clap sees it, for completions, manual pages and usage errors.
pub(crate) fn command() -> clap::Command {
    LowArgs::command()
}

fn level_parser() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(Level::ALL.iter().map(|l| l.name()))
        .try_map(|name| Level::from_name(&name))
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    let n = text.parse().map_err(|_| "not a number".to_owned())?;
    if n == 0 { Err("at least 1".to_owned()) } else { Ok(n) }
}

fn dtype(text: &str) -> Result<Dtype, String> {
    let dtype = Dtype::from_name(&text.to_ascii_uppercase());
    dtype.ok_or_else(|| "not a name that safetensors has, such as bf16, f32 or f8_e4m3".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "a number from 0 to 100".to_owned())
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let mut out = [0; 32];
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
    let digits = digits.filter(|d| d.len() == 64).ok_or("a SHA-256 has 64 hexadecimal digits")?;
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(out)
}

fn rows(text: &str) -> Result<(u64, Option<u64>), String> {
    let parts = text.split_once(':').ok_or("rows are given as a:b")?;
    let number = |s: &str| s.parse::<u64>().map_err(|_| format!("{s:?} is not a row number"));
    let start = if parts.0.is_empty() { 0 } else { number(parts.0)? };
    let end = if parts.1.is_empty() { None } else { Some(number(parts.1)?) };
    if end.is_some_and(|e| e < start) {
        return Err("the first row comes after the last".to_owned());
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn percent_are_numbers_up_to_100() {
        assert_eq!(percent("0.5"), Ok(0.5));
        for bad in ["-1", "101", "NaN", "2%", ""] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn dtypes_have_names_in_any_case() {
        assert_eq!([dtype("bf16"), dtype("F8_e4m3")], [Ok(Dtype::Bf16), Ok(Dtype::F8E4M3)]);
        assert!(dtype("float32").is_err());
    }

    #[test]
    fn rows_are_ranges() {
        assert_eq!(rows("2:5"), Ok((2, Some(5))));
        assert_eq!(rows(":5"), Ok((0, Some(5))));
        assert_eq!(rows("7:"), Ok((7, None)));
        for bad in ["", "3", "5:2", "-1:2", "a:b", "1:2:3"] {
            assert!(rows(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sha256_wants_64_digits() {
        let hex = "0123456789abcdefABCDEF0000000000000000000000000000000000000000ff";
        let bytes = sha256(hex).unwrap();
        assert_eq!((bytes[0], bytes[8], bytes[31]), (0x01, 0xab, 0xff));
        assert!(sha256(&hex[1..]).is_err());
        assert!(sha256(&hex.replace('f', "g")).is_err());
    }
}
