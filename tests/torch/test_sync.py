"""weightzip.sync with tensors of PyTorch; what doesn't depend on the framework is in tests/test_sync.py."""

import sys

import pytest
import torch
import weightzip
import weightzip.torch
from test_distributed import Twice
from test_memory import BUFFERS, peak_of
from test_save_load import DTYPES, same, tensor
from weightzip import InvalidArgumentError, sync


def model():
    """Two layers of one weight, and what isn't contiguous."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(500, 300), "head": torch.nn.Linear(300, 500)}).bfloat16()
    model["head"].weight = model["embed"].weight
    model.turned = torch.nn.Parameter(torch.randn(200, 300).bfloat16().T)
    return model


def step(model):
    with torch.no_grad():
        for parameter in model.parameters():
            chosen = torch.rand(parameter.shape) < 0.01
            parameter[chosen] *= 1.01


def copied(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def test_state_dicts_of_models():
    trainer, worker = model(), model()
    old = copied(trainer.state_dict())
    step(trainer)
    update = sync.diff(old, trainer.state_dict())
    assert len(update) < sum(tensor.nbytes for tensor in old.values()) / 20
    assert same(sync.apply(old, update), trainer.state_dict())
    sync.apply_in_place(worker.state_dict(), update)
    assert same(worker.state_dict(), trainer.state_dict())
    assert worker["head"].weight is worker["embed"].weight
    assert not worker.turned.is_contiguous()
    with weightzip.open(update) as archive:
        assert set(archive) == {"embed.weight", "head.weight", "head.bias", "turned"}


def test_parameters_in_training():
    old = model()
    new = copied(old.state_dict())
    new["turned"][7] += 1
    update = sync.diff(old.state_dict(), new)
    parameters = dict(old.named_parameters())
    assert "head.weight" not in parameters  # which is that of the embedding
    sync.apply_in_place(parameters, update, names=parameters)
    assert same(old.state_dict(), new)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in parameters.values())


def test_a_chain_of_updates():
    trainer = model()
    sent, held = copied(trainer.state_dict()), copied(trainer.state_dict())
    for _ in range(3):
        step(trainer)
        update = sync.diff(sent, trainer.state_dict())
        for state in (sent, held):
            sync.apply_in_place(state, update)
        assert same(held, trainer.state_dict())
    with pytest.raises(InvalidArgumentError, match="`old` has not the values"):
        sync.apply_in_place(held, update)


def test_every_dtype():
    old = {f"{dtype}.weight": tensor(dtype, 50, 40) for dtype in DTYPES}
    old |= {f"{dtype}.none": tensor(dtype, 0, 4) for dtype in DTYPES}
    old |= {f"{dtype}.scale": tensor(dtype) for dtype in DTYPES if "float4" not in dtype}
    new = {name: t.reshape(-1).view(torch.uint8).flip(0).view(t.dtype).reshape(t.shape) for name, t in old.items()}
    update = sync.diff(old, new)
    assert same(sync.apply(old, update), new)
    sync.apply_in_place(old, update)
    assert same(old, new)


def test_views_that_negate_or_conjugate():
    values = torch.randn(60, dtype=torch.complex64)
    old = {"conjugate": values.conj(), "negative": values.conj().imag}
    new = {name: (tensor * 2).resolve_conj().resolve_neg() for name, tensor in old.items()}
    update = sync.diff(old, new)
    assert same(sync.apply(old, update), new)
    target = torch.empty(60, dtype=torch.complex64).conj().copy_(old["conjugate"])
    sync.apply_in_place({"conjugate": target, "negative": old["negative"]}, update, names=["conjugate"])
    assert torch.equal(target, new["conjugate"])


def test_a_first_update_knows_its_framework():
    new = copied(model().state_dict())
    assert same(sync.apply({}, sync.diff({}, new)), new)


def test_numpy_gets_what_torch_sends():
    old, new = ({"w": torch.randn(300, 300)} for _ in range(2))
    got = sync.apply({"w": old["w"].numpy()}, sync.diff(old, new))
    assert got["w"].tobytes() == new["w"].numpy().tobytes()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (torch.ones(3, device="meta"), "has no values"),
        (torch.ones(3).to_sparse(), "is sparse"),
        (torch.ones(3, dtype=torch.complex128), "has dtype torch.complex128"),
        ([1.0], "must be a torch.Tensor"),
        (Twice(torch.ones(3)), "is a Twice, made of other tensors"),
    ],
)
def test_what_no_update_can_hold(bad, why):
    state = {"good": torch.ones(3), "bad": bad}
    with pytest.raises(InvalidArgumentError, match=f"{why}.*tensor 'bad'"):
        sync.diff({}, state)
    with pytest.raises(InvalidArgumentError, match=f"{why}.*tensor 'bad'"):
        sync.diff(state, {"bad": torch.ones(3)})


def test_expanded_tensors_are_refused_in_place():
    old = {"a": torch.ones(3), "b": torch.ones(1).expand(5)}
    update = sync.diff(old, {"a": torch.zeros(3), "b": torch.arange(5.0)})
    with pytest.raises(InvalidArgumentError, match="is expanded.*tensor 'b'"):
        sync.apply_in_place(old, update)
    assert old["a"].tolist() == [1, 1, 1]


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        old = {"a": torch.ones(3), "b": torch.ones(5)}
    old["a"] = torch.ones(3)
    update = sync.diff(old, {"a": torch.zeros(3), "b": torch.zeros(5)})
    with pytest.raises(InvalidArgumentError, match="was made in inference mode.*tensor 'b'"):
        sync.apply_in_place(old, update)
    assert old["a"].tolist() == [1, 1, 1]
    with torch.inference_mode():
        sync.apply_in_place(old, update)
    assert old["a"].tolist() + old["b"].tolist() == [0] * 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu():
    old = {name: tensor.cuda() for name, tensor in model().state_dict().items()}
    new = copied(old)
    new["turned"][7] += 1
    update = sync.diff(old, new)
    got = sync.apply(old, update)
    assert all(tensor.is_cuda for tensor in got.values())
    assert all(torch.equal(got[name], tensor) for name, tensor in new.items())
    sync.apply_in_place(old, update)
    assert all(torch.equal(old[name], tensor) for name, tensor in new.items())


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory in use")
def test_memory():
    before = """from weightzip import sync
torch.manual_seed(0)
old = {str(i): torch.randn(2000, 2500) for i in range(20)}
new = {name: tensor.clone() for name, tensor in old.items()}
for tensor in new.values():
    tensor[::100, ::100] += 1"""
    assert peak_of("sync.diff(old, new)", before) <= BUFFERS
    in_place = "sync.apply_in_place(old, update)"
    assert peak_of(in_place, f"{before}\nupdate = sync.diff(old, new)") <= BUFFERS
