"""What a person waits for: file to verified file, .wz to file, .wz to tensors; warm and cold.

    cargo build --release && cargo build --release -p weightzip --example load
    python bench/end_to_end.py FILE.safetensors [--threads 2] [--pairs 9] [--folder FOLDER]

Each command runs in turn with `dd bs=1M conv=fsync` of the original, in pairs; printed are medians of the
seconds and of the pairs' ratios. Warm: the input is in the page cache. Cold: it was dropped from it.
Outputs are new files in FOLDER (default: beside FILE), synced, and removed before the next run. needs: Linux
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", Path(__file__).resolve().parent.parent / "target")) / "release"
STAGES = ["read", "encode", "check", "decode", "hash", "write", "sync"]


def run(command: list) -> tuple[float, str]:
    """Seconds that a command took, and what it printed."""
    start = time.perf_counter()
    done = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stdout


def cache(path: Path, keep: bool) -> None:
    """Brings a file to the page cache, or drops it from there."""
    with path.open("rb") as file:
        if keep:
            while file.read(1 << 24):
                pass
        else:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pairs(command: list, source: Path, output: Path, dd: list, original: Path, warm: bool, count: int) -> tuple:
    """Medians of a command's seconds and of its ratios to dd, which copies the original."""
    seconds, ratios = [], []
    for pair in range(count + 1):
        times = []
        for step, read in ((command, source), (dd, original)):
            cache(read, warm)
            for left in (output, Path(dd[2].removeprefix("of="))):
                left.unlink(missing_ok=True)
            os.sync()
            times.append(run(step)[0])
        if pair > 0:  # the first one warms up
            seconds.append(times[0])
            ratios.append(times[0] / times[1])
    return statistics.median(seconds), statistics.median(ratios)


def stages(command: list, output: Path, count: int) -> tuple[float, dict[str, float]]:
    """Medians of the whole and of each stage, with one thread: they add up."""
    walls, all_stages = [], []
    for _ in range(count):
        output.unlink(missing_ok=True)
        os.sync()
        seconds, printed = run([*command, "--threads", "1", "--timings", "--json"])
        walls.append(seconds)
        timed = json.loads(printed)["files"][0]["stages"]
        all_stages.append({stage["name"]: stage["seconds"] for stage in timed})
    named = {name: statistics.median(s.get(name, 0) for s in all_stages) for name in STAGES}
    return statistics.median(walls), {name: s for name, s in named.items() if s > 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    folder, original = args.folder or args.file.parent, args.file
    wz, load = TARGET / "wz", TARGET / "examples" / "load"
    packed, new, back = (folder / f".end_to_end.{end}" for end in ("wz", "new", "back"))
    dd = ["dd", f"if={original}", f"of={folder / '.end_to_end.dd'}", "bs=1M", "conv=fsync"]
    threads = ["--threads", args.threads]
    size = original.stat().st_size
    try:
        run([wz, "compress", "-q", "-f", original, "-o", packed])
        steps = [
            ("compress", [wz, "compress", "-q", original, "-o", new, *threads], original, new),
            ("decompress", [wz, "decompress", "-q", packed, "-o", back, *threads], packed, back),
            ("load tensors", [load, packed, args.threads], packed, back),
        ]
        print(f"{original.name}: {size / 1e6:.0f} MB, {args.threads} threads, medians of {args.pairs} pairs\n")
        print("| step | warm, s | GB/s | of dd | cold, s | GB/s | of dd |\n|---|---:|---:|---:|---:|---:|---:|")
        for name, command, source, output in steps:
            cells = []
            for warm in (True, False):
                seconds, ratio = pairs(command, source, output, dd, original, warm, args.pairs)
                cells += [f"{seconds:.3f}", f"{size / seconds / 1e9:.2f}", f"{ratio:.2f}"]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print("\nOne thread, warm: stages in seconds, and the whole\n")
        for name, command, source, output in steps[:2]:
            cache(source, True)
            wall, named = stages(command[:-2], output, args.pairs)
            parts = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in named.items())
            print(f"- {name}: {parts}; sum {sum(named.values()):.3f} of {wall:.3f}", flush=True)
    finally:
        for left in (packed, new, back, Path(dd[2].removeprefix("of="))):
            left.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
