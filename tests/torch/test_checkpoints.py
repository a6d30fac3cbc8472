"""Files that torch writes: what is found in them, that they come back, and weightzip.torch.save and load."""

import io
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
import weightzip
import weightzip.torch as wz
from archives import archive_of, listed


def checkpoint():
    """A model with tied weights and its optimizer, in nested dicts."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(512, 128), torch.nn.Linear(128, 512, bias=False))
    model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.arange(64)).square().mean().backward()
    optimizer.step()
    whole = torch.randn(6, 8)
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parts": [whole[:3], whole[3:], torch.randn(5, 7).t()],
        "few": [torch.ones(3, 4).to(getattr(torch, dtype)) for dtype in ("bfloat16", "float8_e4m3fn", "uint16", "bool")],
        "empty": torch.empty(0, 4),
        "complex": torch.ones(9, dtype=torch.complex128),
        "step": 7,
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    }


def saved(obj, save=torch.save, **options) -> bytes:
    file = io.BytesIO()
    save(obj, file, **options)
    return file.getvalue()


def test_tensors_have_the_names_that_lead_to_them():
    obj = checkpoint()
    archive = archive_of(saved(obj))
    assert archive.info.format == "pytorch"
    found = listed(archive)
    expected = {
        "model.0.weight": ("F32", (512, 128)),  # model.1.weight is the same
        "optimizer.state.0.step": ("F32", ()),
        "optimizer.state.0.exp_avg": ("F32", (512, 128)),
        "optimizer.state.0.exp_avg_sq": ("F32", (512, 128)),
        "few.0": ("BF16", (3, 4)),
        "few.1": ("F8_E4M3", (3, 4)),
        "few.2": ("U16", (3, 4)),
        "few.3": ("BOOL", (3, 4)),
        "empty": ("F32", (0, 4)),
        "parameter": ("F32", (2, 2)),
        "complex": ("C128", (9,)),
    }
    assert expected.items() <= found.items()
    # Two halves of one storage, and a tensor by columns: under the names of their storages.
    views = {name: of for name, of in found.items() if name not in expected}
    assert sorted(views.values()) == [("F32", (35,)), ("F32", (48,))]
    assert all(name.startswith("data/") for name in views)
    values = obj["optimizer"]["state"][0]["exp_avg"].numpy().tobytes()
    assert archive.read("optimizer.state.0.exp_avg") == values


def test_fp4_is_counted_in_elements():
    """PyTorch counts pairs."""
    pairs = torch.arange(48, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert listed(archive_of(saved({"w": pairs.view(6, 8)}))) == {"w": ("F4", (6, 16))}
    assert listed(archive_of(saved({"part": pairs[8:]}))) == {"data/0": ("F4", (96,))}


def test_whole_modules_and_torchscript():
    model = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.Linear(48, 2))
    names = set(model.state_dict())
    assert set(archive_of(saved(model)).tensors) == names

    class Scaled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x) * torch.tensor([2.0, 3.0])

    content = saved(torch.jit.trace(Scaled(), torch.ones(1, 64)), torch.jit.save)
    found = listed(archive_of(content))
    assert {name: shape for name, (_, shape) in found.items() if name.startswith("inner")} == {
        f"inner.{name}": tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    assert found.get("constants.0") == ("F32", (2,))


def test_distributed_checkpoints(tmp_path):
    import torch.distributed.checkpoint as dcp

    state = {"w": torch.randn(300, 200), "b": torch.randn(70), "step": 3}
    dcp.save(state, checkpoint_id=str(tmp_path), no_dist=True)
    (file,) = tmp_path.glob("*.distcp")
    archive = archive_of(file.read_bytes())
    assert archive.info.format == "pytorch"
    assert sorted(listed(archive).values()) == [("F32", (70,)), ("F32", (300, 200))]
    assert archive_of((tmp_path / ".metadata").read_bytes()).info.format == "opaque"


def test_what_is_no_zip_archive_is_opaque_and_comes_back():
    # Of such files torch itself does not load the newer dtypes.
    content = saved(checkpoint() | {"few": []}, _use_new_zipfile_serialization=False)
    archive = archive_of(content)
    assert (archive.info.format, len(archive)) == ("opaque", 0)
    file = io.BytesIO()
    weightzip.write([content], file)
    file.seek(0)
    loaded = wz.load(file)
    assert torch.equal(loaded["model"]["0.weight"], loaded["model"]["1.weight"])


@pytest.mark.parametrize("level", ["default", "max"])
def test_as_small_as_safetensors(level):
    torch.manual_seed(0)
    tensors = {f"layer.{i}": torch.randn(512, 256).to(torch.bfloat16) for i in range(4)}
    tensors |= {f"bias.{i}": torch.randn(512) for i in range(4)}
    ours = archive_of(saved(tensors), level).info
    theirs = archive_of(safetensors.torch.save(tensors), level).info
    share = [info.compressed_bytes / info.original_bytes for info in (ours, theirs)]
    assert abs(share[0] - share[1]) < 0.005, share


def test_a_fine_tune_is_small_next_to_a_checkpoint(tmp_path):
    """Whatever the storages are called: tensors are matched by what they hold, or by name."""
    base = {"a": torch.randn(256, 256), "b": torch.randn(256, 256)}
    tuned = {"new": torch.zeros(2000), "b": base["b"], "a": base["a"] + 1e-6}
    torch.save(base, tmp_path / "base.pt")
    content = saved(tuned)
    summary = weightzip.write([content], tmp_path / "tuned.wz", base=tmp_path / "base.pt")
    assert summary.compressed_bytes < 0.6 * len(content)
    assert weightzip.open(tmp_path / "tuned.wz", base=tmp_path / "base.pt").original() == content


class Code:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.was_run = True",))


def test_code_in_a_pickle_is_never_run(tmp_path):
    import builtins

    content = saved({"w": torch.ones(100), "bad": Code()})
    assert set(archive_of(content).tensors) == {"w"}
    wz_file = tmp_path / "bad.pt.wz"
    weightzip.write([content], wz_file)
    with pytest.raises(pickle.UnpicklingError, match="[Ww]eights"):
        wz.load(wz_file)
    assert not hasattr(builtins, "was_run")


def test_deflated_members_stay_as_they_are():
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved(checkpoint()))) as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in plain.namelist():
            file.writestr(name, plain.read(name))
        file.writestr("bomb", bytes(10_000_000))
    assert len(archive_of(packed.getvalue())) == 0


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_save_and_load_are_those_of_torch(tmp_path):
    obj = checkpoint() | {"few": []}
    for name in ("a.pt", "a.pt.wz"):
        wz.save(obj, tmp_path / name)
        assert same(wz.load(tmp_path / name), obj)
    assert same(torch.load(tmp_path / "a.pt"), obj)
    written = weightzip.open(tmp_path / "a.pt.wz")
    assert written.info.format == "pytorch"
    assert same(torch.load(io.BytesIO(written.original())), obj)
    (tmp_path / "a.pt").unlink()
    loaded = wz.load(str(tmp_path / "a.pt"), "meta")
    assert loaded["model"]["0.weight"].device.type == "meta"

    file = io.BytesIO()
    wz.save(obj, file, pickle_protocol=4, level="max")
    assert weightzip.open(file.getvalue()).info.level == "max"
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        wz.load(file)  # of protocol 4 there are no weights only
    file.seek(0)
    assert same(wz.load(file, map_location="cpu", weights_only=False), obj)
    file = io.BytesIO(saved(obj))
    assert same(wz.load(file), obj)


def test_what_save_and_load_refuse(tmp_path):
    with pytest.raises(TypeError, match="need a file to save to"):
        wz.save({"a": torch.ones(1)}, pickle_protocol=2)
    with pytest.raises(TypeError, match="need a file to load"):
        wz.load(wz.save({"a": torch.ones(1)}), "cpu")
    wz.save({"a": torch.ones(1)}, tmp_path / "a.pt.wz")
    with pytest.raises(weightzip.InvalidArgumentError, match="without mmap"):
        wz.load(tmp_path / "a.pt.wz", mmap=True)
    with pytest.raises(weightzip.InvalidArgumentError, match="checksums"):
        wz.save({"a": torch.ones(4, 4)}, tmp_path / "b.pt.wz", lossy="abs=2^-4")
    with pytest.raises(weightzip.InvalidArgumentError, match="ends in .wz"):
        wz.save({"a": torch.ones(4, 4)}, tmp_path / "b.pt", lossy="abs=2^-4")
    with pytest.raises(FileNotFoundError):
        wz.load(tmp_path / "none.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt.wz"]


def test_the_plain_file_is_made_beside_the_target(tmp_path, monkeypatch):
    """A small TMPDIR is no matter; nothing is left, and a name appears only with the whole file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no such folder"))
    (tmp_path / "run").mkdir()
    obj = {"a": torch.randn(500, 100)}
    wz.save(obj, tmp_path / "run/a.pt.wz")
    assert same(wz.load(tmp_path / "run/a.pt.wz"), obj)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a.pt.wz"]
    with pytest.raises(FileNotFoundError, match="none"):
        wz.save(obj, tmp_path / "none/a.pt.wz")


