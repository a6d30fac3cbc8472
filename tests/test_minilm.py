"""wz on real weights: the MiniLM model as published, and casts of it."""

import filecmp

import evaluate
import numpy as np
import pytest
import safetensors.numpy

NAMES = sorted(name for name in [*evaluate.BOUNDS, evaluate.CLEAN_FP16] if name.startswith("minilm_"))


@pytest.fixture(scope="session")
def packed_files(wz, minilm_files, tmp_path_factory):
    """Each file, compressed once."""
    folder = tmp_path_factory.mktemp("packed")
    packed = {name: folder / f"{name}.safetensors.wz" for name in minilm_files}
    for name, original in minilm_files.items():
        wz("compress", "--quiet", original, "-o", packed[name])
    return packed


@pytest.mark.parametrize("name", NAMES)
def test_size_is_within_its_bound(minilm_files, packed_files, name):
    original, packed = minilm_files[name], packed_files[name]
    percent = packed.stat().st_size / original.stat().st_size * 100
    assert percent <= evaluate.bound_of(original)


@pytest.mark.parametrize("name", NAMES)
def test_restores_every_byte(wz, minilm_files, packed_files, tmp_path, name):
    original, packed, restored = minilm_files[name], packed_files[name], tmp_path / "restored"
    wz("verify", "--quiet", "--sha256", evaluate.sha256(original), packed)
    wz("decompress", "--quiet", packed, "-o", restored)
    assert filecmp.cmp(original, restored, shallow=False)


def test_cat_gives_what_safetensors_reads(wz, minilm_files, packed_files):
    tensors = safetensors.numpy.load_file(minilm_files["minilm_fp32"])
    name, tensor = max(tensors.items(), key=lambda item: item[1].nbytes)
    packed = packed_files["minilm_fp32"]

    whole = np.frombuffer(wz("cat", packed, name), tensor.dtype).reshape(tensor.shape)
    assert whole.tobytes() == tensor.tobytes()
    first, last = 12345, 12367
    rows = wz("cat", packed, name, "--rows", f"{first}:{last}")
    assert rows == tensor[first:last].tobytes()
    assert len(rows) == (last - first) * tensor[0].nbytes


def test_threads_and_pipes_give_the_same_bytes(wz, minilm_files, packed_files):
    original = minilm_files["minilm_bf16"].read_bytes()
    packed = packed_files["minilm_bf16"].read_bytes()
    for threads in (1, 3):
        assert wz("compress", "--quiet", "--threads", threads, "-", stdin=original) == packed
        assert wz("decompress", "--quiet", "--threads", threads, "-", stdin=packed) == original
