"""What a checkpoint store keeps of nested states of NumPy: everything, or nothing."""

import json
import struct
from collections import Counter, OrderedDict

import numpy as np
import pytest
import weightzip
from test_numpy import DTYPES, array
from weightzip import _state
from weightzip.checkpoint import CheckpointStore


@pytest.fixture
def store(tmp_path):
    with CheckpointStore(tmp_path / "run") as store:
        yield store


def weights(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, (6, 5)).astype(np.float32)


def same(got: np.ndarray, expected: np.ndarray) -> bool:
    return (type(got), got.dtype, got.shape, got.tobytes()) == (
        np.ndarray,
        expected.dtype,
        expected.shape,
        expected.tobytes(),
    )


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


def test_names_that_would_clash_are_told_apart(store):
    clashing = {"a.b": weights(0), "a": {"b": weights(1)}, 1: weights(2), "1": weights(3), "__metadata__": weights(4)}
    clashing |= {"\udcff": weights(5), "\\udcff": weights(6)}
    store.save(0, clashing)
    flat = [value["b"] if isinstance(value, dict) else value for value in store.load().values()]
    assert len(flat) == 7 and all(same(got, weights(i)) for i, got in enumerate(flat))


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
    assert not (tmp_path / "run").exists()
    store.save(1, "good")
    assert store.load() == "good"


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
        with pytest.raises(weightzip.CorruptionError, match="makes no sense"):
            _state.rebuild(text, archive, "cpu")
        with pytest.raises(weightzip.CompatibilityError, match="has a 'future': a later version of weightzip saved it"):
            _state.rebuild('[{"future":[{"array":"w"}]}]', archive, "cpu")


def _file_with_w() -> list:
    header = json.dumps({"w": {"dtype": "U8", "shape": [3, 5], "data_offsets": [0, 15]}}).encode()
    return [len(header).to_bytes(8, "little") + header, bytes(15)]
