"""Files that Flax writes."""

import flax.serialization
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import safetensors.numpy
import weightzip
from archives import archive_of, listed
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict

RNG = np.random.default_rng(0)


DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int64": "I64",
    "int8": "I8",
    "uint16": "U16",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
}


@pytest.mark.parametrize(("dtype", "name"), DTYPES.items())
def test_arrays_of_each_dtype(dtype, name):
    array = np.abs(RNG.normal(0, 3, (12, 20))).astype(getattr(ml_dtypes, dtype, dtype))
    scalar = array[0, 0]
    archive = archive_of(flax.serialization.msgpack_serialize({"w": array, "columns": array.T, "one": scalar}))
    expected = {"w": (name, (12, 20)), "columns": (name, (20, 12)), "one": (name, ())}
    assert (archive.info.format, listed(archive)) == ("flax", expected)
    assert archive.read("w") == array.tobytes()
    assert archive.read("columns") == array.T.tobytes()
    assert archive.read("one") == scalar.tobytes()


@pytest.mark.parametrize("dtype", ["float8_e4m3b11fnuz", "float4_e2m1fn", "int4", "S3", "datetime64[s]", "V2"])
def test_other_dtypes_are_opaque(dtype):
    array = np.zeros((3, 2), getattr(ml_dtypes, dtype, dtype))
    archive = archive_of(flax.serialization.msgpack_serialize({"odd": array, "w": np.ones(3)}))
    assert listed(archive) == {"w": ("F64", (3,))}


def test_the_state_of_a_training():
    params = {
        "encoder": {"layers": [{"kernel": jnp.asarray(RNG.normal(size=(64, 48)), jnp.bfloat16)} for _ in range(3)]},
        "head": {"bias": jnp.zeros(7), "kernel": jnp.asarray(RNG.normal(size=(48, 7)), jnp.float32)},
    }
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adamw(1e-3))
    state = state.apply_gradients(grads=jax.tree.map(lambda p: 0.1 * p, params))
    archive = archive_of(flax.serialization.to_bytes(state))
    leaves = flatten_dict(flax.serialization.to_state_dict(state), sep=".")
    arrays = {name: np.asarray(leaf) for name, leaf in leaves.items() if isinstance(leaf, jax.Array)}
    assert {"params.encoder.layers.2.kernel", "opt_state.0.count", "opt_state.0.mu.head.bias"} < set(arrays)
    assert {name: info.shape for name, info in archive.tensors.items()} == {n: a.shape for n, a in arrays.items()}
    for name, array in arrays.items():
        assert archive.read(name) == array.tobytes()
    restored = flax.serialization.from_bytes(state, bytes(archive.original()))
    assert jax.tree.all(jax.tree.map(np.array_equal, restored, state))


def test_arrays_in_chunks(monkeypatch):
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 4000)
    array = RNG.normal(size=(90, 30)).astype("f4")
    content = flax.serialization.to_bytes({"table": {"w": array}, "small": array[0]})
    archive = archive_of(content)
    pieces = {f"table.w.chunks.{i}": ("F32", (n,)) for i, n in enumerate([1000, 1000, 700])}
    assert listed(archive) == {**pieces, "small": ("F32", (30,))}
    assert b"".join(archive.read(name) for name in pieces) == array.tobytes()
    assert np.array_equal(flax.serialization.msgpack_restore(bytes(archive.original()))["table"]["w"], array)


def test_leaves_that_are_no_arrays():
    leaves = {"epoch": 3, "far": -(2**40), "rate": 0.1, "name": "x" * 300, "done": True, "none": None, "z": 2j}
    content = flax.serialization.to_bytes({**leaves, "raw": b"\xc1" * 70000, "empty": {}, "params": np.ones((2, 2), "i1")})
    assert listed(archive_of(content)) == {"params": ("I8", (2, 2))}


def test_the_program_gives_the_file_back_and_lists_its_tensors(wz, tmp_path):
    array = RNG.normal(0, 0.02, (200, 100)).astype(ml_dtypes.bfloat16)
    content = flax.serialization.to_bytes({f"layer_{i}": {"kernel": array + i} for i in range(20)})
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(content)
    wz("compress", path)
    packed = path.with_name("flax_model.msgpack.wz")
    assert packed.read_bytes() == wz("compress", "-", stdin=content)
    assert wz("decompress", packed, "-o", "-") == content
    assert wz("cat", packed, "layer_7.kernel", "--rows", "3:5") == (array + 7)[3:5].tobytes()
    assert b"layer_19.kernel" in wz("inspect", path)


def test_as_small_as_safetensors():
    arrays = {f"w.{i}": RNG.normal(0, 0.02, (300, 256)).astype("f4") for i in range(3)}
    files = flax.serialization.to_bytes(arrays), safetensors.numpy.save(arrays)
    ours, theirs = (len(weightzip.write_bytes([file])) / len(file) for file in files)
    assert abs(ours - theirs) < 0.005


def test_what_is_cut_short_or_longer_comes_back():
    content = flax.serialization.to_bytes({"w": np.ones((9, 9))})
    for file, names in ((content[:-1], []), (content + b"\0", ["w"])):
        archive = archive_of(file)
        assert list(archive.tensors) == names and bytes(archive.original()) == file


def test_a_rounded_file_is_one_of_flax_too():
    array = RNG.normal(size=(90, 30)).astype("f4")
    content = flax.serialization.to_bytes({"params": {"w": array}, "step": 3})
    with pytest.warns(weightzip.LossyWarning):
        rounded = bytes(weightzip.open(weightzip.write_bytes([content], lossy="abs=2^-8")).original())
    state = flax.serialization.msgpack_restore(rounded)
    assert state["step"] == 3
    assert 0 < np.abs(state["params"]["w"] - array).max() <= 2**-8
