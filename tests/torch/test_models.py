"""save_model and load_model: tied weights, and names that don't fit."""

import pytest
import torch
import weightzip
import weightzip.torch as wz


class Tied(torch.nn.Module):
    """An embedding and a head with one weight."""

    def __init__(self, tied: bool = True):
        super().__init__()
        self.embed = torch.nn.Linear(8, 4)
        self.head = torch.nn.Linear(8, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        if tied:
            self.head.weight = self.embed.weight


@pytest.fixture(params=["model.wz", "model.safetensors"])
def path(request, tmp_path):
    return tmp_path / request.param


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_tied_weights_are_saved_once_and_restored(path):
    model, other = Tied(), Tied()
    given = {"format": "pt"}
    wz.save_model(model, path, given)
    with wz.safe_open(path) as file:
        assert "head.weight" not in file.keys()
        assert file.metadata() == {"format": "pt", "head.weight": "embed.weight"}
    assert given == {"format": "pt"}
    assert wz.load_model(other, path) == (set(), [])
    assert equal(model, other) and other.head.weight is other.embed.weight


def test_metadata_of_ones_own_are_kept(path):
    wz.save_model(Tied(), path, {"head.weight": "mine"})
    with wz.safe_open(path) as file:
        assert file.metadata() == {"head.weight": "mine"}


def test_a_file_that_keeps_another_name_loads(path):
    model, other = Tied(), Tied()
    tensors = dict(model.state_dict())
    del tensors["embed.weight"]
    wz.save_file(tensors, path)
    assert wz.load_model(other, path) == (set(), []) and equal(model, other)


def test_a_file_with_both_names_has_one_too_many(path):
    wz.save_model(Tied(tied=False), path)
    with pytest.raises(RuntimeError, match="Unexpected key.*'head.weight'"):
        wz.load_model(Tied(), path)
    assert wz.load_model(Tied(), path, strict=False) == (set(), ["head.weight"])


def test_names_that_do_not_fit(path):
    model = Tied(tied=False)
    tensors = dict(model.state_dict())
    tensors["extra"] = tensors.pop("embed.bias")
    wz.save_file(tensors, path)
    with pytest.raises(RuntimeError) as caught:
        wz.load_model(Tied(tied=False), path)
    said = str(caught.value)
    assert "Tied" in said and "Missing key(s) in state_dict: 'embed.bias'" in said and "'extra'" in said
    other = Tied(tied=False)
    assert wz.load_model(other, path, strict=False, device="cpu") == ({"embed.bias"}, ["extra"])
    assert torch.equal(other.head.weight, model.head.weight)


def test_layouts_that_are_not_contiguous(path):
    model = torch.nn.Linear(8, 4)
    model.weight = torch.nn.Parameter(torch.randn(8, 4).T)
    with pytest.raises(ValueError, match="contiguous"):
        wz.save_model(model, path, force_contiguous=False)
    wz.save_model(model, path)
    other = torch.nn.Linear(8, 4)
    wz.load_model(other, path)
    assert equal(model, other)


def test_shared_memory_that_nobody_covers(path):
    model, memory = torch.nn.Module(), torch.zeros(10)
    model.register_buffer("a", memory[:6])
    model.register_buffer("b", memory[4:])
    with pytest.raises(RuntimeError):
        wz.save_model(model, path)


def test_a_part_of_a_whole_is_not_saved(path):
    model, memory = torch.nn.Module(), torch.arange(10)
    model.register_buffer("part", memory[2:6])
    model.register_buffer("whole", memory)
    model.register_buffer("alone", torch.ones(3))
    wz.save_model(model, path)
    assert wz.load_file(path).keys() == {"whole", "alone"}


def test_damage_names_the_file(tmp_path):
    wz.save_model(torch.nn.Linear(500, 500), tmp_path / "m.wz")
    content = bytearray((tmp_path / "m.wz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "m.wz").write_bytes(content)
    with pytest.raises(weightzip.CorruptionError, match="m.wz"):
        wz.load_model(torch.nn.Linear(500, 500), tmp_path / "m.wz")
