"""Ctrl-C: KeyboardInterrupt comes at once, and nothing half-written stays."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import weightzip

LIMIT = 0.2
DELAY = 0.05
# When a test gives up, should nothing interrupt it.
PATIENCE = 20


@pytest.fixture(scope="module")
def large():
    """Bytes that zstd takes long for: with one thread several times LIMIT to compress them, and more than LIMIT to restore them."""
    numbers = np.random.default_rng(0)
    some = numbers.integers(0, 256, 48_000_000, np.uint8)
    some &= numbers.integers(0, 256, 48_000_000, np.uint8)
    return np.tile(some, 8)


@pytest.fixture(autouse=True)
def one_thread():
    before = weightzip.threads()
    weightzip.set_threads(1)
    yield
    weightzip.set_threads(before)


def interrupted(work) -> None:
    """Does `work` again and again, and interrupts it."""
    sent, over = [], threading.Event()

    def send():
        if not over.wait(DELAY):
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    deadline = time.monotonic() + PATIENCE
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            while time.monotonic() < deadline:
                work()
        took = time.perf_counter() - sent[0]
    finally:
        over.set()
        thread.join()
    assert took < LIMIT


def hang() -> None:
    """Waits for something that doesn't come."""
    time.sleep(PATIENCE)
    raise TimeoutError("nothing has interrupted it")


def test_compress(large):
    interrupted(lambda: weightzip.compress(large, "u8"))


def test_decompress(large):
    frame = weightzip.compress(large, "u8")
    out = np.empty_like(large)
    interrupted(lambda: weightzip.decompress_into(frame, out))


def test_reading(large):
    wz = weightzip.write_bytes([large])
    archive = weightzip.open(wz)
    interrupted(archive.original)
    assert archive.original(0, 4000) == large[:4000].tobytes()


def test_writing_leaves_no_partial_file(large, tmp_path):
    target = tmp_path / "model.wz"
    interrupted(lambda: weightzip.write([large], target))
    assert not list(tmp_path.iterdir())
    target.write_bytes(b"before")
    interrupted(lambda: weightzip.write([large], target))
    assert target.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


class Slow(io.BytesIO):
    """A connection that hangs."""

    slow = False

    def read(self, size=-1):
        if self.slow:
            hang()
        return super().read(size)

    def write(self, data):
        hang()


@pytest.mark.parametrize("threads", [1, 3])
def test_slow_files(large, threads):
    weightzip.set_threads(threads)
    file = Slow(weightzip.write_bytes([large[:80_000_000]]))
    archive = weightzip.open(file)
    file.slow = True
    interrupted(archive.original)
    interrupted(lambda: archive.original(0, 10))
    interrupted(lambda: weightzip.open(file))
    file.slow = False
    assert archive.original(0, 4000) == large[:4000].tobytes()
    interrupted(lambda: weightzip.write([b"some"], Slow()))


def test_slow_parts():
    def parts():
        yield b"some"
        hang()

    interrupted(lambda: weightzip.write_bytes(parts()))


def test_a_call_that_waits_for_another_one(large):
    """Both have one file, which only one can read at a time."""
    file = Slow(weightzip.write_bytes([large[:4000]]))
    archive, entered, leave = weightzip.open(file), threading.Event(), threading.Event()

    def read(size=-1):
        entered.set()
        leave.wait(PATIENCE)
        return io.BytesIO.read(file, size)

    file.read = read
    other = threading.Thread(target=archive.original)
    other.start()
    assert entered.wait(PATIENCE)
    try:
        interrupted(archive.original)
    finally:
        leave.set()
        other.join()


WITHOUT_THREADS = """
import io, os, resource, numpy, weightzip, weightzip.errors
os.setgid(65534) or os.setuid(65534) if os.geteuid() == 0 else None
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
data, seen = bytes(range(256)) * 200_000, []
wz = weightzip.write_bytes([data], progress=lambda *at: seen.append(at))
assert weightzip.open(io.BytesIO(wz)).original() == data and seen[-1] == (len(data), len(data))
numbers = numpy.arange(10_000_000, dtype="f4")
out = numpy.empty_like(numbers)
weightzip.decompress_into(weightzip.compress(numbers, "f32"), out)
assert (out == numbers).all()
def parts():
    yield b"some"
    raise LookupError("no more")
try:
    weightzip.write_bytes(parts())
except LookupError:
    print("all")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no limit of threads that can be tested")
def test_one_thread_is_enough():
    done = subprocess.run([sys.executable, "-c", WITHOUT_THREADS], capture_output=True, text=True)
    assert done.stdout == "all\n", done.stderr
