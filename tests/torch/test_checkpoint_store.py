"""weightzip.checkpoint with models, optimizers and tensors of torch; ../test_store.py has what needs none."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import weightzip
from stored import EVERY, equal
from test_distributed import Twice
from test_save_load import bits, same, tensor
from weightzip.checkpoint import CheckpointStore

pytestmark = [
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]


class Training:
    """A model with its optimizer, schedule and randomness."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.BatchNorm1d(96), torch.nn.Linear(96, 8))
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [3, 5])

    def step(self):
        self.optimizer.zero_grad()
        self.model(torch.randn(32, 64)).square().mean().backward()
        self.optimizer.step()
        self.schedule.step()

    def state(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "gradients": {name: p.grad for name, p in self.model.named_parameters()},
            "random": torch.get_rng_state(),
        }

    def resume(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])


@pytest.fixture
def store(tmp_path):
    with CheckpointStore(tmp_path / "run") as store:
        yield store


def test_a_training_goes_on_bit_by_bit(store):
    first = Training()
    for step in range(1, 8):
        first.step()
        store.save(step, first.state())
    expected = first.state()
    assert equal(store.load(), expected)
    for step in (1, 4):
        second = Training()
        second.resume(store.load(step))
        for _ in range(step, 7):
            second.step()
        assert equal(second.state(), expected)


def test_state_dicts_keep_what_they_say_of_layers(store):
    saved = Training().model.state_dict()
    store.save(1, saved)
    loaded = store.load()
    assert type(loaded) is type(saved) and loaded._metadata == saved._metadata


def test_every_dtype_comes_back(store):
    state = {f"{dtype}.weight": tensor(dtype, 5, 4) for dtype in EVERY}
    state |= {f"{dtype}.none": tensor(dtype, 0, 4) for dtype in EVERY}
    state |= {f"{dtype}.scale": tensor(dtype) for dtype in EVERY}
    store.save(1, state)
    assert same(store.load(), state)


def test_tensors_of_any_memory_come_back(store):
    state = {
        "transposed": torch.randn(30, 40).T,
        "column": torch.randn(30, 40)[:, 3],
        "expanded": torch.randn(1, 7).expand(5, 7),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "conjugate": torch.randn(9, dtype=torch.complex64).conj(),
        "wide conjugate": torch.randn(9, 3, dtype=torch.complex128).T.conj(),
        "negative": torch.randn(9, dtype=torch.complex64).conj().imag,
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    state |= {"not conjugate": state["conjugate"].conj(), "part": state["transposed"][1:]}
    store.save(1, state)
    assert same(store.load(), state)


def test_tied_tensors_come_back_tied(store):
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(9, 5), "head": torch.nn.Linear(5, 9)})
    model["head"].weight = model["embed"].weight
    wide = torch.randn(3, dtype=torch.complex128)
    store.save(1, {"model": model.state_dict(), "wide": [wide, wide]})
    loaded = store.load()
    assert loaded["model"]["embed.weight"] is loaded["model"]["head.weight"]
    assert loaded["wide"][0] is loaded["wide"][1]
    with weightzip.open(store._chain.open_step(1).name) as archive:
        assert set(archive) == {"model.embed.weight", "model.head.bias", "wide.0"}


def test_arrays_and_tensors_come_back_as_such(store):
    state = {"array": np.arange(5.0), "tensor": torch.arange(5.0), "numbers": [1, 2.5, None]}
    store.save(1, state)
    loaded = store.load()
    assert type(loaded["array"]) is np.ndarray and torch.is_tensor(loaded["tensor"])
    assert (loaded["array"] == state["array"]).all() and equal(loaded["tensor"], state["tensor"])


def test_what_changes_after_save_is_not_saved(store):
    training = Training()
    training.step()
    expected = {name: t.clone() for name, t in training.model.state_dict().items()}
    for step in range(1, 4):
        store.save(step, training.state())
        for parameter in training.model.parameters():
            parameter.data.zero_()
        training.resume(store.load(1))
    assert same(dict(store.load()["model"]), expected) and same(dict(store.load(1)["model"]), expected)


def test_tensors_go_to_a_device(store):
    store.save(1, {"a": torch.ones(3), "b": [torch.ones(2, dtype=torch.complex128)], "c": np.ones(1)})
    loaded = store.load(device="meta")
    assert loaded["a"].device.type == loaded["b"][0].device.type == "meta" and loaded["c"] == 1
    with pytest.raises(RuntimeError, match="nonsense"):  # torch's own, which isn't the file's fault
        store.load(device="nonsense")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "is sparse.*to_dense"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), "has dtype torch.quint8.*dequantize"),
        (lambda: torch.ones(3, device="meta"), "is on device meta"),
        (lambda: Twice(torch.ones(3)), "is a Twice, made of other tensors"),
    ],
)
def test_what_cannot_be_saved_is_refused(given, message, store, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match=f"this tensor {message}.*tensor 'model.bad'"):
        store.save(1, {"good": torch.ones(3), "model": {"bad": given()}})
    assert not (tmp_path / "run").exists()


def test_the_file_is_ordinary(store, wz):
    training = Training()
    for step in range(2):
        training.step()
        store.save(step, training.state())
    store.wait()
    path = store._chain.open_step(1).name
    wz("verify", path)
    weight, moment = training.model[0].weight, training.optimizer.state_dict()["state"][0]["exp_avg"]
    assert wz("cat", path, "model.0.weight", "--rows", "3:5") == bits(weight[3:5])
    assert wz("cat", path, "optimizer.state.0.exp_avg") == bits(moment)


def test_a_state_of_arrays_needs_no_torch(store, tmp_path):
    store.save(1, {"a": np.ones(3), "b": 1})
    store.close()
    script = """
import sys
from weightzip.checkpoint import CheckpointStore
store = CheckpointStore(sys.argv[1])
store.save(2, store.load())
store.close()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], check=True)
    assert store.load(2)["a"].tolist() == [1, 1, 1]
