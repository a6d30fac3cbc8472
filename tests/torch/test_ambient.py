"""Loading and saving under every ambient state of PyTorch: default device, default dtype and grad mode change nothing."""

import io
from contextlib import contextmanager, nullcontext

import pytest
import tiny
import torch
import weightzip
import weightzip.torch as wz
from diffusers import AutoencoderKL
from stored import load as load_distributed
from stored import save as save_distributed
from test_save_load import bits
from weightzip import diffusers, sync, transformers
from weightzip.checkpoint import CheckpointStore


@contextmanager
def set_and_reset(get, change, value):
    before = get()
    change(value)
    try:
        yield
    finally:
        change(before)


def default_device():
    return set_and_reset(lambda: None, torch.set_default_device, "meta")


AMBIENT = {
    "meta context": lambda: torch.device("meta"),
    "meta by default": default_device,
    "float64 by default": lambda: set_and_reset(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
}


@pytest.fixture(params=AMBIENT)
def ambient(request):
    return AMBIENT[request.param]


def state():
    """Numbers, nothing, a single value, and dtypes that safetensors has not."""
    torch.manual_seed(0)
    return {
        "weight": torch.randn(300, 40),
        "half": torch.randn(30, 4).to(torch.bfloat16),
        "none": torch.empty(0, 4),
        "scale": torch.tensor(3.0),
        "parameter": torch.nn.Parameter(torch.randn(5)),
    }


def told(tensors):
    """All that matters of tensors; for what is on no device their values count, too."""
    return {
        name: (tensor.dtype, tensor.shape, tensor.device.type, bits(tensor.detach())) for name, tensor in tensors.items()
    }


def check(ambient, work):
    """Whether a call gives the same under an ambient state as without."""
    with ambient():
        got = work()
    assert told(got) == told(work())
    assert all(tensor.device.type == "cpu" for tensor in got.values())


def plain(tensors):
    return {name: tensor.detach() for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", ["a.safetensors.wz", "a.safetensors"])
def test_load_file(ambient, name, tmp_path):
    with ambient():
        pass
    path = tmp_path / name
    wz.save_file(plain(state()), path)
    check(ambient, lambda: wz.load_file(path))
    check(ambient, lambda: wz.load(path.read_bytes()))


def test_safe_open(ambient, tmp_path):
    wz.save_file(plain(state()), tmp_path / "a.wz")

    def slices():
        with wz.safe_open(tmp_path / "a.wz") as file:
            return {name: file.get_slice(name)[:2] if "scale" != name else file.get_tensor(name) for name in file.keys()}

    check(ambient, slices)


def test_saving(ambient, tmp_path):
    tensors, model = plain(state()), tiny.bert()
    with ambient():
        wz.save_file(tensors, tmp_path / "a.wz")
        wz.save_model(model, tmp_path / "model.wz")
        wz.save({"tensors": tensors, "step": 3}, tmp_path / "a.pt.wz")
    assert told(wz.load_file(tmp_path / "a.wz")) == told(tensors)
    assert told(wz.load(tmp_path / "a.pt.wz")["tensors"]) == told(tensors)
    again = tiny.bert()
    with torch.no_grad():
        for weight in again.parameters():
            weight.zero_()
    with ambient():
        wz.load_model(again, tmp_path / "model.wz")
    tiny.assert_same_weights(again, model)


def test_checkpoints_of_torch(ambient, tmp_path):
    tensors = state()
    wz.save(tensors, tmp_path / "a.pt.wz")
    wz.save(tensors, tmp_path / "a.pt")
    with ambient():
        got, expected = wz.load(tmp_path / "a.pt.wz"), torch.load(tmp_path / "a.pt")
    for name, tensor in expected.items():
        assert (got[name].device, got[name].requires_grad) == (tensor.device, tensor.requires_grad), name
    file = io.BytesIO((tmp_path / "a.pt.wz").read_bytes())
    assert told(wz.load(file)) == told(tensors)


def test_distributed(ambient, tmp_path):
    tensors = plain(state()) | {"complex": torch.ones(9, dtype=torch.complex128), "turned": torch.randn(6, 5).t()}
    save_distributed(tensors, tmp_path)
    targets = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    targets["half"] = torch.zeros(30, 4)  # another dtype, so decoded elsewhere first
    with ambient():
        load_distributed(targets, tmp_path)
    assert torch.equal(targets.pop("half"), tensors.pop("half").to(torch.float32))
    assert told(targets) == told(tensors)


def test_store(ambient, tmp_path):
    tensors = plain(state()) | {"complex": torch.ones(0, 3, dtype=torch.complex128)}
    with CheckpointStore(tmp_path / "run") as store:
        with ambient():
            store.save(1, tensors)
        check(ambient, lambda: store.load(1))
        assert told(store.load(1)) == told(tensors)


def test_updates(ambient):
    old, new = plain(state()), plain(state())
    new["weight"] = new["weight"] * (1 + 1e-4)
    with ambient():
        update = sync.diff(old, new)
    check(ambient, lambda: sync.apply(old, update))
    with ambient():
        sync.apply_in_place(old, update)
    assert told(old) == told(new)


@pytest.mark.parametrize("library", ["transformers", "diffusers"])
def test_from_pretrained(ambient, library, tmp_path):
    """As the library's own: that of transformers refuses to load on device meta, too."""
    if library == "transformers":
        model, ours = tiny.llama(), transformers
    else:
        model, ours = AutoencoderKL(block_out_channels=(32,), norm_num_groups=8, sample_size=8), diffusers
    with ambient():
        ours.save_pretrained(model, tmp_path / "packed")
    model.save_pretrained(tmp_path / "plain")

    def load(which):
        try:
            with ambient():
                return (
                    type(model).from_pretrained(tmp_path / "plain")
                    if which == "stock"
                    else ours.from_pretrained(type(model), tmp_path / "packed")
                )
        except RuntimeError as error:
            return str(error)

    got, expected = load("ours"), load("stock")
    if isinstance(expected, str):
        assert got == expected
    else:
        assert got.dtype == expected.dtype and got.device.type == "cpu"
        with nullcontext() if expected.device.type == "cpu" else torch.device("cpu"):
            tiny.assert_same_weights(got.to(model.dtype), model)


def test_an_open_file_has_a_device_of_its_own(ambient, tmp_path):
    wz.save_file(plain(state()), tmp_path / "a.wz")
    with ambient():
        with weightzip.safe_open(tmp_path / "a.wz", "pt", "meta") as file:
            assert file.get_tensor("weight").device.type == "meta"
        with weightzip.safe_open(tmp_path / "a.wz", "pt", "cpu") as file:
            assert file.get_tensor("none").device.type == "cpu"
