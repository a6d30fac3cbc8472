"""Files that are coded against a base, from Python."""

import os
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


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")
def test_a_folder_whose_name_is_no_text_hides_no_base(folder):
    odd = os.path.join(os.fsencode(folder), b"\xe9")
    try:
        os.mkdir(odd)
    except OSError:
        pytest.skip("this file system has names of text only")
    for name in (b"old.safetensors", b"new.safetensors.wz"):
        os.rename(os.path.join(os.fsencode(folder), name), os.path.join(odd, name))
    wanted = weightzip.numpy.load_file(folder / "new.safetensors")["w"]
    with weightzip.open(os.fsdecode(os.path.join(odd, b"new.safetensors.wz"))) as archive:
        assert bytes(archive.read("w")) == wanted.tobytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(folder):
    os.mkfifo(folder / "pipe.wz")
    with pytest.raises(OSError, match="not a regular file"):
        weightzip.open(folder / "pipe.wz")


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


@pytest.fixture
def steps():
    """A model of two tensors, one a little further, and one further still."""
    random = np.random.default_rng(8)
    model = {name: random.standard_normal((200, 300)).astype(np.float32) for name in ("a", "b")}
    found = [model]
    for _ in range(2):
        noise = {name: random.standard_normal(w.shape) * 1e-4 for name, w in model.items()}
        model = {name: (w + noise[name]).astype(np.float32) for name, w in model.items()}
        found.append(model)
    return found


def same(found, wanted):
    return found.keys() == wanted.keys() and all(np.array_equal(found[n], wanted[n]) for n in wanted)


def test_a_file_is_written_against_a_base_and_read_with_it(steps, tmp_path):
    old, new, _ = steps
    base, file = tmp_path / "old.safetensors", tmp_path / "new.safetensors.wz"
    save_file(old, base)
    weightzip.numpy.save_file(new, file)
    alone = file.stat().st_size
    weightzip.numpy.save_file(new, file, base=base)
    assert file.stat().st_size < alone * 0.9
    # Under another name, elsewhere: nothing else leads to it.
    (tmp_path / "elsewhere").mkdir()
    base = base.rename(tmp_path / "elsewhere" / "renamed.safetensors")
    assert same(weightzip.numpy.load_file(file, base=base), new)
    assert same(weightzip.numpy.load(file.read_bytes(), base=str(base)), new)
    with weightzip.numpy.safe_open(file, base=[base]) as opened:
        assert np.array_equal(opened.get_slice("b")[7:9], new["b"][7:9])
    with weightzip.open(file.read_bytes(), base=base) as archive:
        assert bytes(archive.read("a")) == new["a"].tobytes()
    subprocess.run([SCRIPT, "decompress", "-q", file, "--base", base], check=True)
    save_file(new, tmp_path / "plain.safetensors")
    assert file.with_suffix("").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()


def test_what_a_file_needs_is_said(steps, tmp_path):
    old, new, _ = steps
    save_file(old, tmp_path / "old.safetensors")
    save_file(new, tmp_path / "new.safetensors")
    content = (tmp_path / "new.safetensors").read_bytes()
    file = tmp_path / "new.wz"
    assert weightzip.write([content], file).bases == ()
    with weightzip.open(file) as archive:
        assert archive.info.bases == ()
        assert "needs base" not in repr(archive)
    summary = weightzip.write([content], file, base=tmp_path / "old.safetensors")
    assert summary.bases == ("old.safetensors",)
    with weightzip.open(file) as archive:
        assert archive.info.bases == ("old.safetensors",)
        assert repr(archive).endswith("\nneeds base old.safetensors")
        assert "needs base old.safetensors" in archive._repr_html_()
        assert archive.original() == content
    assert weightzip.write_bytes([content], base=tmp_path / "old.safetensors") == file.read_bytes()
    assert weightzip.numpy.save(new, base=tmp_path / "old.safetensors") == file.read_bytes()


