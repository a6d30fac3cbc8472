"""weightzip.numpy: what safetensors.numpy promises, and what compressed files add to it."""

import json
import threading

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy as plain
import weightzip
import weightzip.numpy as wz

DTYPES = [
    *"bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 float32 float64 complex64".split(),
    *"bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu".split(),
]


def array(dtype: str, *shape: int) -> np.ndarray:
    """Any bits: also such as are no number."""
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    bits = np.random.default_rng(len(shape)).integers(0, 2 if dtype == bool else 256, (*shape, dtype.itemsize))
    return bits.astype(np.uint8).view(dtype).reshape(shape)


def same(got: dict, expected: dict) -> bool:
    return got.keys() == expected.keys() and all(
        (got[name].dtype, got[name].shape, got[name].tobytes()) == (a.dtype, a.shape, a.tobytes())
        for name, a in expected.items()
    )


@pytest.fixture
def arrays():
    """Of every dtype: a matrix, a single value, and nothing; names that JSON and sorting make difficult."""
    every = {f"{dtype}.weight": array(dtype, 5, 3) for dtype in DTYPES}
    every |= {f"{dtype}.scale": array(dtype) for dtype in DTYPES}
    every |= {f"{dtype}.none": array(dtype, 0, 3) for dtype in DTYPES}
    return every | {'"é\n\\\x01\u2028/\U0001f5dc': array("float32", 2), "": array("int8", 3), "Z": array("int8", 1)}


@pytest.fixture
def large(tmp_path):
    """A file of one matrix with many blocks, and the matrix."""
    weights = np.random.default_rng(0).normal(0, 0.02, (2000, 256)).astype(np.float32)
    wz.save_file({"first": array("int64", 7), "weights": weights}, tmp_path / "large.safetensors.wz")
    return tmp_path / "large.safetensors.wz", weights


def test_every_dtype_round_trips(arrays, tmp_path):
    wz.save_file(arrays, tmp_path / "a.safetensors.wz")
    assert same(wz.load_file(tmp_path / "a.safetensors.wz"), arrays)
    assert same(wz.load(wz.save(arrays)), arrays)


def test_level_max_gives_the_same_arrays_and_rows(arrays, tmp_path):
    rows = np.exp2(np.random.default_rng(1).uniform(-2, 2, (700, 1)))
    values = np.random.default_rng(0).normal(0, 0.02, (700, 300)) * rows
    for name in "float16 float32 float64 bfloat16 float8_e4m3fn float8_e5m2".split():
        arrays[name] = values.astype(getattr(ml_dtypes, name, name))
    wz.save_file(arrays, tmp_path / "a.safetensors.wz", level="max")
    assert same(wz.load_file(tmp_path / "a.safetensors.wz"), arrays)
    assert len(wz.save(arrays, level="max")) < len(wz.save(arrays))
    with weightzip.open(tmp_path / "a.safetensors.wz") as archive:
        assert archive.info.level == "max"
    with wz.safe_open(tmp_path / "a.safetensors.wz") as file:
        some = file.get_slice("bfloat16")[123:130]
    assert some.tobytes() == arrays["bfloat16"][123:130].tobytes()


def test_arrays_are_in_native_byte_order(arrays, tmp_path):
    """As those of safetensors: Python's memoryview reads no other."""
    kinds = {name: array for name, array in arrays.items() if array.dtype.isbuiltin == 1 and array.size}
    wz.save_file(kinds, tmp_path / "a.wz")
    wz.save_file(kinds, tmp_path / "a.safetensors")
    expected = plain.load_file(tmp_path / "a.safetensors")
    with wz.safe_open(tmp_path / "a.wz") as file:
        loaded = [wz.load_file(tmp_path / "a.wz"), {name: file.get_tensor(name) for name in kinds}]
    for arrays in loaded:
        for name, array in arrays.items():
            assert (array.dtype.str, array.dtype.byteorder) == (expected[name].dtype.str, expected[name].dtype.byteorder)
            if array.dtype.kind in "biuf" and array.dtype != np.float16:  # Python knows no others
                memoryview(array.reshape(-1))[0]


def test_a_mask_is_not_lost():
    masked = np.ma.array([1.0, 2.0], mask=[True, False])
    with pytest.raises(weightzip.InvalidArgumentError, match="MaskedArray, whose mask would be lost.*tensor 'm'"):
        wz.save({"m": masked})
    assert wz.load(wz.save({"m": masked.filled(0)}))["m"].tolist() == [0, 2]


