"""Frames: round trips of every dtype, what is refused, and what must never happen to the input."""

import os
import pickle
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
import weightzip

NUMPY = {
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "f32": np.float32,
    "f64": np.float64,
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "i64": np.int64,
    "u8": np.uint8,
    "bool": np.bool_,
}


def weights(dtype: str, count: int = 200_000) -> np.ndarray:
    """Numbers as bytes: NumPy gives no buffer of a dtype that isn't its own."""
    is_float = "f" in dtype.lower()
    values = np.random.default_rng(0).normal(0, 0.02 if is_float else 40, count)
    return values.astype(np.float32 if is_float else np.int32).astype(NUMPY[dtype]).view(np.uint8)


@pytest.fixture
def frame():
    return weightzip.compress(weights("bf16"), "bf16")


@pytest.fixture
def threads():
    """Sets the number of threads, until the test ends."""
    before = weightzip.threads()
    yield weightzip.set_threads
    weightzip.set_threads(before)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", NUMPY)
def test_round_trip(dtype, count, threads):
    data = weights(dtype)
    threads(count)
    frame = weightzip.compress(data, dtype)
    assert weightzip.frame_len(frame) == data.nbytes
    assert weightzip.decompress(frame) == data.tobytes()
    out = np.empty(data.nbytes, np.uint8)
    weightzip.decompress_into(frame, out)
    assert out.tobytes() == data.tobytes()
    threads(1)
    assert frame == weightzip.compress(data, dtype)


def test_weights_get_smaller():
    data = weights("bf16")
    assert len(weightzip.compress(data, "bf16")) < 0.68 * data.nbytes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.float32)])
