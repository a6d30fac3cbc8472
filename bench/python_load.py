"""Loading and saving tensors from Python, beside safetensors and ZipNN; prints the tables of docs/EVALUATION.md.

    python bench/python_load.py FOLDER [--threads 2] [--pairs 9]

FOLDER has the corpus (bench/corpus.py). Contestants run in turn in one process, in pairs, with files in the page
cache; printed are medians of the seconds with their range, and medians of the pairs' ratios. Memory is taken in a
process of its own each. Needs Linux, the packages of tests/requirements-torch.txt, and zipnn for its row.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import safetensors.torch as plain
import torch
import weightzip
import weightzip.torch as wz

MIB = 1 << 20
MODEL = "synth_llama_bf16.safetensors"
SLOW, AHEAD = 200e6, MIB  # bytes per second, and bytes that a line holds
SMALL, ELEMENTS = 100_000, 64


class Throttled:
    """A file over a slow line: a read returns when its bytes have come through."""

    def __init__(self, path: Path):
        self.file = path.open("rb", buffering=0)
        self.seek = self.file.seek
        self.free = time.perf_counter()

    def read(self, size: int = -1) -> bytes:
        found = self.file.read(size)
        # The line goes on between reads, as far as a socket's buffer has room.
        self.free = max(self.free, time.perf_counter() - AHEAD / SLOW) + len(found) / SLOW
        time.sleep(max(0, self.free - time.perf_counter()))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def load_from_line(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a compressed file over a slow line."""
    with Throttled(path) as line, weightzip.open(line) as archive:
        memory = archive.read_many()
        return {name: torch.frombuffer(data, dtype=torch.uint8) for name, data in memory.items()}


def load_plain_from_line(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a plain file over a slow line, over the bytes of a single read."""
    with Throttled(path) as line:
        return plain.load(line.read(path.stat().st_size))


def load_plain(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in memory of their own: as safetensors gives them, they are pages of the file."""
    return {name: tensor.clone() for name, tensor in plain.load_file(path).items()}


class Row(NamedTuple):
    """What is timed; `at_most` bounds how many times `other` `ours` may take."""

    name: str
    ours: Callable[[], object]
    other_name: str
    other: Callable[[], object]
    at_most: float


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    kept = work()
    taken = time.perf_counter() - start
    del kept  # what it takes to let go of the memory is not counted
    return taken


def timed(row: Row, pairs: int) -> str:
    """A line of the table."""
    times = [(seconds(row.ours), seconds(row.other)) for _ in range(pairs + 1)][1:]  # the first one warms up
    ours, other = zip(*times)
    ratio = statistics.median(a / b for a, b in times)
    kept = "yes" if ratio <= row.at_most else "**no**"
    cells = [row.name, spread(ours), row.other_name, spread(other), f"{ratio:.2f}", f"{row.at_most:.2f}", kept]
    return f"| {' | '.join(cells)} |"


def spread(taken: tuple[float, ...]) -> str:
    return f"{statistics.median(taken):.3f} ({min(taken):.3f} to {max(taken):.3f})"


def rows(model: Path, folder: Path, threads: int) -> list[Row]:
    """What is timed, and the files for it."""
    packed, tensors = folder / "model.wz", load_plain(model)
    wz.save_file(tensors, packed)
    small, packed_small = folder / "small.safetensors", folder / "small.wz"
    values = torch.randn(SMALL, ELEMENTS).to(torch.bfloat16)
    many = {f"model.layers.{i // 1000}.experts.{i % 1000}.scale": values[i] for i in range(SMALL)}
    plain.save_file(many, small)
    wz.save_file(many, packed_small)
    new, new_plain = folder / "new.wz", folder / "new.safetensors"
    found = [
        Row("load", lambda: wz.load_file(packed), "safetensors, cloned", lambda: load_plain(model), 0.5),
        Row(
            "save",
            lambda: wz.save_file(tensors, new),
            "safetensors",
            lambda: plain.save_file(tensors, new_plain),
            2,
        ),
        Row(
            "load, 200 MB/s",
            lambda: load_from_line(packed),
            "raw, 200 MB/s",
            lambda: load_plain_from_line(model),
            1 / 1.4,
        ),
        Row(
            "load 10^5 tensors",
            lambda: wz.load_file(packed_small),
            "safetensors",
            lambda: plain.load_file(small),
            1.5,
        ),
    ]
    zipnn = zipnn_row(model, packed, threads)
    return [found[0], zipnn, *found[1:]] if zipnn else found


def zipnn_row(model: Path, packed: Path, threads: int) -> Row | None:
    """ZipNN has all tensors' bytes in memory, in one call and without names."""
    import harness
    import peers

    content = bytearray(harness.tensor_bytes(model, "bf16"))
    try:
        zipnn = peers.ZipNN("bf16", threads, None)
    except ImportError:
        return None
    coded = zipnn.encode(content)
    return Row("load", lambda: wz.load_file(packed), "ZipNN, decompress", lambda: zipnn.decode(coded, None), 0.6)


# Prints by how much the most memory in use grew.
PEAK = """
import sys, torch, weightzip, weightzip.torch as wz
weightzip.set_threads(int(sys.argv[2]))
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
start = peak()
loaded = wz.load_file(sys.argv[1])
print(peak() - start, sum(tensor.nbytes for tensor in loaded.values()))
"""


def memory(packed: Path, threads: int) -> str:
    """A line of the table of memory."""
    command = [sys.executable, "-c", PEAK, str(packed), str(threads)]
    peak, tensors = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    kept = "yes" if peak <= tensors + 128 * MIB else "**no**"
    return f"| load | {tensors / MIB:.0f} MiB | {(peak - tensors) / MIB:.0f} MiB | 128 MiB | {kept} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    weightzip.set_threads(args.threads)
    torch.set_num_threads(args.threads)
    model = args.folder / MODEL
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        print(f"{model.stem}: {model.stat().st_size / 1e6:.0f} MB, {args.threads} threads, {args.pairs} pairs\n")
        print("| | weightzip, s | next to | s | ratio | at most | kept |\n|---|---:|---|---:|---:|---:|---|")
        for row in rows(model, folder, args.threads):
            print(timed(row, args.pairs), flush=True)
        print("\n| | tensors | peak memory beyond them | at most | kept |\n|---|---:|---:|---:|---|")
        print(memory(folder / "model.wz", args.threads))


if __name__ == "__main__":
    main()