def test_other_subclasses_are_saved_as_arrays():
    matrix = np.asmatrix(np.arange(6.0).reshape(2, 3))
    loaded = wz.load(wz.save({"a": matrix, "b": matrix.T}))
    assert loaded["a"].tolist() == matrix.tolist() and loaded["b"].tolist() == matrix.T.tolist()


def test_loaded_arrays_can_be_written():
    loaded = wz.load(wz.save({"a": np.zeros(3)}))["a"]
    loaded += 1
    assert loaded.tolist() == [1, 1, 1]


@pytest.mark.parametrize("metadata", [None, {}, {"format": "np"}, {"é\n": '"'}])
def test_holds_the_very_file_that_safetensors_writes(arrays, metadata):
    expected = plain.save(arrays, metadata)
    assert weightzip.open(wz.save(arrays, metadata)).original() == expected


def test_no_arrays_at_all():
    assert wz.load(wz.save({})) == {}
    assert weightzip.open(wz.save({})).original() == plain.save({})
    assert wz.load(wz.save({}, {})) == {}


def test_what_is_saved_loads_or_is_refused():
    rng = np.random.default_rng(18)
    letters = ["a", "é", "\u2028", "\U0001f5dc", '"', "\\", "\x00", ".", "weight"]

    def text() -> str:
        return "".join(rng.choice(letters, rng.integers(0, 9))) * int(rng.choice([*[1] * 9, 30, 60_000]))

    def shape() -> tuple[int, ...]:
        most = 62 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 30  # NumPy takes 64, and once took 32
        return (*[1] * int(rng.choice([0, 1, 3, most - 2, most])), int(rng.integers(0, 5)))

    refused = 0
    for _ in range(150):
        arrays = {text(): array(str(rng.choice(DTYPES)), *shape()) for _ in range(rng.integers(0, 5))}
        metadata = {text(): text() for _ in range(rng.integers(0, 3))} or None
        try:
            stored = wz.save(arrays, metadata)
        except weightzip.InvalidArgumentError as e:
            assert "can't have the name" in str(e) and max(len(name.encode()) for name in arrays) > 1 << 10
            refused += 1
            continue
        assert same(wz.load(stored), arrays)
        original = bytes(weightzip.open(stored).original())
        header = json.loads(original[8 : 8 + int.from_bytes(original[:8], "little")])
        assert header.get("__metadata__") == metadata
    assert refused < 75


def test_many_metadata(tmp_path):
    metadata = {"b": "1", "a": "zwei ✓", "__x": ""}
    wz.save_file({"a": np.zeros(3)}, tmp_path / "a.wz", metadata)
    with wz.safe_open(tmp_path / "a.wz") as file:
        assert file.metadata() == metadata
    wz.save_file({"a": np.zeros(3)}, tmp_path / "a.wz")
    with wz.safe_open(tmp_path / "a.wz") as file:
        assert file.metadata() is None
    restored = weightzip.open(wz.save({"a": np.zeros(3)}, metadata)).original()
    assert plain.load(bytes(restored))["a"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, [("a", "b")], "text"])
def test_metadata_is_text(metadata):
    with pytest.raises(TypeError, match="metadata"):
        wz.save({"a": np.zeros(3)}, metadata)


def test_the_suffix_decides(tmp_path):
    weights = {"a": np.arange(6.0)}
    for name, compressed in [("a.safetensors", False), ("a.wz.bin", False), ("awz", False), ("a.wz", True)]:
        wz.save_file(weights, tmp_path / name, {"k": "v"})
        content = (tmp_path / name).read_bytes()
        assert (content != plain.save(weights, {"k": "v"})) == compressed
        assert same(wz.load_file(str(tmp_path / name)), weights)
        with wz.safe_open(tmp_path / name) as file:
            assert (file.metadata(), file.keys()) == ({"k": "v"}, ["a"])


def test_a_missing_file_is_the_compressed_one(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="a.safetensors"):
        wz.load_file(path)
    with pytest.raises(FileNotFoundError, match="a.safetensors.wz"):
        wz.load_file(f"{path}.wz")
    wz.save_file({"a": np.ones(1)}, f"{path}.wz")
    assert wz.load_file(path)["a"] == 1
    with weightzip.safe_open(path, "np") as file:
        assert file.get_tensor("a") == 1
    wz.save_file({"a": np.zeros(1)}, path)
    assert wz.load_file(path)["a"] == 0
    assert wz.load_file(f"{path}.wz")["a"] == 1