def test_any_contiguous_buffer(kind):
    data = weights("f32").tobytes()
    frame = weightzip.compress(kind(data), "f32")
    out = np.empty((2, len(data) // 8), np.float32)
    for held in (frame, memoryview(frame), bytearray(frame), np.frombuffer(frame, np.uint8)):
        weightzip.decompress_into(held, out)
        assert out.tobytes() == data
        out[:] = 0


def test_nothing_round_trips():
    frame = weightzip.compress(b"", "bf16")
    weightzip.decompress_into(frame, bytearray())
    assert weightzip.decompress(frame) == b"" and weightzip.frame_len(frame) == 0


@pytest.mark.parametrize("count", [1, 3_000_000])
def test_memory_is_ones_own_and_writable(count):
    """Small, and large enough for huge pages."""
    view = weightzip.decompress(weightzip.compress(weights("f32", count), "f32"))
    array = np.frombuffer(view, np.float32)
    assert array.flags.writeable and np.shares_memory(array, np.frombuffer(view, np.uint8))
    del view
    array += 1
    assert abs(array - 1).max() < 1


@pytest.mark.parametrize("dtype", ["bf16", "f32", "u8"])
def test_input_is_never_changed(dtype):
    data = weights(dtype, 3_000_000)
    fixed, changeable = data.tobytes(), bytearray(data)
    frame = weightzip.compress(fixed, dtype)
    assert weightzip.compress(changeable, dtype) == frame
    copy = bytearray(frame)
    weightzip.decompress(copy)
    assert fixed == data.tobytes() == changeable and copy == frame


def lender(data):
    """Bytes that hand out other memory than their own."""

    class Lender(bytes):
        def __buffer__(self, flags):
            return memoryview(data).cast("B")

    return Lender()


since_buffers = pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with Python 3.12")


@pytest.mark.parametrize(
    "given",
    [
        lambda data: data,
        pytest.param(lender, marks=since_buffers),
        pytest.param(lambda data: memoryview(lender(data)), marks=since_buffers),
    ],
)
def test_input_may_change_meanwhile(given):
    """A tensor that training changes: the frame has each block as it was at some time."""
    data = weights("f32", 12_000_000)
    numbers, done = data.view(np.uint32), threading.Event()

    def train():
        while not done.is_set():
            numbers[:] ^= 0x7FFF

    thread = threading.Thread(target=train)
    thread.start()
    try:
        frames = [weightzip.compress(given(data), "f32") for _ in range(3)]
    finally:
        done.set()
        thread.join()
    for frame in frames:
        assert weightzip.frame_len(frame) == data.nbytes
        got = np.frombuffer(weightzip.decompress(frame), np.uint32)
        assert np.isin(got ^ numbers, (0, 0x7FFF)).all()


@pytest.mark.parametrize("extra", [-2, 2, -400_000])
def test_refuses_another_length(frame, extra):
    with pytest.raises(ValueError, match="400000 bytes don't fit"):
        weightzip.decompress_into(frame, bytearray(400_000 + extra))


def test_refuses_read_only_output(frame):
    with pytest.raises(ValueError, match="read-only"):
        weightzip.decompress_into(frame, bytes(400_000))


def test_refuses_overlap(frame):
    memory = bytearray(frame) + bytearray(400_000)
    view = memoryview(memory)
    with pytest.raises(ValueError, match="shares memory with the input"):
        weightzip.decompress_into(view[: len(frame)], view[len(frame) - 1 :][:400_000])
    weightzip.decompress_into(view[: len(frame)], view[len(frame) :])
    assert view[len(frame) :] == weights("bf16").tobytes()


def test_refuses_gaps(frame):
    with pytest.raises(ValueError, match="contiguous"):
        weightzip.compress(weights("f32").view(np.float32)[::2], "f32")
    with pytest.raises(ValueError, match="contiguous"):
        weightzip.decompress_into(frame, np.empty(800_000, np.uint8)[::2])


def test_level_max_makes_use_of_rows():
    scale = np.exp2(np.random.default_rng(1).uniform(-2, 2, (512, 1)))
    values = np.random.default_rng(0).normal(0, 0.02, (512, 512)) * scale
    data = (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    default, flat, rows = (
        weightzip.compress(data, "bf16", **kwargs)
        for kwargs in ({}, {"level": "max"}, {"level": "max", "row": 512})
    )
    assert len(rows) < 0.98 * len(flat) and len(flat) < len(default)
    assert weightzip.decompress(rows) == weightzip.decompress(flat) == data.tobytes()


def test_refuses_what_has_no_buffer():
    with pytest.raises(TypeError):
        weightzip.compress("text", "bf16")


def test_refuses_unknown_names_and_halves_of_numbers():
    with pytest.raises(weightzip.InvalidArgumentError, match='no dtype "float"'):
        weightzip.compress(b"abcd", "float")
    with pytest.raises(weightzip.InvalidArgumentError, match='level "best" is not one of'):
        weightzip.compress(b"abcd", "bf16", "best")
    with pytest.raises(weightzip.InvalidArgumentError, match="3 bytes are not whole"):
        weightzip.compress(b"abc", "bf16")


def test_damage_has_a_class_and_a_place(frame):
    damaged = bytearray(frame)
    damaged[len(frame) // 2] ^= 1
    with pytest.raises(weightzip.CorruptionError, match=r"^corrupt: .* \(at byte \d+\)$") as caught:
        weightzip.decompress(damaged)
    assert caught.value.kind == "corrupt" and 0 < caught.value.offset < len(frame)
    with pytest.raises(weightzip.InsufficientDataError) as caught:
        weightzip.decompress_into(frame[:-100], bytearray(400_000))
    assert isinstance(caught.value, weightzip.WeightzipError)


@pytest.mark.parametrize("kind", [weightzip.CorruptionError, weightzip.ReadWriteError])
def test_errors_travel_between_processes(kind):
    error = pickle.loads(pickle.dumps(kind("why", file="x.wz", offset=7, tensor="w")))
    assert type(error) is kind and str(error) == f"{kind.kind}: why (x.wz, at byte 7, tensor 'w')"


def test_other_threads_run_meanwhile():
    data, ticks, done = weights("f32", 20_000_000), 0, threading.Event()

    def compress():
        weightzip.compress(data, "f32")
        done.set()

    thread = threading.Thread(target=compress)
    thread.start()
    while not done.wait(0.001):
        ticks += 1
    thread.join()
    assert ticks > 3


def test_progress_adds_up_and_may_end_the_work():
    data, seen = weights("f32", 20_000_000), []
    frame = weightzip.compress(data, "f32", progress=lambda *at: seen.append(at))
    assert seen[-1][0] >= data.nbytes and seen == sorted(seen)
    seen.clear()
    weightzip.decompress(frame, progress=lambda *at: seen.append(at))
    assert seen[-1] == (data.nbytes, data.nbytes)

    def stop(done, total):
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        weightzip.compress(data, "f32", progress=stop)


@pytest.mark.parametrize(("world", "share"), [("2", 2), ("1", 1), ("1000000", 1000000), ("many", 1)])
def test_processes_of_a_machine_share_its_cores(world, share):
    code = "import os, weightzip; print(len(os.sched_getaffinity(0)), weightzip.threads())"
    environment = dict(os.environ, LOCAL_WORLD_SIZE=world)
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    cores, threads = map(int, output.split())
    assert threads == max(1, cores // share)


@pytest.mark.parametrize("count", [0, -1])
def test_no_threads_are_refused(count):
    with pytest.raises(ValueError, match="at least one thread"):
        weightzip.set_threads(count)
