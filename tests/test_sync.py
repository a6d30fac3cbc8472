"""weightzip.sync with arrays of NumPy: updates are exact, or refused."""

import io
import tempfile
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import weightzip
import weightzip.numpy
from test_numpy import DTYPES, array, same
from weightzip import InvalidArgumentError, sync


def state(seed=1):
    """Large tensors, which have blocks of their own, and small ones that share some."""
    rng = np.random.default_rng(seed)
    shapes = {f"{i}.weight": (300, 400) for i in range(3)} | {f"{i}.norm": (900,) for i in range(3)}
    return {name: rng.normal(0, 0.02, shape).astype(ml_dtypes.bfloat16) for name, shape in shapes.items()}


def stepped(old, share=0.01, seed=2):
    """A state in which some weights are their neighbours."""
    rng, new = np.random.default_rng(seed), copied(old)
    for tensor in new.values():
        flat = tensor.reshape(-1).view(np.uint16)
        flat[rng.random(flat.size) < share] ^= 1
    return new


def copied(state):
    return {name: tensor.copy() for name, tensor in state.items()}


@pytest.mark.parametrize("level", ["default", "max"])
def test_an_update_is_small_and_gives_the_new_state(level):
    old = state()
    new = stepped(old)
    update = sync.diff(old, new, level=level)
    assert len(update) < sum(tensor.nbytes for tensor in new.values()) / 50
    assert same(sync.apply(old, update), new)
    assert same(old, state())
    sync.apply_in_place(old, update)
    assert same(old, new)


def test_every_dtype():
    shapes = [(50, 30), (), (0, 3)]
    old = {f"{dtype}{shape}": array(dtype, *shape) for dtype in DTYPES for shape in shapes}
    new = {name: np.array(np.flip(tensor)) for name, tensor in old.items()}
    update = sync.diff(old, new)
    assert same(sync.apply(old, update), new)
    sync.apply_in_place(old, update)
    assert same(old, new)


def test_arrays_of_any_strides_and_byte_order():
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    old = {"turned": values.T, "back": values[::-1], "big": values.astype(">f4"), "column": values[:, 2]}
    new = {name: (tensor + 1).astype("<f4") for name, tensor in old.items()}
    update = sync.diff(old, new)
    assert same(sync.apply(old, update), new)
    targets = {name: tensor.copy("K") for name, tensor in old.items()}
    sync.apply_in_place(targets, update)
    assert targets["big"].dtype == ">f4"
    assert all(np.array_equal(targets[name], new[name]) for name in new)


def test_tensors_come_go_and_change():
    old = state()
    new = stepped(old)
    del new["0.weight"]
    new["1.weight"] = new["1.weight"].astype(np.float32)
    new["2.weight"] = new["2.weight"][:200]
    new["added"] = np.arange(1000.0)
    update = sync.diff(old, new)
    assert same(sync.apply(old, update), new)
    before = copied(old)
    for name in ("added", "1.weight", "2.weight"):
        with pytest.raises(InvalidArgumentError, match=f"{name}.*|.*'{name}'"):
            sync.apply_in_place(old, update, names=["0.norm", name])
        assert same(old, before)
    sync.apply_in_place(old, update, names=["0.norm"])
    assert same(old, before | {"0.norm": new["0.norm"]})


def test_a_first_update_needs_nothing():
    new = state()
    update = sync.diff({}, new)
    assert weightzip.open(update).info.bases == ()
    assert same(sync.apply({}, update), new)
    assert same(sync.apply({"other": np.ones(3)}, update), new)


def test_states_may_be_empty():
    assert sync.apply({}, sync.diff({}, {})) == {}
    assert sync.apply(state(), sync.diff(state(), {})) == {}


@pytest.mark.parametrize("name", ["1.weight", "1.norm"])
@pytest.mark.parametrize("apply", [sync.apply, sync.apply_in_place])
def test_another_old_state_is_refused_and_stays(apply, name):
    old = state()
    update = sync.diff(old, stepped(old))
    old[name].reshape(-1).view(np.uint16)[-1] ^= 1
    before = copied(old)
    with pytest.raises(InvalidArgumentError, match="`old` has not the values .*tensor .") as error:
        apply(old, update)
    assert error.value.tensor in old
    assert same(old, before)
    del old[name]
    with pytest.raises(InvalidArgumentError, match="lacks 1 of the update's tensors|is not in `old`"):
        apply(old, update)


