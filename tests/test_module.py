"""The compiled module: round trips of every dtype, and what it refuses."""

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
    "f8_e5m2": ml_dtypes.float8_e5m2,
    "i64": np.int64,
    "u8": np.uint8,
    "bool": np.bool_,
}


def weights(dtype: str, count: int = 200_000) -> np.ndarray:
    """Numbers as bytes: NumPy gives no buffer of a dtype that isn't its own."""
    is_float = "f" in dtype
    values = np.random.default_rng(0).normal(0, 0.02 if is_float else 40, count)
    return values.astype(np.float32 if is_float else np.int32).astype(NUMPY[dtype]).view(np.uint8)


@pytest.fixture
def frame():
    return weightzip.compress(weights("bf16"), "bf16")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", NUMPY)
def test_round_trip(dtype, threads):
    data = weights(dtype)
    frame = weightzip.compress(data, dtype, threads=threads)
    assert weightzip.frame_len(frame) == data.nbytes
    out = np.empty(data.nbytes, np.uint8)
    weightzip.decompress_into(frame, out, threads=threads)
    assert out.tobytes() == data.tobytes()
    assert frame == weightzip.compress(data, dtype, threads=1)


def test_weights_get_smaller():
    data = weights("bf16")
    assert len(weightzip.compress(data, "bf16")) < 0.68 * data.nbytes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.float32)])
def test_any_contiguous_buffer(kind):
    data = weights("f32").tobytes()
    given = kind(data)
    out = np.empty((2, len(data) // 8), np.float32)
    weightzip.decompress_into(memoryview(weightzip.compress(given, "f32")), out)
    assert out.tobytes() == data


def test_nothing_round_trips():
    frame = weightzip.compress(b"", "bf16")
    weightzip.decompress_into(frame, bytearray())
    assert weightzip.frame_len(frame) == 0


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
    with pytest.raises(ValueError, match="shares memory"):
        weightzip.decompress_into(view[: len(frame)], view[len(frame) - 1 :][:400_000])
    weightzip.decompress_into(view[: len(frame)], view[len(frame) :])
    assert view[len(frame) :] == weights("bf16").tobytes()


def test_refuses_gaps(frame):
    with pytest.raises(ValueError, match="contiguous"):
        weightzip.compress(weights("f32").view(np.float32)[::2], "f32")
    with pytest.raises(ValueError, match="contiguous"):
        weightzip.decompress_into(frame, np.empty(800_000, np.uint8)[::2])


def test_refuses_what_has_no_buffer():
    with pytest.raises(TypeError):
        weightzip.compress("text", "bf16")


def test_refuses_unknown_dtypes_and_halves_of_numbers():
    with pytest.raises(ValueError, match='no dtype "float"'):
        weightzip.compress(b"abcd", "float")
    with pytest.raises(ValueError, match="3 bytes are not whole"):
        weightzip.compress(b"abc", "bf16")


def test_damage_is_an_error_of_its_own(frame):
    out = bytearray(400_000)
    damaged = bytearray(frame)
    damaged[len(frame) // 2] ^= 1
    for bad in (damaged, frame[:-100]):
        with pytest.raises(weightzip.WeightzipError):
            weightzip.decompress_into(bad, out)


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
