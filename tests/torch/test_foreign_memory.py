"""Tensors that say they have bytes where there are none: each way to save refuses them by name, and nothing foreign is read."""

import subprocess
import sys

import pytest

# Each run has a process of its own: what reads foreign memory may end it.
SCRIPT = """
import sys, warnings
import torch
import torch.distributed.checkpoint as dcp
import weightzip.torch
from torch._subclasses.fake_tensor import FakeTensorMode
from weightzip import sync
from weightzip.checkpoint import CheckpointStore
from weightzip.distributed import StorageWriter

warnings.simplefilter("ignore")
how, what, folder = sys.argv[1:]

class Wrapper(torch.Tensor):
    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    @classmethod
    def __torch_dispatch__(cls, *args, **kwargs):
        raise RuntimeError("no values here")

def cut(nbytes):
    tensor = torch.ones(1_000_000)
    tensor.untyped_storage().resize_(nbytes)
    return tensor

def fake():
    with FakeTensorMode():
        return torch.ones(1_000_000)

state = {"good": torch.ones(3), "bad": {
    "freed": lambda: cut(0),
    "cut": lambda: cut(4000),
    "fake": fake,
    "masked": lambda: torch.masked.masked_tensor(torch.ones(3), torch.tensor([True, False, True])),
    "wrapper": lambda: Wrapper(torch.ones(1_000_000)),
}[what]()}

try:
    if how == "store":
        CheckpointStore(folder).save(1, state)
    elif how == "file":
        weightzip.torch.save_file(state, folder + "/x.safetensors.wz")
    elif how == "sync":
        sync.diff({}, state)
    else:
        dcp.save(state, storage_writer=StorageWriter(folder))
except weightzip.InvalidArgumentError as error:
    print(error)
except BaseException as error:  # torch's CheckpointException, of what went wrong on a rank, is no Exception
    print(type(error).__name__, error)
else:
    print("saved")
"""


@pytest.mark.parametrize("how", ["store", "file", "sync"])
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("freed", "takes 4000000 bytes, and its storage has 0: it was freed or cut"),
        ("cut", "takes 4000000 bytes, and its storage has 4000: it was freed or cut"),
        ("fake", "is a FakeTensor, whose values are elsewhere"),
        ("masked", "is a MaskedTensor, whose values are elsewhere"),
        ("wrapper", "is a Wrapper, whose values are elsewhere"),
    ],
)
def test_what_has_no_memory_is_refused_by_name(how, what, why, tmp_path):
    done = tried(how, what, tmp_path)
    assert why in done.stdout and "'bad'" in done.stdout, done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["freed", "cut", "fake", "masked", "wrapper"])
def test_a_distributed_checkpoint_of_it_fails_too(what, tmp_path):
    assert "saved" not in tried("dcp", what, tmp_path).stdout.splitlines()
    assert not (tmp_path / ".metadata").exists()


def tried(how, what, folder):
    command = [sys.executable, "-c", SCRIPT, how, what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done