def test_a_wrong_base_is_refused(steps, tmp_path):
    old, new, other = steps
    save_file(old, tmp_path / "old.safetensors")
    data = weightzip.numpy.save(new, base=tmp_path / "old.safetensors")
    with pytest.raises(weightzip.InvalidArgumentError, match="base model not found: old.safetensors, blake3"):
        weightzip.numpy.load(data)
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(weightzip.InvalidArgumentError, match="other.safetensors has another of this name: blake3"):
        weightzip.numpy.load(data, base=tmp_path / "other.safetensors")
    # One that changed under its name is noticed by its blocks.
    save_file(other, tmp_path / "old.safetensors")
    with pytest.raises(weightzip.WeightzipError, match="base"):
        weightzip.numpy.load(data, base=tmp_path / "old.safetensors")


def test_a_folder_of_shards_is_a_base(steps, tmp_path):
    old, new, _ = steps
    cache, folder = tmp_path / "blobs", tmp_path / "snapshot"
    (folder / "parts").mkdir(parents=True)
    cache.mkdir()
    save_file({"a": old["a"]}, folder / "model-00001-of-00002.safetensors")
    # As in the hub's cache, whose files are links to others that are outside.
    weightzip.numpy.save_file({"b": old["b"]}, cache / "0123.wz")
    (folder / "parts" / "model-00002-of-00002.safetensors.wz").symlink_to(cache / "0123.wz")
    (folder / "parts" / "up").symlink_to(folder)
    (folder / "config.json").write_text("{}")
    os.mkfifo(folder / "pipe.wz")
    data = weightzip.numpy.save(new, base=folder)
    with weightzip.open(data) as archive:
        assert archive.info.bases == (
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors.wz",
        )
    files = (folder / "model-00001-of-00002.safetensors", cache / "0123.wz")
    for base in (folder, files, list(map(str, files)), iter(files)):
        assert same(weightzip.numpy.load(data, base=base), new)
    (folder / "gone.safetensors").symlink_to(folder / "nowhere")
    with pytest.raises(weightzip.ReadWriteError, match=r"gone.safetensors: .*can't open: No such file"):
        weightzip.numpy.load(data, base=folder)


def test_a_base_that_is_none_is_an_error(tmp_path):
    file = tmp_path / "new.safetensors.wz"
    weights = {"a": np.zeros(8, np.float32)}
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.wz").write_bytes(b"\x89WZ\r\n\x1a\n\x00 and nothing")
    for base, error, words in [
        (tmp_path / "nowhere", FileNotFoundError, "nowhere"),
        (tmp_path / "empty", weightzip.InvalidArgumentError, "base .*empty: .*no models in this folder"),
        (tmp_path / "broken.wz", weightzip.WeightzipError, "base .*broken.wz: "),
        (7, TypeError, "base is a path or a list of paths, not int"),
        ([tmp_path, 7], TypeError, "base is a path or a list of paths, not list"),
    ]:
        with pytest.raises(error, match=words):
            weightzip.numpy.save_file(weights, file, base=base)
        assert not file.exists()
    weightzip.numpy.save_file(weights, file)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        weightzip.numpy.load_file(file, base=tmp_path / "nowhere")


def test_a_file_does_not_replace_its_base(steps, tmp_path):
    first, second, third = steps
    files = [tmp_path / f"{number}.safetensors.wz" for number in range(2)]
    weightzip.numpy.save_file(first, files[0])
    weightzip.numpy.save_file(second, files[1], base=files[0])
    link = tmp_path / "link.wz"
    link.symlink_to(files[0])
    # Itself, what its base needs, and either by another name.
    for file, base in [(files[1], files[1]), (files[0], files[1]), (link, files[0]), (files[0], link)]:
        with pytest.raises(weightzip.InvalidArgumentError, match="this file is the base"):
            weightzip.numpy.save_file(third, file, base=base)
    assert same(weightzip.numpy.load_file(files[1]), second)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0.safetensors.wz",
        "1.safetensors.wz",
        "link.wz",
    ]
