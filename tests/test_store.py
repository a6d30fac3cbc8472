"""weightzip.checkpoint with NumPy alone; torch/test_checkpoint_store.py has the rest."""

import errno
import fcntl
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import threading
from collections import Counter, OrderedDict

import numpy as np
import pytest
import safetensors.numpy
import weightzip
from test_numpy import DTYPES, array
from weightzip import _state
from weightzip.checkpoint import CheckpointStore

FILE = "step-{:08}.safetensors"


def weights(step: int) -> np.ndarray:
    """Those of a step, near to those of the one before."""
    values = np.random.default_rng(0).normal(0, 0.02, (64, 256))
    return (values * (1 + step * 1e-4)).astype(np.float32)


def state(step: int) -> dict:
    return {"model": {"w": weights(step)}, "step": step}


def is_state(got: dict, step: int) -> bool:
    return got.keys() == state(step).keys() and got["step"] == step and same(got["model"]["w"], weights(step))


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    return (type(got), got.dtype, got.shape, got.tobytes()) == (
        np.ndarray,
        expected.dtype,
        expected.shape,
        expected.tobytes(),
    )


@pytest.fixture
def store(tmp_path):
    with CheckpointStore(tmp_path / "run") as store:
        yield store


@pytest.fixture
def slow(store, monkeypatch):
    """Lets the store write only when that is set."""
    chain, may_write = store._chain, threading.Event()

    class Slow:
        def add(self, *arguments):
            assert may_write.wait(60)
            return chain.add(*arguments)

        def __getattr__(self, name):
            return getattr(chain, name)

    monkeypatch.setattr(store, "_chain", Slow())
    yield may_write
    may_write.set()


