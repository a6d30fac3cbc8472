"""Near-lossless compression: size against what the models are still good for, over the knob.

    cargo build --release
    python bench/lossy.py FOLDER [--wz target/release/wz] [--only minilm,gpt,digits,training,delta]
        [--json FILE]

FOLDER is what bench/corpus.py builds. Printed, as tables:

    minilm      cosine of sentence embeddings with those of the model before, and whether the nearest
                sentences stay: sentences of the standard library's docstrings
    gpt         bits per byte on text of the kinds that it was trained on, but not that text
    digits      accuracy of two nets that are trained here
    training    gpt trained on from a checkpoint of which weights and moments were rounded
    delta       models coded against others, rounded too

Sizes are of the whole .wz. Every one is restored, or verified where nothing is measured of it. Exits with 1 if a bar is
missed, and says which. bench/lossy_plot.py draws what --json writes. Needs what bench/requirements.txt lists.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

import quality
from evaluate import ROOT

# Percent of MiniLM FP32 by the bits after the point: estimates of entropy, and how far above them a
# file may be at each level.
ESTIMATES = {23: 65.4, 18: 49.8, 14: 37.0, 12: 30.8, 10: 24.6, 8: 18.3}
ABOVE = {"default": 0.8, "max": 0.3}
# The least cosine of any sentence, the largest change in bits per byte, and the percent that the
# smallest file within them may have.
COSINE, COSINE_PERCENT = 0.9999, 29.0
BITS, BITS_PERCENT = 0.001, 32.0

ABS = [f"abs=2^-{b}" for b in (23, 18, 14, 13, 12, 11, 10, 9, 8, 7, 6)]
SNR = [f"snr={db}dB" for db in (60, 50, 40, 30)]
ABS_BF16 = [f"abs=2^-{b}" for b in range(12, 5, -1)]
REL_BF16 = [f"rel=2^-{k}" for k in range(6, 1, -1)]
FP32, BF16 = [None, *ABS, *SNR], [None, *ABS_BF16, *REL_BF16]

PAIRS = [
    ("gpt_b_fp32", "gpt_c_fp32", "20 steps before"),
    *((f"family_{s}_2_fp32", f"family_{s}_3_fp32", "previous epoch") for s in ("lib", "py", "txt")),
    *(("family_base_fp32", f"family_{s}_3_fp32", "the base") for s in ("lib", "py", "txt")),
]


@dataclass
class Packed:
    path: Path
    bytes: int
    percent: float
    blake3: str
    loss: dict | None


class Wz:
    def __init__(self, binary: Path, scratch: Path):
        self.binary, self.scratch, self.count = binary, scratch, 0

    def run(self, *command: object) -> dict:
        given = [str(part) for part in (self.binary, *command, "--json", "--quiet")]
        done = subprocess.run(given, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(given)} failed with {done.returncode}")
        return json.loads(done.stdout)["files"][0]

    def pack(self, file: Path, rule: str | None, level: str = "default", base: Path | None = None) -> Packed:
        self.count += 1
        out = self.scratch / f"{self.count}.wz"
        options = [*(["--lossy", rule] if rule else []), *(["--base", base] if base else [])]
        found = self.run("compress", file, "--level", level, "-o", out, *options)
        if base:
            self.run("verify", out, "--base", base)
        return Packed(out, found["compressed"], found["ratio"] * 100, found["blake3"], found.get("lossy"))

    def restore(self, packed: Packed) -> Path:
        out = self.scratch / "restored.safetensors"
        self.run("decompress", packed.path, "--force", "-o", out)
        return out

    def measure(self, file: Path, rule: str | None) -> tuple[dict, Path]:
        """Sizes at both levels and the error, and what is restored."""
        packed = {level: self.pack(file, rule, level) for level in ABOVE}
        if packed["default"].blake3 != packed["max"].blake3:
            raise SystemExit(f"{file.name} at {rule}: levels restore to different files")
        restored = self.restore(packed["default"])
        loss = packed["default"].loss or {}
        row = {"file": file.stem, "rule": rule or "lossless", "max_abs": loss.get("max_abs"), "snr": loss.get("snr")}
        for level, one in packed.items():
            row[level] = one.percent
            one.path.unlink()
        return row, restored


class Tables:
    """Markdown tables, printed row by row, and the bars that were missed."""

    def __init__(self):
        self.missed = []

    def start(self, title: str, *columns: str):
        print(f"\n### {title}\n\n| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}", flush=True)

    def row(self, *cells: object):
        print(f"| {' | '.join(map(str, cells))} |", flush=True)

    def bar(self, what: str, found: float | None, most: float, unit: str = " %"):
        kept = found is not None and found <= most
        shown = "none" if found is None else f"{found:.2f}{unit}"
        line = f"{what}: {shown}, at most {most:.2f}{unit}"
        print(f"\n{line}: {'kept' if kept else 'missed'}", flush=True)
        if not kept:
            self.missed.append(line)


def percent(value: float) -> str:
    return f"{value:.2f} %"


def error(row: dict) -> tuple[str, str]:
    if row["snr"] is None:
        return "0", ""
    return f"{row['max_abs']:.2e}", f"{row['snr']:.1f} dB"


def coarsest(rows: list[dict], good) -> dict | None:
    """The last row, from fine to coarse, before the first that isn't good."""
    best = None
    for row in rows:
        if not good(row):
            break
        best = row
    return best