@pytest.mark.parametrize("save", [wz.save, lambda a: None], ids=["wz", "plain"])
def test_values_are_saved_whatever_the_layout(save, tmp_path):
    matrix = np.arange(16).reshape(4, 4)
    given = {"T": matrix.T, "step": matrix[:, ::2], "back": matrix[::-1], "big": matrix.astype(">i2")}
    expected = {name: np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<")) for name, a in given.items()}
    if content := save(given):
        assert same(wz.load(content), expected)
    else:
        wz.save_file(given, tmp_path / "a.safetensors")
        assert same(wz.load_file(tmp_path / "a.safetensors"), expected)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (None, ValueError, "dict"),
        ([("a", np.zeros(1))], ValueError, "dict"),
        ({"a": None}, ValueError, "must be a numpy.ndarray, not NoneType.*tensor 'a'"),
        ({"a": [1.0]}, ValueError, "must be a numpy.ndarray"),
        ({"a": np.float32(1)}, ValueError, "must be a numpy.ndarray"),
        ({"a": np.zeros(1, object)}, ValueError, "has dtype object.*tensor 'a'"),
        ({"a": np.zeros(1, complex)}, ValueError, "has dtype complex128"),
        ({"a": np.zeros(1, "U4")}, ValueError, "has dtype <U4"),
        ({"a": np.zeros(1, ml_dtypes.int4)}, ValueError, "has dtype int4"),
        ({1: np.zeros(1)}, TypeError, "must be str, not int"),
        ({"__metadata__": np.zeros(1)}, ValueError, "__metadata__"),
        ({"a" * (1 << 19): np.zeros(1)}, ValueError, "name"),
    ],
)
def test_refuses(given, error, message, tmp_path):
    with pytest.raises(error, match=message):
        wz.save_file(given, tmp_path / "a.wz")
    assert list(tmp_path.iterdir()) == []


def test_the_input_is_unchanged(tmp_path):
    # Too few, and incompressible: both are stored as they are.
    given = {"few": np.float32([1.5, -2.25]), "noise": array("uint16", 100_000), "zeros": np.zeros(100_000)}
    before = {name: a.copy() for name, a in given.items()}
    wz.save_file(given, tmp_path / "a.wz")
    wz.save(given)
    assert same(given, before) and same(wz.load_file(tmp_path / "a.wz"), before)


def test_bytes_of_a_plain_file_load_too(arrays):
    native = {name: a for name, a in arrays.items() if a.dtype.isbuiltin == 1}
    for kind in (bytes, bytearray, memoryview):
        assert same(wz.load(kind(plain.save(native))), native)
        assert same(wz.load(kind(wz.save(native))), native)


def test_damage_is_an_error_that_says_where(large):
    path, weights = large
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(weightzip.CorruptionError) as caught:
        wz.load_file(path)
    assert (caught.value.file, caught.value.tensor) == (str(path), "weights")
    with wz.safe_open(path) as file:
        with pytest.raises(weightzip.CorruptionError, match="weights"):
            file.get_tensor("weights")
        # What is elsewhere is not touched, and is read.
        assert np.array_equal(file.get_tensor("first"), array("int64", 7))
        assert np.array_equal(file.get_slice("weights")[100:200:3], weights[100:200:3])
        assert np.array_equal(file.get_slice("weights")[[1999, 3, -1]], weights[[1999, 3, -1]])
        with pytest.raises(weightzip.CorruptionError):
            file.get_slice("weights")[:, :1]


@pytest.mark.parametrize("broken", [b"", b"x" * 30, plain.save({"a": np.zeros(9)})[:-1]])
def test_broken_plain_bytes_are_an_error(broken, tmp_path):
    with pytest.raises(safetensors.SafetensorError):
        wz.load(broken)
    (tmp_path / "a.wz").write_bytes(broken)
    # A plain file is read as such, whatever it is called.
    with pytest.raises(weightzip.WeightzipError if len(broken) < 40 else safetensors.SafetensorError) as caught:
        wz.load_file(tmp_path / "a.wz")
    assert len(broken) > 40 or "a.wz" in str(caught.value)


