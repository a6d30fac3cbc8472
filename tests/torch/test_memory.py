"""Loading takes the memory of the tensors and little more; saving takes no copy of them."""

import json
import os
import subprocess
import sys

import pytest
import torch
import weightzip.torch as wz

MIB = 1 << 20
SIZE = 512 * MIB
# Each thread that saves has some blocks on their way.
BUFFERS = (96 + 16 * len(os.sched_getaffinity(0))) * MIB if sys.platform == "linux" else 0

# Before: what torch itself takes. After: the most that was in memory at any time.
MEASURED = """
import json, resource, sys
import torch, weightzip.torch as wz
weights = torch.randn(1)
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
{before}
start = peak()
{work}
print(json.dumps(peak() - start))
"""


def peak_of(work: str, before: str = "", *arguments) -> int:
    """By how many bytes the most memory in use grew."""
    script = MEASURED.format(work=work, before=before)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory in use")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of 512 MiB in tensors of many sizes."""
    path = tmp_path_factory.mktemp("memory") / "a.safetensors.wz"
    values = torch.randn(SIZE // 2 // 64).to(torch.bfloat16)
    tensors = {str(i): values.roll(i) for i in range(48)}
    rest = values.repeat(16).split(3_000_000)
    wz.save_file(tensors | {f"rest.{i}": t.clone() for i, t in enumerate(rest)}, path)
    return path


def test_loading(path):
    assert peak_of("loaded = wz.load_file(sys.argv[1])", "", path) <= SIZE + 128 * MIB


def test_loading_one_by_one(path):
    one_by_one = "for name in (file := wz.safe_open(sys.argv[1])).keys(): file.get_tensor(name)"
    assert peak_of(one_by_one, "", path) <= 128 * MIB


def test_saving(tmp_path):
    before = "weights = torch.randn(100_000_000)"
    save = "wz.save_file({'a': weights}, sys.argv[1])"
    assert peak_of(save, before, tmp_path / "a.wz") <= BUFFERS


def test_distributed_checkpoints(tmp_path):
    before = """import torch.distributed.checkpoint as dcp
from weightzip.distributed import StorageReader, StorageWriter
weights = {str(i): torch.randn(2000, 2500) for i in range(12)}
weights |= {f"{i}.turned": torch.randn(2000, 2500).T for i in range(3)}"""
    save = "dcp.save(weights, storage_writer=StorageWriter(sys.argv[1]))"
    assert peak_of(save, before, tmp_path / "a") <= BUFFERS
    straight = "dcp.load({n: t for n, t in weights.items() if '.' not in n}, storage_reader=StorageReader(sys.argv[1]))"
    assert peak_of(straight, before, tmp_path / "a") <= 128 * MIB


def test_checkpoint_store(tmp_path):
    before = """from weightzip.checkpoint import CheckpointStore
weights = {str(i): torch.randn(2000, 2500) for i in range(12)}
weights |= {f"{i}.turned": torch.randn(2000, 2500).T for i in range(3)}"""
    save = """with CheckpointStore(sys.argv[1], max_host_bytes=300_000_000) as store:
    for step in range(3):
        store.save(step, weights)"""
    assert peak_of(save, before, tmp_path / "a") <= 300_000_000 + BUFFERS