def minilm(wz: Wz, folder: Path, tables: Tables) -> list[dict]:
    task = quality.Sentences()
    rows = []
    for name, rules in (("minilm_fp32", FP32), ("minilm_bf16", BF16)):
        file = folder / f"{name}.safetensors"
        tables.start(
            name, "rule", "size", "size, max", "largest error", "SNR", "least cosine", "mean cosine",
            "nearest 10 kept", "nearest kept",
        )  # fmt: skip
        exact = task.embed(file)
        for rule in rules:
            row, restored = wz.measure(file, rule)
            row |= task.compare(exact, task.embed(restored))
            rows.append(row)
            tables.row(
                row["rule"], percent(row["default"]), percent(row["max"]), *error(row),
                f"{row['min_cosine']:.6f}", f"{row['mean_cosine']:.6f}",
                f"{row['overlap']:.1%}", f"{row['first']:.1%}",
            )  # fmt: skip
    cast = task.compare(
        task.embed(folder / "minilm_fp32.safetensors"), task.embed(folder / "minilm_bf16.safetensors")
    )
    rows.append({"file": "cast", "rule": "BF16"} | cast)
    print(f"\nThe cast to BF16 alone: least cosine {cast['min_cosine']:.6f}, nearest 10 kept {cast['overlap']:.1%}")
    fp32 = {row["rule"]: row for row in rows if row["file"] == "minilm_fp32"}
    for bits, estimate in ESTIMATES.items():
        for level, above in ABOVE.items():
            what = f"minilm_fp32 at abs=2^-{bits}, {level}"
            tables.bar(what, fp32[f"abs=2^-{bits}"][level], estimate + above)
    best = coarsest([fp32[rule] for rule in ABS], lambda row: row["min_cosine"] >= COSINE)
    what = f"smallest minilm_fp32 with cosines of at least {COSINE}, {best['rule'] if best else 'none'}"
    tables.bar(what, best and best["default"], COSINE_PERCENT)
    return rows


def gpt(wz: Wz, folder: Path, tables: Tables) -> list[dict]:
    task = quality.HeldOut()
    rows = []
    for name, rules in (("gpt_c_fp32", FP32), ("gpt_c_bf16", BF16)):
        file = folder / f"{name}.safetensors"
        tables.start(name, "rule", "size", "size, max", "largest error", "SNR", "bits per byte", "change")
        exact = None
        for rule in rules:
            row, restored = wz.measure(file, rule)
            row["bits"] = task.score(restored)
            exact = row["bits"] if exact is None else exact
            row["change"] = row["bits"] - exact
            rows.append(row)
            sizes = percent(row["default"]), percent(row["max"])
            tables.row(row["rule"], *sizes, *error(row), f"{row['bits']:.4f}", f"{row['change']:+.5f}")
    fp32 = [row for row in rows if row["file"] == "gpt_c_fp32" and row["rule"] in ABS]
    best = coarsest(fp32, lambda row: abs(row["change"]) <= BITS)
    what = f"smallest gpt_c_fp32 with bits per byte changed by at most {BITS}, {best['rule'] if best else 'none'}"
    tables.bar(what, best and best["default"], BITS_PERCENT)
    return rows


def digits(wz: Wz, folder: Path, tables: Tables) -> list[dict]:
    task = quality.Digits()
    rows = []
    for kind in ("MLP", "CNN"):
        file = wz.scratch / f"{kind}.safetensors"
        save_file(task.fit(kind).state_dict(), file)
        tables.start(f"Digits, {kind}", "rule", "size", "size, max", "largest error", "SNR", "accuracy")
        for rule in (None, *(f"abs=2^-{b}" for b in (14, 12, 10, 8, 7, 6, 5, 4, 3, 2))):
            row, restored = wz.measure(file, rule)
            row["accuracy"] = task.accuracy(restored)
            rows.append(row)
            sizes = percent(row["default"]), percent(row["max"])
            tables.row(row["rule"], *sizes, *error(row), f"{row['accuracy']:.2%}")
    return rows


