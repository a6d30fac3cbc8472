"""Files that are coded against a base, read from Python."""

import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import weightzip
import weightzip.numpy
from safetensors.numpy import save_file


SCRIPT = Path(sysconfig.get_path("scripts"), "wz")


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(7)
    weights = random.standard_normal((300, 200)).astype(np.float32)
    save_file({"w": weights}, tmp_path / "old.safetensors")
    steps = random.standard_normal(weights.shape).astype(np.float32) * np.float32(1e-4)
    save_file({"w": weights + steps}, tmp_path / "new.safetensors")
    arguments = ["compress", "-q", "new.safetensors", "--base", "old.safetensors"]
    subprocess.run([SCRIPT, *arguments], cwd=tmp_path, check=True)
    assert (tmp_path / "new.safetensors.wz").stat().st_size < weights.nbytes * 0.75
    return tmp_path


def test_a_base_beside_the_file_is_found(folder):
    wanted = weightzip.numpy.load_file(folder / "new.safetensors")["w"]
    found = weightzip.numpy.load_file(folder / "new.safetensors.wz")
    assert np.array_equal(found["w"], wanted)
    with weightzip.open(folder / "new.safetensors.wz") as archive:
        assert bytes(archive.rows("w", 3, 5)) == wanted[3:5].tobytes()


def test_a_base_is_looked_for_in_the_folders_of_the_environment(folder, monkeypatch):
    (folder / "models").mkdir()
    (folder / "old.safetensors").rename(folder / "models" / "old.safetensors")
    with weightzip.open(folder / "new.safetensors.wz") as archive:
        assert list(archive) == ["w"]
        with pytest.raises(ValueError, match="base model not found: old.safetensors, blake3"):
            archive.read("w")
    monkeypatch.setenv("WEIGHTZIP_BASE_PATH", str(folder / "models"))
    found = weightzip.numpy.load_file(folder / "new.safetensors.wz")["w"]
    assert np.array_equal(found, weightzip.numpy.load_file(folder / "new.safetensors")["w"])
