"""Times codecs in a process of its own, which bench/compare.py starts with the environment that a
table needs, and asks by lines of JSON: `Worker` is the asking side, `serve` the asked one.

Before each call, outside the timer, the input is written afresh (ZipNN overwrites its own), and
before decoding so is the output, so that a check of it can't see an earlier result.

warm    one process keeps its memory: the allocator is told never to give any back, and decoders
        that can write into given memory write into the same every time
cold    the allocator's defaults; every output is memory that was never touched
"""

import gc
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import peers

MIB = 1 << 20
# Large blocks from the heap, the heap never shrinks, and huge pages as NumPy's arrays have them.
WARM = {
    "mmap_max": 0,
    "trim_threshold": 1 << 40,
    "top_pad": 64 * MIB,
    "hugetlb": 1,
}
SAMPLE_BYTES = 64 * MIB


def tensors_of(path: Path, dtype: str) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """All tensors of one dtype in a safetensors file: their bytes, back to back, and of each how
    many bytes and what shape."""
    content = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    header.pop("__metadata__", None)
    found = [t for t in header.values() if t["dtype"].lower() == dtype]
    found.sort(key=lambda tensor: tensor["data_offsets"])
    places = [tensor["data_offsets"] for tensor in found]
    tensors = [(end - begin, tensor["shape"]) for (begin, end), tensor in zip(places, found)]
    return np.concatenate([content[start + begin : start + end] for begin, end in places]), tensors


class Bench:
    """Codecs over one file's tensors, repeated until they are at least `at_least` bytes."""

    def __init__(self, path: str, dtype: str, codecs: list, at_least: int, warm: bool):
        self.warm = warm
        tile, self.tensors = tensors_of(Path(path), dtype)
        self.original = np.tile(tile, -(-at_least // len(tile)))
        self.given = bytearray(len(self.original))
        self.out = np.empty(len(self.original), np.uint8) if warm else None
        self.codecs, self.about = {}, {}
        for name, threads in codecs:
            key = f"{name}@{threads}"
            try:
                self.codecs[key], self.about[key] = self.prepare(name, dtype, threads, tile)
                self.about[key]["file_percent"] = self.codecs[key].file_percent(Path(path))
            except Exception as error:  # whatever a package raises: it becomes a line of the table
                self.about[key] = {"reason": f"{type(error).__name__}: {error}".splitlines()[0]}

    def prepare(self, name, dtype, threads, tile):
        kind = peers.CODECS[name]
        codec = kind(dtype, threads, bytearray(tile[:SAMPLE_BYTES]))
        codec.consists_of(self.tensors)
        codec.before()
        coded = codec.encode(bytearray(tile))
        about = {"percent": len(coded) / len(tile) * 100, "version": kind.version()}
        return codec, about | {"bytes": min(kind.limit or sys.maxsize, len(self.original))}

    def run(self, key: str) -> dict:
        """One round trip: seconds of encoding and of decoding, and the coded length."""
        codec, size = self.codecs[key], self.about[key]["bytes"]
        original, given = self.original[:size], memoryview(self.given)[:size]
        np.copyto(np.frombuffer(given, np.uint8), original)
        # Whole, it is passed as what it is: not every package takes a view.
        given = self.given if size == len(self.given) else given
        codec.before()
        start = time.perf_counter()
        coded = codec.encode(given)
        encode = time.perf_counter() - start
        out = self.output(size)
        start = time.perf_counter()
        decoded = codec.decode(coded, out)
        decode = time.perf_counter() - start
        if not np.array_equal(np.frombuffer(decoded, np.uint8), original):
            raise SystemExit(f"{key} did not give its input back")
        return {"encode": encode, "decode": decode, "coded": len(coded)}

    def output(self, size: int) -> np.ndarray:
        if not self.warm:
            return np.frombuffer(mmap.mmap(-1, size), np.uint8)
        self.out[:size] = 0xA5
        return self.out[:size]


def serve() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a package prints goes elsewhere
    gc.disable()
    bench = None
    for line in sys.stdin:
        command = json.loads(line)
        if "run" in command:
            reply = bench.run(command["run"])
        else:
            bench = None
            bench = Bench(**command)
            reply = bench.about
        print(json.dumps(reply), file=replies, flush=True)


class Worker:
    """A process that serves, warm or cold, at one SIMD level of weightzip (None: the machine's)."""

    def __init__(self, warm: bool, simd: str | None = None):
        environment = dict(os.environ)
        environment.pop("WEIGHTZIP_SIMD", None)
        if warm:
            tunables = (f"glibc.malloc.{name}={value}" for name, value in WARM.items())
            environment["GLIBC_TUNABLES"] = ":".join(tunables)
        if simd:
            environment["WEIGHTZIP_SIMD"] = simd
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str, **command) -> dict:
        """Sends a command; `what` names it if the process dies of it."""
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # the missing reply says it
        reply = self.process.stdout.readline()
        if not reply:
            code = self.process.wait()
            cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
            raise SystemExit(f"{what} ended its process: {cause}")
        return json.loads(reply)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    serve()
