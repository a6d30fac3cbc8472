"""Compares weightzip with its peers: size, and speed of the block codecs in memory, against memcpy.

    python -m venv .venv-bench
    .venv-bench/bin/pip install -r bench/requirements.txt ./python
    .venv-bench/bin/python bench/compare.py FOLDER [--out bench/results]

FOLDER has the files of bench/corpus.py, which builds the ones that are missing. Written to --out:

    compare.csv     every figure: median, least and greatest
    compare.md      tables: one per dtype, warm and cold, and the project's bars
    compare.png     size against speed, one row per dtype; compare.svg the same

How it is measured:

- The tensors of a file, back to back, without their names and boundaries, repeated to at least
  256 MiB. Sizes are of the data unrepeated. A codec that codes repeated data smaller is named.
  weightzip's size of the whole file as a .wz, which has names and boundaries, stands beside it.
- Everything in one run, in turn, A B C A B C; at least five rounds, after two that don't count.
  A speed is the median, in GB (10^9 bytes) of original data per second; "of memcpy" is the median of ratios
  to the memcpy of the same round and memory.
- The timer covers the call of the package and no more. Input is written afresh before each call;
  every result is compared with the original behind it.
- zlib, at 20 MB/s, is timed on 64 MiB.
- Warm: memory that the process used before (see harness.py). Codecs are compared by this. Cold:
  outputs are fresh pages, as a caller of these packages has it.
- Every package comes from the registry, with its own defaults, told the dtype where it can be;
  weightzip and OpenZL check checksums while decoding. A package that fails is listed with its reason.
- --threads all: codecs that have threads are measured with one per core too, in the same rounds.
- "weightzip max" is level max. It is told the length of rows, as in a file, so each large tensor is a
  frame.
- --simd avx2,scalar: weightzip also as a machine without the better instructions runs it.

Close other programs: the figures are as quiet as the machine.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

import peers
import plot
import report
from harness import MIB, Worker

BENCH = Path(__file__).resolve().parent
# File of the corpus, dtype.
DATA = {
    "minilm_bf16": "bf16",
    "gpt_c_bf16": "bf16",
    "synth_llama_bf16": "bf16",
    "minilm_fp32": "f32",
    "minilm_bf16asfp32": "f32",
    "minilm_fp16asfp32": "f32",
    "gpt_c_grad_fp32": "f32",
    "gpt_c_adam_fp32": "f32",
    "minilm_fp16": "f16",
    "minilm_fp8e4m3": "f8_e4m3",
}
WARM_UP_ROUNDS = 2
REPETITION_POINTS = 0.1


def build_missing(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / f"{name}.safetensors").exists()]
    parts = {name.split("_")[0] for name in missing}
    if parts:
        script = [sys.executable, str(BENCH / "corpus.py"), str(folder), "--only", ",".join(parts)]
        subprocess.run(script, check=True)


class Run:
    """The codecs of one table on one file: which process has each, and what it measured."""

    def __init__(self, args, warm: bool, name: str, workers: dict[str, Worker]):
        self.entries = []
        counts = [1, os.cpu_count()] if args.threads == "all" else [1]
        for simd, worker in workers.items():
            own = [codec for codec in args.codecs if codec.startswith("weightzip")]
            names = args.codecs if simd == "" else own
            codecs = [(codec, count) for codec in names for count in counts if fits(codec, count)]
            path = str(args.folder / f"{name}.safetensors")
            about = worker.ask(
                f"making the codecs for {name}",
                path=path, dtype=DATA[name], codecs=codecs, at_least=args.mib * MIB, warm=warm,
            )  # fmt: skip
            for (codec, count), (key, facts) in zip(codecs, about.items()):
                shown = f"{codec} ({simd})" if simd else codec
                row = {"codec": shown, "threads": count, "reason": ""} | facts
                self.entries.append((worker, key, row, []))

    def round(self) -> None:
        for worker, key, row, times in self.entries:
            if not row["reason"]:
                times.append(worker.ask(row["codec"], run=key))

    def rows(self, common: dict) -> list[dict]:
        copies = {row["threads"]: times for _, _, row, times in self.entries if row["codec"] == "memcpy"}
        for _, _, row, times in self.entries:
            if row["reason"]:
                continue
            counted = times[WARM_UP_ROUNDS:]
            for step in ("encode", "decode"):
                speeds = [row["bytes"] / t[step] / 1e9 for t in counted]
                for name, of in (("", statistics.median), ("_least", min), ("_greatest", max)):
                    row[step + name] = of(speeds)
            copy = copies[row["threads"]][WARM_UP_ROUNDS:]
            whole = copy[0]["coded"] / row["bytes"]
            ratios = [c["decode"] / whole / t["decode"] for c, t in zip(copy, counted)]
            row["of_memcpy"] = statistics.median(ratios)
            repeated = row["bytes"] == copy[0]["coded"]
            if repeated and times[0]["coded"] / row["bytes"] * 100 < row["percent"] - REPETITION_POINTS:
                row["reason"] = "gains from repeated data: its speed is not comparable"
        return [common | row for _, _, row, _ in self.entries]


def fits(name: str, threads: int) -> bool:
    codec = peers.CODECS[name]
    return threads == 1 or codec.threads_encode or codec.threads_decode


def measure(args, memory: str, rows: list[dict]) -> None:
    """Adds all files with warm or with cold memory; what is measured is on disk at once."""
    warm = memory == "warm"
    workers = {simd: Worker(warm, simd or None) for simd in ["", *args.simd]}
    for name in args.data:
        print(f"{memory} {name}", end=" ", flush=True)
        run = Run(args, warm, name, workers)
        for _ in range(WARM_UP_ROUNDS + args.rounds):
            run.round()
            print(".", end="", flush=True)
        print()
        rows += run.rows({"memory": memory, "data": name, "dtype": DATA[name]})
        report.write(rows, args.out / "compare.csv")
    for worker in workers.values():
        worker.close()


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = lambda known: lambda text: [known_name(known, name) for name in text.split(",")]
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?", help="with the corpus")
    parser.add_argument("--out", type=Path, default=BENCH / "results", help="where results go")
    parser.add_argument(
        "--from",
        type=Path,
        dest="csv",
        metavar="CSV",
        help="measure nothing: only write tables and picture of this",
    )
    parser.add_argument("--rounds", type=int, default=5, help="that count (5)")
    parser.add_argument("--threads", choices=["1", "all"], default="1")
    parser.add_argument("--memory", type=names(["warm", "cold"]), default=["warm", "cold"])
    parser.add_argument("--simd", type=names(["avx512", "avx2", "scalar"]), default=[])
    parser.add_argument("--data", type=names(DATA), default=list(DATA), help="some files only")
    parser.add_argument(
        "--codecs",
        type=names(peers.CODECS),
        default=list(peers.CODECS),
        help="some codecs only; memcpy is always measured",
    )
    parser.add_argument("--mib", type=int, default=256, help="least data per file in MiB (256)")
    args = parser.parse_args()
    if not args.folder and not args.csv:
        parser.error("give the FOLDER of the corpus, or --from CSV")
    args.codecs = ["memcpy", *(name for name in args.codecs if name != "memcpy")]
    return args


def known_name(known, name: str) -> str:
    if name not in known:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of: {', '.join(known)}")
    return name


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = report.read(args.csv) if args.csv else []
    if not args.csv:
        build_missing(args.folder, args.data)
        for memory in args.memory:
            measure(args, memory, rows)
    report.write(rows, args.out / "compare.csv")
    text = report.tables(rows) + report.bars(rows)
    (args.out / "compare.md").write_text(text)
    print(text)
    for suffix in ("png", "svg"):
        plot.draw(rows, args.out / f"compare.{suffix}")


if __name__ == "__main__":
    main()
