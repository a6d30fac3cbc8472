"""weightzip.checkpoint with NumPy alone: how it saves. test_state.py has what, torch/test_checkpoint_store.py models and optimizers."""

import errno
import fcntl
import os
import resource
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy
import weightzip
from test_state import same
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


@pytest.fixture
def store(tmp_path):
    with CheckpointStore(tmp_path / "run") as store:
        yield store


@pytest.fixture
def slow(store, monkeypatch):
    """Lets the store write only when that is set."""
    chain, may_write = store._chain, threading.Event()

    class Slow:
        def add(self, *arguments, **options):
            assert may_write.wait(60)
            return chain.add(*arguments, **options)

        def __getattr__(self, name):
            return getattr(chain, name)

    monkeypatch.setattr(store, "_chain", Slow())
    yield may_write
    may_write.set()


def run(script: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


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


def test_few_steps_are_needed_for_one(tmp_path):
    random = np.random.default_rng(1)
    numbers = random.normal(0, 0.02, (12, 64, 256)).astype(np.float32)
    # Of all steps the upper bits are the same, the lower ones have nothing in common.
    states = (numbers[0].view(np.uint32) & ~np.uint32(255) | numbers.view(np.uint32) & np.uint32(255)).view(np.float32)
    with CheckpointStore(tmp_path, keep=5) as store:
        for step in range(12):
            store.save(step, {"w": states[step]})
            store.wait()
            assert all(step.depth <= 3 for step in store.steps())
    assert [step.number for step in store.steps()] == [7, 8, 9, 10, 11]
    assert all(same(store.load(step)["w"], states[step]) for step in range(7, 12))


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
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {f"{FILE.format(1)}.wz", "wz-chain.json"} and is_state(store.load(), 1)


def test_two_that_change_a_folder_at_once_are_kept_apart(store, tmp_path):
    (tmp_path / "run").mkdir()
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
import shutil, sys
from weightzip.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1])
store.save(1, {"a": 1})
store.wait()
shutil.rmtree(sys.argv[1])
store.save(2, {"a": 1})
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
        ({"keep_every": 5}, "keep_every=5 says which steps stay .* and keep= for the last ones"),
        ({"keep": 1, "keep_every": 0}, "keep_every=0 says"),
        ({"lossy": "abs=x"}, "abs=x"),
        ({"lossy": "snr=60dB"}, "snr looks at all tensors first"),
        ({"keyframe_every": -1}, "keyframe_every=-1 is less than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match=message):
        CheckpointStore(tmp_path / "run", **options)


def test_steps_that_are_not_there(store, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match="there is no such folder"):
        store.load()
    assert store.steps() == [] and not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
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
    assert [step.number for step in store.steps()] == [1]
    (tmp_path / "run" / "wz-chain.json").unlink()  # then every .wz with a number is read as one
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


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs://bucket", "file:///run"])
def test_urls_are_refused_before_a_folder_is_made(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(weightzip.InvalidArgumentError, match="is a URL, and this is for local folders"):
        CheckpointStore(url)
    assert not list(tmp_path.iterdir())


def test_what_is_not_its_own_stays(wz, tmp_path):
    with CheckpointStore(tmp_path) as store:
        store.save(1, state(1))
        store.save(2, state(2))
    foreign = {}
    for name in ("llama-7", "gpt-2", "best"):
        plain = tmp_path / "plain"
        plain.write_bytes(wz("decompress", tmp_path / f"{FILE.format(1)}.wz", "-o", "-"))
        base = ["--base", tmp_path / f"{FILE.format(1)}.wz"] if name == "best" else []
        wz("compress", plain, "-o", tmp_path / f"{name}.wz", *base)
        foreign[tmp_path / f"{name}.wz"] = plain.read_bytes()
    with CheckpointStore(tmp_path, keep=1) as store:
        for step in (3, 4):
            store.save(step, state(step))
    # The first one stays, for `best.wz` needs it.
    assert [step.number for step in store.steps()] == [1, 4] and is_state(store.load(1), 1)
    assert all(wz("decompress", file, "-o", "-") == content for file, content in foreign.items())


@pytest.mark.parametrize("before_end", [60, 900])
def test_a_damaged_step_stops_no_training(before_end, tmp_path, caplog):
    with CheckpointStore(tmp_path, keep=2) as store:
        store.save(1, state(1))
        store.wait()
        file = tmp_path / f"{FILE.format(1)}.wz"
        content = bytearray(file.read_bytes())
        content[-before_end] ^= 1
        file.write_bytes(content)
        for step in (2, 3, 4):
            store.save(step, state(step))
        store.wait()
        assert all(is_state(store.load(step), step) for step in (3, 4))
    assert "step 1 can't be restored" in caplog.text


def test_steps_that_are_multiples_stay(tmp_path):
    with CheckpointStore(tmp_path, keep=2, keep_every=4) as store:
        for step in range(1, 11):
            store.save(step, state(step))
    assert [step.number for step in store.steps()] == [4, 8, 9, 10]
    assert all(is_state(store.load(step), step) for step in (4, 8, 9, 10))


def test_near_lossless(tmp_path):
    with CheckpointStore(tmp_path, lossy=["model.*:abs=2^-10"]) as store:
        store.save(1, {**state(1), "exact": weights(1)})
        store.save(2, {**state(2), "exact": weights(2)})
    got = store.load(2)
    assert same(got["exact"], weights(2)) and not same(got["model"]["w"], weights(2))
    assert np.abs(got["model"]["w"] - weights(2)).max() <= 2**-11 * 2
    assert all(path.name.endswith(".lossy.wz") for path in tmp_path.glob("*.wz"))