def test_a_damaged_update_changes_nothing():
    old = state()
    update = bytearray(sync.diff(old, stepped(old, 0.5)))
    update[len(update) // 2] ^= 1
    before = copied(old)
    with pytest.raises(weightzip.WeightzipError):
        sync.apply_in_place(old, bytes(update))
    assert same(old, before)
    with pytest.raises(weightzip.WeightzipError):
        sync.apply(old, bytes(update[: len(update) // 3]))


def test_names_choose():
    old = state()
    new = stepped(old)
    update = sync.diff(old, new)
    assert same(sync.apply(old, update, names=["2.norm", "0.weight"]), {n: new[n] for n in ["2.norm", "0.weight"]})
    sync.apply_in_place(old, update, names={"1.weight"})
    assert same(old, state() | {"1.weight": new["1.weight"]})
    with pytest.raises(InvalidArgumentError, match="no tensor of this name.*'2'"):
        sync.apply(old, update, names=["2"])


@pytest.mark.parametrize("level", ["default", "max"])
def test_large_tensors_need_nothing_else_of_the_old_state(level):
    old = state()
    new = stepped(old)
    part = {"1.weight": old["1.weight"]}
    assert same(sync.apply(part, sync.diff(old, new, level=level), names=part), {"1.weight": new["1.weight"]})


def test_files_and_file_like_objects(tmp_path):
    old = state()
    new = stepped(old)
    path, memory = tmp_path / "step-1.wz", io.BytesIO()
    sync.write_diff(old, new, path)
    sync.write_diff(old, new, memory)
    assert path.read_bytes() == memory.getvalue() == sync.diff(old, new)
    assert same(sync.apply(old, path), new)
    sync.apply_in_place(old, memory)
    assert same(old, new)


def test_an_update_is_the_file_of_the_new_state_next_to_that_of_the_old_one(tmp_path):
    old = state()
    new = stepped(old)
    weightzip.numpy.save_file(old, tmp_path / "anything.safetensors")
    sync.write_diff(old, new, tmp_path / "step-1.safetensors.wz")
    loaded = weightzip.numpy.load_file(tmp_path / "step-1.safetensors.wz", base=tmp_path / "anything.safetensors")
    assert same(loaded, new)


def test_nothing_stays_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old = state()
    update = sync.diff(old, stepped(old))
    sync.apply(old, update)
    with pytest.raises(InvalidArgumentError):
        sync.apply(state(5), update)
    assert list(tmp_path.iterdir()) == []


def test_shared_memory_in_place():
    values = state()["0.weight"]
    old = {"a": values, "b": values}
    new = stepped({"a": values})
    sync.apply_in_place(old, sync.diff(old, {"a": new["a"], "b": new["a"]}))
    assert same({"a": values}, new)
    update = sync.diff(old, {"a": old["a"], "b": stepped(old)["b"]})
    with pytest.raises(InvalidArgumentError, match="shares memory with 'a'"):
        sync.apply_in_place(old, update)
    halves = {"all": values, "half": values[100:]}
    with pytest.raises(InvalidArgumentError, match="shares memory with 'all'"):
        sync.apply_in_place(halves, sync.diff(halves, halves))
    assert same({"a": values}, new)


def test_read_only_arrays_are_refused_in_place():
    old = state()
    update = sync.diff(old, stepped(old))
    old["2.norm"].flags.writeable = False
    before = copied(old)
    with pytest.raises(InvalidArgumentError, match="read-only.*'2.norm'"):
        sync.apply_in_place(old, update)
    assert same(old, before)


@pytest.mark.parametrize("bad", [[np.ones(3)], {"a": "text"}, {"a": np.array([None])}, {1: np.ones(3)}])
def test_what_is_no_state(bad):
    for arguments in [(bad, state()), (state(), bad)]:
        if arguments[0] is bad and isinstance(bad, dict) and "a" in bad:
            continue  # a tensor that the new state doesn't have isn't looked at
        with pytest.raises((InvalidArgumentError, TypeError)):
            sync.diff(*arguments)


def test_a_file_that_is_no_update():
    with pytest.raises(InvalidArgumentError):
        sync.apply(state(), b"something else")
    raw = weightzip.write_bytes([b"some text"])
    with pytest.raises(InvalidArgumentError, match="holds no safetensors file"):
        sync.apply(state(), raw)


def test_memory_in_place(monkeypatch):
    monkeypatch.setattr(sync, "_AT_ONCE", 1 << 20)
    old = {str(i): np.random.default_rng(i).normal(size=1 << 17) for i in range(32)}  # 32 MiB
    update = sync.diff(old, {name: tensor + (name == "3") for name, tensor in old.items()})
    tracemalloc.start()
    sync.apply_in_place(old, update)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 << 20