def test_a_truncated_file_is_an_error(large):
    path, _ = large
    content = path.read_bytes()
    for length in (8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(weightzip.WeightzipError):
            wz.load_file(path)


def test_other_formats_are_refused_by_name(tmp_path):
    weightzip.write([b"no tensors here"], tmp_path / "a.bin.wz")
    with pytest.raises(ValueError, match="holds no safetensors file") as caught:
        wz.load_file(tmp_path / "a.bin.wz")
    assert caught.value.file == str(tmp_path / "a.bin.wz")


def test_safe_open(arrays, tmp_path):
    wz.save_file(arrays, tmp_path / "a.wz", {"format": "np"})
    (tmp_path / "plain").write_bytes(plain.save(arrays))
    with weightzip.safe_open(tmp_path / "a.wz", framework="numpy", device="cpu") as file:
        with safetensors.safe_open(tmp_path / "plain", "np") as theirs:
            assert file.keys() == theirs.keys()
            assert file.offset_keys() == theirs.offset_keys()
        assert same({name: file.get_tensor(name) for name in file.keys()}, arrays)
        assert same(file.get_tensors(), arrays)
        for name, a in arrays.items():
            part = file.get_slice(name)
            assert part.get_shape() == list(a.shape)
            assert np.array_equal(part[...].view(np.uint8), a.view(np.uint8)) if a.shape else part[...].shape == ()
        assert file.get_slice("bfloat16.scale").get_dtype() == "BF16"


def test_safe_open_without_a_context(large):
    path, weights = large
    file = wz.safe_open(path)
    part = file.get_slice("weights")
    assert np.array_equal(part[3], weights[3])
    file.__exit__(None, None, None)
    path.unlink()
    for read in (lambda: file.get_tensor("weights"), lambda: part[0], file.metadata):
        with pytest.raises(weightzip.WeightzipError, match="closed"):
            read()


INDICES = [
    *(..., (), 0, -1, 1999, np.int64(7), None, True, (None, 3), (..., 0), (0, ...), (0, ..., 1), (0, 1)),
    *(slice(None), slice(5, 9), slice(9, 5), slice(-3, None), slice(None, None, 7), slice(1990, 5000)),
    *(slice(None, None, 999), slice(1, None, 500), slice(None, None, -1), slice(3000, 4000), slice(0, 0)),
    *((slice(None), 3), (slice(None), slice(2, 5)), (slice(3, 9), slice(None, None, -2)), (slice(None), None)),
    *([3, 1, 2], [0, 1999], [1999, 0, 0, -1], [], [[1, 2], [3, 4]], ([0, 1999], [1, 2]), (5, [1, 2])),
    *(np.array([4, 900]), np.arange(2000) % 500 == 7, (slice(4, 6), [1, 2]), (slice(0, 2000, 999), [0, 1, 2])),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices_are_those_of_the_array(large, index):
    path, weights = large
    with wz.safe_open(path) as file:
        got, expected = file.get_slice("weights")[index], weights[index]
    assert isinstance(got, np.ndarray) and got.shape == np.shape(expected)
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("index", [2000, -2001, [0, 2000], (0, 0, 0), (0, 256), 1.0, "a"])
def test_no_such_index(large, index):
    with wz.safe_open(large[0]) as file, pytest.raises(IndexError):
        file.get_slice("weights")[index]


def test_few_columns_keep_no_more_memory(large):
    with wz.safe_open(large[0]) as file:
        assert file.get_slice("weights")[:, :9].base is None


def test_unknown_names_and_frameworks(large):
    path, _ = large
    with wz.safe_open(path) as file:
        for read in (file.get_tensor, file.get_slice):
            with pytest.raises(ValueError, match="nope") as caught:
                read("nope")
            assert (caught.value.file, caught.value.tensor) == (str(path), "nope")
    with pytest.raises(ValueError, match="framework 'flax'"):
        weightzip.safe_open(path, "flax")
    with pytest.raises(ValueError, match="device 'cpu'"):
        weightzip.safe_open(path, "np", "cuda")


def test_threads_share_an_open_file(large):
    path, weights = large
    with wz.safe_open(path) as file:
        wrong = []

        def read(k: int) -> None:
            for i in range(20):
                row = (k * 397 + i * 83) % 1900
                good = np.array_equal(file.get_slice("weights")[row : row + 90], weights[row : row + 90])
                if not (good and np.array_equal(file.get_tensor("weights"), weights)):
                    wrong.append((k, i))

        threads = [threading.Thread(target=read, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_progress_ends_at_the_whole(large, tmp_path):
    path, weights = large
    for act in (
        lambda told: wz.load_file(path, progress=told),
        lambda told: wz.save_file({"w": weights}, tmp_path / "b.wz", progress=told),
        lambda told: wz.save({"w": weights}, progress=told),
    ):
        seen = []
        act(lambda done, total: seen.append((done, total)))
        assert seen[-1][0] == seen[-1][1] >= weights.nbytes
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
