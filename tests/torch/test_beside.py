"""Files whose numbers are described by files beside them: data of ONNX models, and distributed checkpoints."""

import shutil

import numpy as np
import onnx
import pytest
import torch
import torch.distributed.checkpoint as dcp
import weightzip
from archives import listed
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)
ARRAYS = {
    "emb.weight": RNG.normal(0, 0.02, (400, 256)).astype("f4"),
    "layer/w": RNG.normal(0, 0.02, (256, 300)).astype("f2"),
    "layer/b": RNG.normal(size=300),
}


def model() -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    initializers = [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()]
    return helper.make_model(helper.make_graph([], "graph", [value], [value], initializers))


def save(folder, one_file: bool, proto=None, name="model.onnx.data"):
    onnx.save_model(
        proto or model(),
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        location=name if one_file else None,
        size_threshold=0,
    )


def compressed(wz, path, *options) -> weightzip.Archive:
    """The archive of a file, which comes back from it without what is beside it."""
    target = path.with_name(path.name + ".wz")
    wz("compress", path, "-o", target, "-f", *options)
    alone = path.parent / "alone"
    alone.mkdir(exist_ok=True)
    there = shutil.copy(target, alone)
    assert wz("decompress", there, "-o", "-") == path.read_bytes()
    target.unlink()
    return weightzip.open(there)


def test_onnx_data_in_one_file(wz, tmp_path):
    for name in ("model.onnx.data", "weights.of-any-name"):
        save(tmp_path, True, name=name)
        archive = compressed(wz, tmp_path / name)
        assert archive.info.format == "onnx"
        assert listed(archive) == {
            "emb.weight": ("F32", (400, 256)),
            "layer/w": ("F16", (256, 300)),
            "layer/b": ("F64", (300,)),
        }
        assert all(archive.read(key) == array.tobytes() for key, array in ARRAYS.items())
        (tmp_path / name).unlink()


def test_onnx_data_in_a_file_for_each_tensor(wz, tmp_path):
    save(tmp_path, False)
    files = sorted(path for path in tmp_path.iterdir() if path.suffix != ".onnx")
    archives = [compressed(wz, path) for path in files]
    found = {name: of for archive in archives for name, of in listed(archive).items()}
    assert found["emb.weight"] == ("F32", (400, 256)) and found["layer/b"] == ("F64", (300,))
    assert len(archives) == len(found) == 3


def test_tensors_that_share_their_data(wz, tmp_path):
    save(tmp_path, True)
    proto = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    twin = proto.graph.initializer.add()
    twin.CopyFrom(proto.graph.initializer[0])
    twin.name = "head.weight"
    onnx.save(proto, tmp_path / "model.onnx")
    names = set(compressed(wz, tmp_path / "model.onnx.data").tensors)
    assert names == set(ARRAYS)


def test_external_data_is_as_small_as_a_model(wz, tmp_path):
    save(tmp_path, True)
    inside = model().SerializeToString()
    data = tmp_path / "model.onnx.data"
    info = compressed(wz, data).info
    whole = len(weightzip.write_bytes([inside]))
    assert abs(info.compressed_bytes - whole) < 0.005 * len(inside)
    dry = wz("compress", "--dry-run", data).decode()
    assert "onnx" in dry and "F32" in dry
    assert "emb.weight" in wz("inspect", data).decode()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("location", "../model.onnx.data", "out of the folder"),
        ("location", "/model.onnx.data", "out of the folder"),
        ("offset", "99999999", "behind the file"),
        ("offset", "18446744073709551615", "behind the file"),
        ("offset", "-1", "no number"),
        ("length", "7", "another number of bytes"),
        ("offset", "64", "overlaps"),
    ],
)
def test_models_that_lie_are_ignored_with_a_warning(wz, tmp_path, key, value, why):
    save(tmp_path, True)
    proto = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    tensor = proto.graph.initializer[1]
    for entry in list(tensor.external_data):
        if entry.key == key:
            tensor.external_data.remove(entry)
    tensor.external_data.add(key=key, value=value)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    archive = compressed(wz, tmp_path / "model.onnx.data")
    assert "layer/b" in archive.tensors and len(archive) == 2
    report = wz("compress", "--json", "-f", tmp_path / "model.onnx.data").decode()
    assert why in report


def test_a_base_whose_data_is_beside_its_model(wz, tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    save(old, True)
    changed = model()
    array = ARRAYS["emb.weight"] * np.float32(1 + 1e-6)
    changed.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "emb.weight"))
    save(new, True, changed)
    base, data = old / "model.onnx.data", new / "model.onnx.data"
    wz("compress", data, "--base", base)
    result = new / "model.onnx.data.wz"
    assert result.stat().st_size < 0.4 * data.stat().st_size
    assert wz("decompress", result, "--base", base, "-o", "-") == data.read_bytes()
    # Coded anew, without the model, it still has its tensors.
    data.unlink()
    (new / "model.onnx").unlink()
    monkeypatch.setenv("WEIGHTZIP_BASE_PATH", str(old))
    wz("rebase", result, "-o", new / "alone.wz")
    assert set(weightzip.open(new / "alone.wz").tensors) == set(ARRAYS)