@pytest.mark.parametrize("zipped", [True, False])
def test_no_room_for_the_plain_file_is_said(tmp_path, monkeypatch, zipped):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: Full())
    with pytest.raises(weightzip.ReadWriteError, match="plain checkpoint, which takes room.*No space left") as caught:
        wz.save({"a": torch.ones(1000)}, tmp_path / "a.pt.wz", _use_new_zipfile_serialization=zipped)
    assert caught.value.file == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_said_before_torch_speaks_of_trust(tmp_path):
    path = tmp_path / "a.pt.wz"
    wz.save({"a": torch.randn(300, 300)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(weightzip.CorruptionError, match="tensor|block|a.pt.wz"):
        wz.load(path)


def test_other_files_are_told_by_what_they_are(tmp_path):
    wz.save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors.wz")
    with pytest.raises(weightzip.InvalidArgumentError, match="holds no checkpoint.*safetensors.*load_file"):
        wz.load(tmp_path / "a.safetensors.wz")
    wz.save({"a": torch.ones(3)}, tmp_path / "a.pt")
    for name in ("b.pt.wz", "c"):  # plain under the name of a compressed one, and the other way round
        wz.save({"a": torch.ones(3)}, tmp_path / "plain.pt" if name == "b.pt.wz" else tmp_path / "packed.pt.wz")
        (tmp_path / ("plain.pt" if name == "b.pt.wz" else "packed.pt.wz")).rename(tmp_path / name)
        assert torch.equal(wz.load(tmp_path / name)["a"], torch.ones(3))
    (tmp_path / "d.pt.wz").write_bytes(b"neither")
    with pytest.raises(weightzip.InvalidArgumentError, match="this is not a .wz file"):
        wz.load(tmp_path / "d.pt.wz")
    with pytest.raises(weightzip.InvalidArgumentError, match="zip archive, as torch.save"):
        weightzip.open(tmp_path / "a.pt")
