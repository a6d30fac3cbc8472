"""Files whose names say something else than their bytes."""

import io

import numpy as np
import pytest
import weightzip
import weightzip.numpy as wz

WEIGHTS = {"a": np.arange(300, dtype=np.float32)}


@pytest.mark.parametrize("name", ["model.safetensors", "model"])
def test_a_compressed_file_is_read_whatever_it_is_called(name, tmp_path):
    (tmp_path / name).write_bytes(wz.save(WEIGHTS))
    assert (wz.load_file(tmp_path / name)["a"] == WEIGHTS["a"]).all()
    with weightzip.safe_open(tmp_path / name, "np") as file:
        assert (file.get_slice("a")[:3] == WEIGHTS["a"][:3]).all()


def test_a_plain_file_is_read_whatever_it_is_called(tmp_path):
    wz.save_file(WEIGHTS, tmp_path / "model.safetensors")
    named = (tmp_path / "model.safetensors").rename(tmp_path / "model.safetensors.wz")
    assert (wz.load_file(named)["a"] == WEIGHTS["a"]).all()
    with weightzip.safe_open(named, "np") as file:
        assert (file.get_tensor("a") == WEIGHTS["a"]).all()
    with pytest.raises(weightzip.InvalidArgumentError, match="plain safetensors file; .*load_file.*wz compress") as caught:
        weightzip.open(named)
    assert caught.value.file == str(named)


def npy():
    file = io.BytesIO()
    np.save(file, WEIGHTS["a"])
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez(file, **WEIGHTS)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (npy(), "a plain NumPy array"),
        (npz(), "a zip archive, as torch.save and numpy.savez write"),
        (b"GGUF" + bytes(100), "a plain GGUF file"),
        (b"\x1f\x8b" + bytes(100), "a gzip file"),
    ],
)
def test_what_is_no_wz_is_told_by_what_it_is(content, kind, tmp_path):
    (tmp_path / "a.wz").write_bytes(content)
    for file in (tmp_path / "a.wz", content, io.BytesIO(content)):
        with pytest.raises(weightzip.InvalidArgumentError, match=f"not a .wz file, but {kind}: compress it"):
            weightzip.open(file)
    with pytest.raises(weightzip.InvalidArgumentError, match=kind):
        wz.load_file(tmp_path / "a.wz")


def test_a_pointer_of_git_lfs(tmp_path):
    (tmp_path / "a.wz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(weightzip.InvalidArgumentError, match="git lfs pull"):
        weightzip.open(tmp_path / "a.wz")


def test_other_errors_stay_as_they_are(tmp_path):
    for content in (b"", b"neither", bytes(100)):
        with pytest.raises(weightzip.InvalidArgumentError, match="this is not a .wz file"):
            weightzip.open(content)
    (tmp_path / "base.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        weightzip.open(tmp_path / "none.wz")


def test_the_rounded_file_is_found_where_there_is_no_other(tmp_path):
    wz.save_file({"a": np.ones((64, 64), np.float32)}, tmp_path / "m.safetensors.lossy.wz", lossy="abs=2^-4")
    with pytest.warns(weightzip.LossyWarning):
        assert wz.load_file(tmp_path / "m.safetensors")["a"].sum() == 4096
    wz.save_file({"a": np.zeros(3)}, tmp_path / "m.safetensors.wz")
    assert wz.load_file(tmp_path / "m.safetensors")["a"].sum() == 0