def state_dict():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(128, 96), torch.nn.Linear(96, 8))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(4, 128)).square().mean().backward()
    optimizer.step()
    half = torch.randn(300, 64).to(torch.bfloat16)
    return {
        "model": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "half": half,
        "step": 7,
        "objects": {"list": [1, torch.ones(3)]},
    }


def save_checkpoint(folder, state=None):
    dcp.save(state or state_dict(), checkpoint_id=str(folder), no_dist=True)


def test_tensors_of_a_distributed_checkpoint_have_their_names(wz, tmp_path):
    save_checkpoint(tmp_path)
    (file,) = tmp_path.glob("*.distcp")
    archive = compressed(wz, file)
    found = listed(archive)
    assert archive.info.format == "pytorch"
    assert found["model.0.weight"] == ("F32", (96, 128))
    assert found["optimizer.state.0.exp_avg"] == ("F32", (96, 128))
    assert found["half"] == ("BF16", (300, 64))
    assert archive.read("model.0.weight") == state_dict()["model"]["0.weight"].numpy().tobytes()
    # By itself it has numbers for names, and the same bytes but for these.
    (tmp_path / ".metadata").unlink()
    numbered = compressed(wz, file)
    assert "model.0.weight" not in numbered.tensors and len(numbered) == len(archive)


def test_a_tensor_in_parts_says_where_each_starts(wz, tmp_path):
    """Of several processes each writes its rows."""
    import pickle

    from torch.distributed.checkpoint.metadata import MetadataIndex

    save_checkpoint(tmp_path, {"a": torch.randn(64, 32), "b": torch.randn(64, 32), "c": torch.ones(2)})
    path = tmp_path / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    places = {index.fqn: info for index, info in metadata.storage_data.items()}
    metadata.storage_data = {
        MetadataIndex("w", torch.Size([0, 0]), 0): places["a"],
        MetadataIndex("w", torch.Size([64, 0]), 1): places["b"],
        MetadataIndex("c", torch.Size([0]), 0): places["c"],
    }
    path.write_bytes(pickle.dumps(metadata))
    (file,) = tmp_path.glob("*.distcp")
    assert set(compressed(wz, file).tensors) == {"w[0,0]", "w[64,0]", "c"}


class Code:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("import builtins; builtins.was_run = True",))


def test_metadata_that_lies_is_ignored_with_a_warning(wz, tmp_path):
    import builtins
    import pickle

    save_checkpoint(tmp_path)
    (file,) = tmp_path.glob("*.distcp")
    path = tmp_path / ".metadata"
    good = path.read_bytes()
    moved = pickle.loads(good)
    for info in moved.storage_data.values():
        info.offset += 1
    outside = pickle.loads(good)
    for info in outside.storage_data.values():
        info.relative_path = f"../{info.relative_path}"
    for bad, why in [
        (good[:-40], "ignored"),
        (b"", "ignored"),
        (pickle.dumps(Code()), "not one of a checkpoint"),
        (pickle.dumps(moved), "that it doesn't have"),
        (pickle.dumps(outside), "leads out of its folder"),
    ]:
        path.write_bytes(bad)
        archive = compressed(wz, file)
        assert archive.tensors and all(name.isdigit() for name in archive.tensors)
        assert why in wz("compress", "--json", "-f", file).decode()
    assert not hasattr(builtins, "was_run")


def test_a_checkpoint_folder_comes_back_and_loads(wz, tmp_path):
    state, folder = state_dict(), tmp_path / "step-1"
    save_checkpoint(folder, state)
    wz("compress", folder)
    names = {path.name for path in (tmp_path / "step-1.wz").iterdir()}
    assert names == {".metadata", "__0_0.distcp.wz"}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    wz("decompress", tmp_path / "step-1.wz")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    loaded = {
        "model": {name: torch.zeros_like(tensor) for name, tensor in state["model"].items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(96, 128)}}},
        "half": torch.zeros(300, 64, dtype=torch.bfloat16),
        "step": 0,
    }
    dcp.load(loaded, checkpoint_id=str(folder), no_dist=True)
    for name, tensor in state["model"].items():
        assert torch.equal(loaded["model"][name], tensor)
    moment = state["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], moment)
    assert torch.equal(loaded["half"], state["half"]) and loaded["step"] == 7


def test_a_checkpoint_folder_in_place(wz, tmp_path):
    save_checkpoint(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    wz("compress", "--in-place", tmp_path)
    assert "model.0.weight" in weightzip.open(tmp_path / "__0_0.distcp.wz").tensors
    assert (tmp_path / ".metadata").read_bytes() == before[".metadata"]
    wz("decompress", "--in-place", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_data_goes_before_its_model_in_place(wz, tmp_path):
    """Else it would have no names: what is compressed later sorts behind."""
    save(tmp_path, True, name="a.data")
    wz("compress", "--in-place", "--min-saving", "0", tmp_path)
    assert set(weightzip.open(tmp_path / "a.data.wz").tensors) == set(ARRAYS)
    wz("decompress", "--in-place", tmp_path)
    again = onnx.load(tmp_path / "model.onnx")
    assert numpy_helper.to_array(again.graph.initializer[0]).tobytes() == ARRAYS["emb.weight"].tobytes()
