"""GGUF files as the gguf package writes them: what is found in them, and what they shrink to."""

from functools import cache

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES, GGUFEndian

import gguf_files
import weightzip

# Types that the package can quantise to; the quantisers of others are not written in Python.
QUANTISED = [Type[name] for name in gguf_files.OF_PACKAGE]

# Percent that may be left of a file at level default and max. Entropy coding of symbols without a context
# comes to 94.1, 91.5, 90.7 and, with its fifth bit as it is, 97.3.
BOUNDS = {"Q8_0": (94.8, 94.3), "Q4_0": (92.2, 91.5), "Q4_1": (91.4, 90.7), "Q5_0": (98.0, 94.0)}


def restored(wz, path, level):
    """Whether a file comes back, and what share of it was left."""
    packed = path.with_suffix(f".{level}.wz")
    wz("compress", "--quiet", "--level", level, path, "-o", packed)
    wz("decompress", "--quiet", packed, "-o", path.with_suffix(".restored"))
    assert path.with_suffix(".restored").read_bytes() == path.read_bytes()
    return packed, packed.stat().st_size / path.stat().st_size


@pytest.mark.parametrize("kind", GGML_QUANT_SIZES, ids=lambda kind: kind.name)
def test_every_type_of_the_package_is_known(wz, tmp_path, kind):
    elements, size = GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(kind.value)
    random = {name: rng.integers(0, 256, (6, 8 * size), np.uint8) for name in ("first", "second")}
    path = gguf_files.write(tmp_path / "model.gguf", random, kind)
    packed, _ = restored(wz, path, "max")
    # What the package itself reads.
    expected = {t.name: t for t in gguf.GGUFReader(path).tensors}
    with weightzip.open(packed) as archive:
        assert archive.info.format == "gguf"
        found = archive.tensors
        assert found.keys() == expected.keys()
        for name, info in found.items():
            assert info.dtype == kind.name
            assert info.shape == tuple(int(n) for n in reversed(expected[name].shape))
            assert info.shape == (6, 8 * elements)
            assert bytes(archive.read(name)) == random[name].tobytes()
            assert bytes(archive.rows(name, 2, 4)) == random[name][2:4].tobytes()


@pytest.mark.parametrize("level", ["default", "max"])
@pytest.mark.parametrize("kind", QUANTISED, ids=lambda kind: kind.name)
def test_size_is_within_its_bound(wz, tmp_path, quantised, kind, level):
    path = gguf_files.write(tmp_path / "model.gguf", quantised(kind), kind)
    packed, share = restored(wz, path, level)
    assert share <= 1.001
    if bounds := BOUNDS.get(kind.name):
        assert share * 100 <= bounds[level == "max"]


@pytest.fixture(scope="session")
def quantised():
    def arrays(kind):
        return {name: gguf_files.by_package(array, kind) for name, array in gguf_files.matrices(kind).items()}

    return cache(arrays)


@pytest.mark.parametrize("alignment", [None, 64])
def test_alignment_and_big_endian(wz, tmp_path, alignment):
    array = np.random.default_rng(1).normal(0, 0.02, (64, 100)).astype(np.float32)
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama", endianess=GGUFEndian.LITTLE if alignment else GGUFEndian.BIG)
    if alignment:
        writer.add_custom_alignment(alignment)
    writer.add_tensor("t", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    packed, share = restored(wz, path, "default")
    assert share < 0.93
    with weightzip.open(packed) as archive:
        assert archive.info.format == "gguf"
        # Big-endian numbers have no dtype here, so that nobody reads them wrongly.
        assert list(archive.tensors) == (["t"] if alignment else [])


def test_split_files(wz, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama", split_max_tensors=1)
    for name in "ab":
        writer.add_tensor(name, np.full((4, 64), 0.5, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    parts = sorted(tmp_path.glob("model-*.gguf"))
    assert len(parts) == 2
    for part in parts:
        restored(wz, part, "default")
