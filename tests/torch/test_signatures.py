"""Whatever the calls of safetensors, torch, transformers and diffusers take, the calls of weightzip take in the same way."""

import inspect
import io
import pickle
import typing

import diffusers
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
import transformers
import weightzip
import weightzip.diffusers
import weightzip.numpy
import weightzip.torch
import weightzip.transformers
from weightzip._safe_open import SafeOpen, SafeSlice

BY_NAME = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
# Written in C, it tells that it has a default, not which one.
UNKNOWN = ...


def overload(function, first):
    """The signature of a function whose first parameter is called so."""
    signatures = map(inspect.signature, typing.get_overloads(function))
    return next(signature for signature in signatures if next(iter(signature.parameters)) == first)


def of_method(function):
    """Without the model, which is `self` there, or the class."""
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def parameters(signature):
    return [each for each in signature.parameters.values() if each.name != "self"]


PAIRS = {
    **{
        f"safetensors.torch.{name}": (getattr(safetensors.torch, name), inspect.signature(getattr(weightzip.torch, name)))
        for name in ("save_file", "load_file", "save_model", "load_model")
    },
    **{
        f"safetensors.numpy.{name}": (getattr(safetensors.numpy, name), inspect.signature(getattr(weightzip.numpy, name)))
        for name in ("save_file", "load_file", "save", "load")
    },
    "safetensors.torch.save": (safetensors.torch.save, overload(weightzip.torch.save, "tensors")),
    "safetensors.torch.load": (safetensors.torch.load, overload(weightzip.torch.load, "data")),
    "torch.save": (torch.save, overload(weightzip.torch.save, "obj")),
    "torch.load": (torch.load, overload(weightzip.torch.load, "f")),
    "safe_open": (safetensors.safe_open, inspect.signature(weightzip.safe_open)),
    "safe_open of torch": (safetensors.safe_open, inspect.signature(weightzip.torch.safe_open)),
    "safe_open of numpy": (safetensors.safe_open, inspect.signature(weightzip.numpy.safe_open)),
    "transformers.from_pretrained": (
        transformers.PreTrainedModel.from_pretrained,
        of_method(weightzip.transformers.from_pretrained),
    ),
    "transformers.save_pretrained": (
        transformers.PreTrainedModel.save_pretrained,
        of_method(weightzip.transformers.save_pretrained),
    ),
    "diffusers.from_pretrained": (
        diffusers.ModelMixin.from_pretrained,
        of_method(weightzip.diffusers.from_pretrained),
    ),
    "diffusers.save_pretrained": (
        diffusers.ModelMixin.save_pretrained,
        of_method(weightzip.diffusers.save_pretrained),
    ),
    "DiffusionPipeline.save_pretrained": (
        diffusers.DiffusionPipeline.save_pretrained,
        of_method(weightzip.diffusers.save_pretrained),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_takes_what_the_original_takes(name):
    original, ours = PAIRS[name]
    theirs = parameters(inspect.signature(original))
    mine = parameters(ours)
    named = {each.name: each for each in mine}
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in mine)
    takes_more = any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in mine)
    for place, each in enumerate(theirs):
        if each.kind not in BY_NAME:
            assert takes_any if each.kind is inspect.Parameter.VAR_KEYWORD else takes_more, each
            continue
        if each.name in named:
            found = named[each.name]
            assert each.default in (found.default, UNKNOWN, each.empty) or takes_any, each
        else:
            assert takes_any, each
        if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:  # at the same place, too
            has_place = place < len(mine) and (mine[place].name, mine[place].kind) == (each.name, each.kind)
            assert has_place or takes_more, each
    # What is added has a default, and a name by which alone it is given.
    for each in mine:
        added = each.name not in {other.name for other in theirs} and each.kind in BY_NAME
        assert not added or (each.kind is inspect.Parameter.KEYWORD_ONLY and each.default is not each.empty), each


def test_open_files_and_slices_have_the_same_methods(tmp_path):
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_") or name in ("__enter__", "__exit__", "__getitem__")}

    weightzip.torch.save_file({"a": torch.ones(3)}, tmp_path / "a.safetensors")
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert public(type(file)) <= public(SafeOpen)
        assert public(type(file.get_slice("a"))) <= public(SafeSlice)


def test_save_and_load_by_place_and_by_name(tmp_path):
    state, path = {"a": torch.ones(3), "code": range(3)}, tmp_path / "a.pt.wz"
    weightzip.torch.save(obj=state, f=path)
    weightzip.torch.save(state, f=path, pickle_module=pickle)
    weightzip.torch.save(state, path, pickle, 2)
    with pytest.raises(RuntimeError, match="explicit pickle_module"):
        weightzip.torch.load(path, "cpu", pickle, weights_only=True)
    for arguments, options in [
        ((path, "cpu", pickle), {}),
        ((path, "cpu", pickle), {"weights_only": False}),
        ((path,), {"pickle_module": pickle, "weights_only": False}),
        ((), {"f": path, "map_location": "cpu", "weights_only": False, "encoding": "latin1"}),
    ]:
        loaded = weightzip.torch.load(*arguments, **options)
        assert loaded["code"] == range(3) and torch.equal(loaded["a"], state["a"])
    tensors = {"a": torch.ones(3)}
    data = weightzip.torch.save(tensors=tensors, metadata={"k": "v"})
    assert torch.equal(weightzip.torch.load(data=data)["a"], tensors["a"])
    for bad in ({"obj": state}, {"tensors": tensors, "f": path}, {"tensors": tensors, "pickle_protocol": 2}):
        with pytest.raises(TypeError):
            weightzip.torch.save(**bad)


def test_the_environment_decides_as_for_torch(tmp_path, monkeypatch):
    weightzip.torch.save({"code": range(3)}, tmp_path / "a.pt.wz")
    with pytest.raises(pickle.UnpicklingError):
        weightzip.torch.load(tmp_path / "a.pt.wz")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.warns(UserWarning, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        assert weightzip.torch.load(tmp_path / "a.pt.wz") == {"code": range(3)}
    with pytest.raises(pickle.UnpicklingError):
        weightzip.torch.load(tmp_path / "a.pt.wz", weights_only=True)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_is_read_from_where_it_is(compressed):
    """As torch.load does: several objects may be in one file."""
    one = io.BytesIO()
    (weightzip.torch.save if compressed else torch.save)({"a": torch.arange(5000)}, one)
    file = io.BytesIO(b"before " + one.getvalue())
    file.seek(7)
    assert torch.equal(weightzip.torch.load(file)["a"], torch.arange(5000))
