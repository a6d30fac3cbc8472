"""wz on real weights: the MiniLM model as published, and casts of it."""

import filecmp

import evaluate
import numpy as np
import pytest
import safetensors.numpy

NAMES = sorted(name for name in [*evaluate.BOUNDS, evaluate.CLEAN_FP16] if name.startswith("minilm_"))


LEVELS = ["default", "max"]


@pytest.fixture(scope="session")
def packed_files(wz, minilm_files, tmp_path_factory):
    """Each file, compressed once at each level."""
    folder = tmp_path_factory.mktemp("packed")
    packed = {}
    for name, original in minilm_files.items():
        for level in LEVELS:
            packed[name, level] = folder / f"{name}.{level}.wz"
            wz("compress", "--quiet", "--level", level, original, "-o", packed[name, level])
    return packed


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_size_is_within_its_bound(minilm_files, packed_files, name, level):
    original, size = minilm_files[name], packed_files[name, level].stat().st_size
    bound = evaluate.bound_of(original, level)
    if bound is not None:
        assert size / original.stat().st_size * 100 <= bound
    if level == "max":
        assert size < packed_files[name, "default"].stat().st_size


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NAMES)
def test_restores_every_byte(wz, minilm_files, packed_files, tmp_path, name, level):
    original, packed, restored = minilm_files[name], packed_files[name, level], tmp_path / "restored"
    wz("verify", "--quiet", "--sha256", evaluate.sha256(original), packed)
    wz("decompress", "--quiet", packed, "-o", restored)
    assert filecmp.cmp(original, restored, shallow=False)


@pytest.mark.parametrize("level", LEVELS)
def test_cat_gives_what_safetensors_reads(wz, minilm_files, packed_files, level):
    tensors = safetensors.numpy.load_file(minilm_files["minilm_fp32"])
    name, tensor = max(tensors.items(), key=lambda item: item[1].nbytes)
    packed = packed_files["minilm_fp32", level]

    whole = np.frombuffer(wz("cat", packed, name), tensor.dtype).reshape(tensor.shape)
    assert whole.tobytes() == tensor.tobytes()
    first, last = 12345, 12367
    rows = wz("cat", packed, name, "--rows", f"{first}:{last}")
    assert rows == tensor[first:last].tobytes()
    assert len(rows) == (last - first) * tensor[0].nbytes


@pytest.mark.parametrize("level", LEVELS)
def test_threads_and_pipes_give_the_same_bytes(wz, minilm_files, packed_files, level):
    original = minilm_files["minilm_bf16"].read_bytes()
    packed = packed_files["minilm_bf16", level].read_bytes()
    for threads in (1, 3):
        found = wz("compress", "--quiet", "--level", level, "--threads", threads, "-", stdin=original)
        assert found == packed
        assert wz("decompress", "--quiet", "--threads", threads, "-", stdin=packed) == original
