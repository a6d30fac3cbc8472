"""The size and memory tables of docs/EVALUATION.md, for the files that bench/corpus.py builds.

    cargo build --release
    python bench/evaluate.py FOLDER [--wz target/release/wz] [--only PREFIX] [--level max]

Every file is compressed on one thread and verified against a SHA-256 that is
taken from the original. Exits with 1 if a size or a peak of memory is above its bound.
Standard library only; bench/order0.py, which it calls, needs numpy. Linux only.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Largest size of the whole .wz in percent of the original.
BOUNDS = {
    "minilm_bf16": 66.6,
    "minilm_bf16asfp32": 33.4,
    "minilm_fp16asfp32": 42.8,
    "minilm_fp32": 82.0,
    "minilm_fp16": 85.3,
    "minilm_int8": 63.7,
    "minilm_int8rows": 91.5,
    "minilm_fp8e4m3": 83.1,
    "gpt_?_grad_fp32": 34.3,
    "gpt_?_adam_fp32": 81.8,
}
MAX_BOUNDS = {
    "minilm_bf16": 65.7,
    "gpt_?_bf16": 65.6,
    "synth_llama_bf16": 65.6,
    "minilm_bf16asfp32": 32.9,
    "minilm_fp16asfp32": 42.3,
    "minilm_fp32": 81.5,
    "minilm_fp16": 84.6,
    "minilm_int8": 61.0,
    "minilm_int8rows": 91.4,
    "minilm_fp8e4m3": 82.0,
    "gpt_?_adam_fp32": 81.3,
}
# This one is bounded by its own order-0 entropy, plus so many points.
CLEAN_FP16, CLEAN_FP16_POINTS = "minilm_bf16asfp16", 0.4
MEMORY_FILE, MEMORY_MIB = "synth_llama_bf16", 256


def bound_of(path: Path, level: str) -> float | None:
    if path.stem == CLEAN_FP16 and level == "default":
        script = [sys.executable, str(ROOT / "bench/order0.py"), "--json", str(path)]
        found = subprocess.run(script, check=True, capture_output=True, text=True)
        return json.loads(found.stdout)["narrow"] + CLEAN_FP16_POINTS
    bounds = BOUNDS if level == "default" else MAX_BOUNDS
    return next((b for pattern, b in bounds.items() if fnmatch.fnmatch(path.stem, pattern)), None)


def run(*command: object) -> int:
    """Runs a command that must succeed; returns its peak resident memory in bytes."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed with {process.returncode}")
    return usage.ru_maxrss * 1024


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def compress(wz: Path, level: str, original: Path, packed: Path) -> int:
    """Compresses and verifies; returns the peak memory of compressing."""
    peak = run(wz, "compress", "--quiet", "--threads", 1, "--level", level, "-o", packed, original)
    run(wz, "verify", "--quiet", "--threads", 1, "--sha256", sha256(original), packed)
    return peak


def size_table(wz: Path, level: str, files: list[Path], folder: Path) -> bool:
    """Prints the table; returns whether every bound is kept."""
    print("| file | bytes | .wz bytes | size | at most | kept |")
    print("|---|---:|---:|---:|---:|---|")
    all_kept = True
    for original in files:
        packed = folder / f"{original.name}.wz"
        compress(wz, level, original, packed)
        before, after = original.stat().st_size, packed.stat().st_size
        packed.unlink()
        percent, bound = after / before * 100, bound_of(original, level)
        kept = bound is None or percent <= bound
        all_kept &= kept
        at_most, word = ("", "") if bound is None else (f"{bound:.2f} %", "yes" if kept else "**no**")
        row = f"| {original.stem} | {before:,} | {after:,} | {percent:.2f} % | {at_most} | {word} |"
        print(row, flush=True)
    return all_kept


def memory_table(wz: Path, level: str, original: Path, folder: Path) -> bool:
    """Prints peaks of resident memory; returns whether both stay under the bound."""
    packed, restored = folder / "memory.wz", folder / "memory"
    peaks = {"compress": compress(wz, level, original, packed)}
    peaks["decompress"] = run(wz, "decompress", "--quiet", "--threads", 1, "-o", restored, packed)
    if sha256(restored) != sha256(original):
        raise SystemExit(f"{original.name}: the restored file differs")
    print(f"\n| {original.stem} | peak resident memory | at most | kept |")
    print("|---|---:|---:|---|")
    for command, peak in peaks.items():
        kept = "yes" if peak <= MEMORY_MIB << 20 else "**no**"
        print(f"| {command} | {peak / (1 << 20):.0f} MiB | {MEMORY_MIB} MiB | {kept} |")
    return all(peak <= MEMORY_MIB << 20 for peak in peaks.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wz", type=Path, default=ROOT / "target/release/wz")
    parser.add_argument("--only", default="", metavar="PREFIX", help="files whose names start so")
    parser.add_argument("--level", choices=["default", "max"], default="default")
    args = parser.parse_args()
    files = sorted(f for f in args.folder.iterdir() if f.suffix in (".safetensors", ".pt"))
    files = [f for f in files if f.name.startswith(args.only)]
    if not files:
        raise SystemExit(f"{args.folder} has no such files; bench/corpus.py builds them")
    with tempfile.TemporaryDirectory() as folder:
        kept = size_table(args.wz, args.level, files, Path(folder))
        for large in (f for f in files if f.stem == MEMORY_FILE):
            kept &= memory_table(args.wz, args.level, large, Path(folder))
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