def run(script: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


VALUES = [
    *[None, True, False, 0, 1, -7, 1 << 62, 1 << 63, -(1 << 63), 10**5000, 1.0, -0.0, 0.1, 5e-324, 1.7e308],
    *["", "text", 'ü\n"\\\u2028\0', "\udcff", [], [[]], (), ((1,), [2]), {}, OrderedDict(), Counter()],
    {1: "a", "1": "b", None: "c", (1, ("x", 2.5)): "d", True.real + 1: 3, 0.5: 4, False: 5, "a.b": 6, "": 7},
    OrderedDict([("z", 1), ("a", (None, [True]))]),
    Counter("abca"),
    [{"tuple": 1}, {"float": "x"}, {"array": "w"}, {"dict": {}}],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{value!a:.30}" if value != 10**5000 else "large")
def test_values_come_back_as_they_were(value, store):
    store.save(0, {"value": value, "weights": weights(0)})
    assert alike(store.load()["value"], value)


def alike(got, expected) -> bool:
    """Equal, and of equal types all the way down."""
    if type(got) is not type(expected):
        return False
    if isinstance(expected, dict):
        return alike(list(got.items()), list(expected.items()))
    if isinstance(expected, (list, tuple)):
        return len(got) == len(expected) and all(map(alike, got, expected))
    return got == expected


def test_floats_that_are_not_finite_keep_their_bits(store):
    patterns = ["7ff0000000000000", "fff0000000000000", "7ff8000000000000", "fff8000000000abc", "8000000000000000"]
    floats = [struct.unpack(">d", bytes.fromhex(bits))[0] for bits in patterns]
    store.save(0, floats)
    assert [struct.pack(">d", value).hex() for value in store.load()] == patterns


def test_arrays_come_back_as_they_were(store):
    arrays = {f"{dtype}.{shape}": array(dtype, *shape) for dtype in DTYPES for shape in [(5, 3), (), (0, 3)]}
    others = [">f4", "<c16", ">i8", "M8[ns]", "U5", "S3"]
    arrays |= {f"{dtype}.{size}": np.zeros((2, size), dtype) for dtype in others for size in (0, 3)}
    arrays["text"] = np.array([["a", "ünf"], ["", "bc"]])
    arrays["strided"] = np.arange(60.0).reshape(3, 4, 5)[::2, ::-1, 1:].T
    store.save(7, arrays)
    got = store.load(7)
    assert got.keys() == arrays.keys()
    for name, expected in arrays.items():
        assert same(got[name], expected), name
        assert got[name].flags.writeable or not expected.size, name


def test_arrays_that_are_one_come_back_as_one(store):
    one = np.ones(5, np.float32)
    complex_ones = np.ones(5, complex)
    store.save(0, {"a": one, "b": [one, one[:]], "c": one[:3], "d": one.copy(), "e": complex_ones, "f": complex_ones})
    got = store.load()
    assert got["a"] is got["b"][0] is got["b"][1] and got["e"] is got["f"]
    assert not any(np.shares_memory(got["a"], got[name]) for name in "cd")


def test_each_step_is_coded_against_the_one_before(store):
    for step in (3, 5, 900):
        store.save(step, state(step))
    store.wait()
    assert [(step.number, step.bases, step.depth) for step in store.steps()] == [
        (3, (), 0),
        (5, (3,), 1),
        (900, (5,), 2),
    ]
    first, second, _ = store.steps()
    assert second.stored < first.stored < first.nbytes == second.nbytes
    assert all(is_state(store.load(step), step) for step in (3, 5, 900)) and is_state(store.load(), 900)


def test_keyframes(tmp_path):
    with CheckpointStore(tmp_path, keyframe_every=2, level="max") as store:
        for step in range(4):
            store.save(step, state(step))
    assert [step.depth for step in store.steps()] == [0, 1, 0, 1]


def test_the_folder_is_one_of_wz_chain(store, wz, tmp_path):
    optimizer = {"state": {0: {"exp_avg": weights(3), "step": np.array(7, np.float32)}}}
    store.save(100, {"optimizer": optimizer, "model": {"layers.0.w": weights(1)}})
    store.save(200, {"optimizer": optimizer, "model": {"layers.0.w": weights(2)}})
    store.wait()
    folder = tmp_path / "run"
    assert FILE.format(200) in wz("chain", "list", folder).decode()
    wz("decompress", folder / f"{FILE.format(200)}.wz", "-o", tmp_path / "plain")
    plain = safetensors.numpy.load_file(tmp_path / "plain")
    assert plain.keys() == {"optimizer.state.0.exp_avg", "optimizer.state.0.step", "model.layers.0.w"}
    assert same(plain["model.layers.0.w"], weights(2))


def test_names_that_would_clash_are_told_apart(store):
    clashing = {"a.b": weights(0), "a": {"b": weights(1)}, 1: weights(2), "1": weights(3), "__metadata__": weights(4)}
    clashing |= {"\udcff": weights(5), "\\udcff": weights(6)}
    store.save(0, clashing)
    flat = [value["b"] if isinstance(value, dict) else value for value in store.load().values()]
    assert len(flat) == 7 and all(same(got, weights(i)) for i, got in enumerate(flat))


def test_what_changes_after_save_is_not_saved(store, slow):
    weights_now, numbers = weights(1), [1, 2]
    store.save(1, {"model": {"w": weights_now}, "step": 1, "list": numbers})
    weights_now[:] = 0
    numbers.append(3)
    slow.set()
    got = store.load()
    assert got.pop("list") == [1, 2] and is_state(got, 1)


def test_one_save_is_under_way_and_the_next_one_waits(store, slow):
    store.save(1, state(1))
    second = threading.Thread(target=store.save, args=(2, state(2)))
    second.start()
    second.join(0.2)
    assert second.is_alive() and not store.steps()
    slow.set()
    second.join()
    store.wait()
    assert all(is_state(store.load(step), step) for step in (1, 2))


@pytest.mark.parametrize("ask", [lambda store: store.save(3, state(3)), lambda store: store.wait()])
def test_what_went_wrong_is_raised_once_by_the_next_call(ask, store, tmp_path):
    store.save(1, state(1))
    store.wait()
    shutil.move(tmp_path / "run", tmp_path / "gone")
    store.save(2, state(2))
    assert pytest.raises(weightzip.ReadWriteError, ask, store).match("No such file")
    store.wait()
    shutil.move(tmp_path / "gone", tmp_path / "run")
    store.save(2, state(2))
    assert is_state(store.load(), 2) and is_state(store.load(1), 1)


def test_a_disk_without_room_loses_nothing(tmp_path):
    with CheckpointStore(tmp_path, keep=1) as store:
        store.save(1, state(1))
        store.wait()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            store.save(2, state(2))
            with pytest.raises(weightzip.ReadWriteError) as full:
                store.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert full.value.errno == errno.EFBIG
        assert [path.name for path in tmp_path.iterdir()] == [f"{FILE.format(1)}.wz"] and is_state(store.load(), 1)


def test_two_that_change_a_folder_at_once_are_kept_apart(store, tmp_path):
    other = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    store.save(1, state(1))
    with pytest.raises(weightzip.ReadWriteError, match="another process is changing this store; try again when"):
        store.wait()
    os.close(other)
    store.save(1, state(1))
    store.wait()
    with CheckpointStore(tmp_path / "run") as second:
        second.save(2, state(2))
    store.save(2, state(2))
    with pytest.raises(weightzip.InvalidArgumentError, match="step 2 is there already"):
        store.wait()
    assert is_state(store.load(2), 2)


def test_an_early_step_goes_when_the_new_one_is_there(tmp_path):
    with CheckpointStore(tmp_path, keep=2) as store:
        for step in range(4):
            store.save(step, state(step))
        assert is_state(store.load(), 3) and is_state(store.load(2), 2)
        assert [(step.number, step.bases) for step in store.steps()] == [(2, ()), (3, (2,))]


def test_exit_waits_for_the_save(tmp_path):
    script = """
import sys, numpy as np
from weightzip.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1])
for step in range(2):
    store.save(step, np.random.default_rng(step).normal(size=5_000_000))
assert len(store.steps()) < 2 and "torch" not in sys.modules
"""
    done = run(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    with CheckpointStore(tmp_path) as store:
        assert same(store.load(1), np.random.default_rng(1).normal(size=5_000_000))


def test_what_nobody_asked_for_is_told_at_exit(tmp_path):
    script = """
import os, sys
from weightzip.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1])
os.rmdir(sys.argv[1])
store.save(1, {"a": 1})
"""
    done = run(script, tmp_path / "run")
    assert done.stderr.startswith("weightzip: this went wrong in the background: i/o error: ")
    assert str(tmp_path / "run") in done.stderr


@pytest.mark.parametrize("step", [3, 2, 0])
def test_a_step_that_is_not_beyond_the_last_is_refused_first(step, tmp_path):
    with CheckpointStore(tmp_path) as store:
        store.save(3, state(3))
        with pytest.raises(
            weightzip.InvalidArgumentError, match=f"step {step} is not beyond the last one: save one from 4"
        ):
            store.save(step, object())
    with CheckpointStore(tmp_path) as store, pytest.raises(weightzip.InvalidArgumentError, match="not beyond the last"):
        store.save(step, object())


ITSELF: list = []
ITSELF.append(ITSELF)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({1, 2}, "a.0 is a set, which can't be saved: make it tensors, numbers"),
        (b"x", "a.0 is a bytes"),
        (np.float64(1), "a.0 is a float64"),
        (object(), "a.0 is a object"),
        (ITSELF, "is nested 100 deep, or holds itself"),
        ({frozenset(): 1}, "a.0 has a frozenset as key, which can't be saved: make it text or a number"),
        ({(b"",): 1}, "a.0 has a bytes as key"),
        (np.array([None]), "this tensor has dtype object.*tensor 'a.0'"),
        (np.zeros(2, [("x", "f4")]), "this tensor has dtype .*, which can't be saved: make it numbers"),
        (np.ma.array([1, 2], mask=[0, 1]), "this tensor is a MaskedArray, which is more than an array"),
        ({"x" * 300_000: np.ones(1)}, "a tensor can't have the name"),
    ],
)
def test_what_cannot_be_saved_is_refused_with_its_path(given, message, store, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match=message):
        store.save(1, {"good": np.ones(3), "a": [given]})
    assert not list((tmp_path / "run").iterdir())
    store.save(1, state(1))
    assert is_state(store.load(), 1)


def test_the_copy_is_bounded(tmp_path):
    with CheckpointStore(tmp_path, max_host_bytes=weights(0).nbytes) as store:
        store.save(1, state(1))
        with pytest.raises(
            weightzip.InvalidArgumentError, match="takes 65600 bytes.*max_host_bytes is 65536: allow more"
        ):
            store.save(2, {**state(2), "more": np.ones(1)})
        assert is_state(store.load(), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "best"}, "level"),
        ({"keep": 0}, "keep=0 would leave no step"),
        ({"keyframe_every": -1}, "keyframe_every=-1 is less than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match=message):
        CheckpointStore(tmp_path / "run", **options)


def test_steps_that_are_not_there(store, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match="this store has no step yet"):
        store.load()
    store.save(1, state(1))
    with pytest.raises(weightzip.InvalidArgumentError, match="there is no step 2"):
        store.load(2)
    for number in (-1, 1 << 64):
        for call in (store.load, lambda step: store.save(step, None)):
            with pytest.raises(weightzip.InvalidArgumentError, match=f"can't have the number {number}"):
                call(number)
    store.wait()
    weightzip.write([b"no tensors"], tmp_path / "run" / "other-5.bin.wz")
    with pytest.raises(weightzip.InvalidArgumentError, match="step 5 was not saved by a CheckpointStore"):
        store.load()
    assert is_state(store.load(1), 1)


def test_a_closed_store_still_loads(store):
    store.save(1, state(1))
    store.close()
    store.close()
    with pytest.raises(weightzip.InvalidArgumentError, match="this store is closed: open it again"):
        store.save(2, state(2))
    assert is_state(store.load(), 1)


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "{",
            "[{}]",
            '{"tuple":1}',
            '{"dict":[1]}',
            '{"dict":[[],1]}',
            '{"dict":5}',
            '{"float":"7f"}',
            '{"float":1}',
        ],
        *[
            '{"int":"z"}',
            '{"module":[1,2]}',
            '{"module":[1]}',
            '{"array":"gone"}',
            '{"array":5}',
            '{"array":["w","O"]}',
        ],
        *['{"array":["w","<f4","x"]}', '{"array":["w","nothing"]}', '{"a":1,"b":2}', "[" * 5000 + "]" * 5000],
    ],
)
def test_a_description_that_makes_no_sense_is_an_error(text):
    with weightzip.open(weightzip.write_bytes(_file_with_w())) as archive:
        with pytest.raises((weightzip.CorruptionError, weightzip.InvalidArgumentError)):
            _state.rebuild(text, archive, "cpu")
        with pytest.raises(weightzip.CompatibilityError, match="has a 'future': a later version of weightzip saved it"):
            _state.rebuild('[{"future":[{"array":"w"}]}]', archive, "cpu")


def _file_with_w() -> list:
    header = json.dumps({"w": {"dtype": "U8", "shape": [3, 5], "data_offsets": [0, 15]}}).encode()
    return [len(header).to_bytes(8, "little") + header, bytes(15)]