def training(wz: Wz, folder: Path, tables: Tables) -> list[dict]:
    task, held_out = quality.Continued(folder / "gpt_ckpt.pt"), quality.HeldOut()
    weights, moments, gradients = (folder / f"gpt_c_{k}.safetensors" for k in ("fp32", "adam_fp32", "grad_fp32"))
    rows = []
    tables.start("Gradients and moments", "file", "rule", "size", "SNR")
    for file in (gradients, moments):
        for rule in (None, "rel=2^-10", "rel=2^-7", "rel=2^-4", "rel=2^-2"):
            packed = wz.pack(file, rule)
            shown = f"{packed.loss['snr']:.1f} dB" if packed.loss else ""
            tables.row(file.stem, rule or "lossless", percent(packed.percent), shown)
            snr = packed.loss and packed.loss["snr"]
            rows.append({"file": file.stem, "rule": rule or "lossless", "default": packed.percent, "snr": snr})
    tables.start(
        f"Training continued: {task.steps} steps of {task.batch} rows", "weights", "moments", "batches",
        "size of both", "loss", "held out", "change",
    )  # fmt: skip
    exact = None
    both = weights.stat().st_size + moments.stat().st_size
    cases = [(None, None, 1), (None, None, 2), (None, None, 3)]
    cases += [("abs=2^-18", "rel=2^-7", 1), ("abs=2^-14", "rel=2^-4", 1), ("abs=2^-10", "rel=2^-2", 1)]
    for of_weights, of_moments, seed in cases:
        packed = [wz.pack(weights, of_weights), wz.pack(moments, of_moments)]
        files = [wz.restore(packed[0]).rename(wz.scratch / "weights.safetensors"), wz.restore(packed[1])]
        loss, model = task.train(*files, seed)
        bits = held_out.bits(model)
        exact = bits if exact is None else exact
        size = sum(one.bytes for one in packed) / both * 100
        row = {"weights": of_weights, "moments": of_moments, "seed": seed, "default": size}
        rows.append(row | {"loss": loss, "bits": bits, "change": bits - exact})
        rules = of_weights or "lossless", of_moments or "lossless"
        seeds = "same" if seed == 1 else "others"
        tables.row(*rules, seeds, percent(size), f"{loss:.4f}", f"{bits:.4f}", f"{bits - exact:+.4f}")
    return rows


def delta(wz: Wz, folder: Path, tables: Tables) -> list[dict]:
    rows = []
    tables.start(
        "Against a base", "model", "base", "which is", "rule", "alone", "next to the base", "next to the rounded base",
    )  # fmt: skip
    for old, new, which in PAIRS:
        base, file = (folder / f"{name}.safetensors" for name in (old, new))
        for rule in (None, "abs=2^-23", "abs=2^-18", "abs=2^-14"):
            found = [wz.pack(file, rule), wz.pack(file, rule, base=base)]
            if rule:
                found.append(wz.pack(file, rule, base=wz.pack(base, rule).path))
            if len({one.blake3 for one in found}) != 1:
                raise SystemExit(f"{new} at {rule}: bases change what is restored")
            sizes = [one.percent for one in found]
            rows.append({"file": new, "base": old, "rule": rule or "lossless", "sizes": sizes})
            tables.row(new, old, which, rule or "lossless", *map(percent, sizes), *([""] * (3 - len(sizes))))
    return rows


SECTIONS = {"minilm": minilm, "gpt": gpt, "digits": digits, "training": training, "delta": delta}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wz", type=Path, default=ROOT / "target/release/wz")
    parser.add_argument("--only", default=",".join(SECTIONS), help="parts, with commas between")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    tables, found = Tables(), {}
    for name, section in SECTIONS.items():
        if name in wanted:
            with tempfile.TemporaryDirectory() as scratch:
                found[name] = section(Wz(args.wz, Path(scratch)), args.folder, tables)
            if args.json:
                args.json.write_text(json.dumps(found, indent=1))
    for line in tables.missed:
        print(f"missed: {line}", file=sys.stderr)
    raise SystemExit(1 if tables.missed else 0)


if __name__ == "__main__":
    main()
