"""Files that NumPy writes."""

import io

import ml_dtypes
import numpy as np
import pytest
import weightzip
from archives import archive_of, listed

RNG = np.random.default_rng(0)


def saved(save, *arrays, **named) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "complex128": "C128",
}


@pytest.mark.parametrize(("dtype", "name"), DTYPES.items())
def test_an_array_of_each_dtype(dtype, name):
    array = RNG.normal(0, 50, (20, 30)).astype(dtype)
    archive = archive_of(saved(np.save, array))
    assert (archive.info.format, listed(archive)) == ("numpy", {"array": (name, (20, 30))})
    assert archive.read("array") == array.tobytes()


def test_shapes_and_orders():
    for shape in [(), (0, 3), (7,), (2, 3, 4)]:
        assert listed(archive_of(saved(np.save, np.ones(shape)))) == {"array": ("F64", shape)}
    columns = np.asfortranarray(RNG.normal(size=(5, 9)))
    archive = archive_of(saved(np.save, columns))
    assert listed(archive) == {"array": ("F64", (9, 5))}  # rows are what lies together
    assert archive.read("array") == columns.T.tobytes()
    for version in [(1, 0), (2, 0), (3, 0)]:
        content = saved(lambda file, array: np.lib.format.write_array(file, array, version=version), columns)
        assert len(archive_of(content)) == 1


def test_archives_of_arrays():
    arrays = {"w": RNG.normal(size=(64, 64)).astype("f4"), "layer/b": np.zeros(9, "f2"), "none": np.ones((0, 2))}
    archive = archive_of(saved(np.savez, **arrays))
    assert archive.info.format == "numpy"
    assert listed(archive) == {"w": ("F32", (64, 64)), "layer/b": ("F16", (9,)), "none": ("F64", (0, 2))}
    assert archive.read("w") == arrays["w"].tobytes()
    packed = archive_of(saved(np.savez_compressed, **arrays))
    assert (packed.info.format, len(packed)) == ("opaque", 0)


def test_what_stays_opaque():
    others = {
        "records": np.zeros(3, [("a", "f4"), ("b", "i2")]),
        "texts": np.array(["a", "bc"]),
        "objects": np.array([{}, None]),
        "dates": np.array(["2026-01-01"], "M8[D]"),
        "long": np.ones(3, np.longdouble),
        "bf16": np.ones(3, ml_dtypes.bfloat16),
    }
    for array in others.values():
        archive = archive_of(saved(np.save, array))
        assert (archive.info.format, len(archive)) == ("opaque", 0)
    assert len(archive_of(saved(np.savez, **others))) == 0
    assert set(archive_of(saved(np.savez, plain=np.ones(3), **others)).tensors) == {"plain"}


def test_big_endian_arrays_are_records_without_names():
    array = RNG.normal(0, 0.02, (300, 256))
    for dtype in ("f2", "f4", "f8", "c8", "c16", "i4"):
        little, big = (archive_of(saved(np.save, array.astype(order + dtype))) for order in "<>")
        assert (big.info.format, len(big), len(little)) == ("numpy", 0, 1)
        difference = big.info.compressed_bytes - little.info.compressed_bytes
        assert abs(difference) < 0.005 * big.info.original_bytes, dtype
    arrays = {"big": array.astype(">f4"), "little": array.astype("f4")}
    assert set(archive_of(saved(np.savez, **arrays)).tensors) == {"little"}


def test_as_small_as_safetensors():
    import safetensors.numpy

    arrays = {f"w.{i}": RNG.normal(0, 0.02, (300, 256)).astype("f4") for i in range(3)}
    infos = [archive_of(content).info for content in (saved(np.savez, **arrays), safetensors.numpy.save(arrays))]
    ours, theirs = (info.compressed_bytes / info.original_bytes for info in infos)
    assert abs(ours - theirs) < 0.005
