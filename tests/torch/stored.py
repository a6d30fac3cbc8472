"""Checkpoints that are saved and loaded through weightzip.distributed, and how they are compared."""

import torch
import torch.distributed.checkpoint as dcp
import weightzip
from test_save_load import DTYPES, bits, same
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.utils import _pytree
from weightzip.distributed import StorageReader, StorageWriter

# Those that torch's own storage keeps, too.
EVERY = [*DTYPES, "complex128", "complex32"]


def save(state, folder, planner=None, **options):
    return dcp.save(state, storage_writer=StorageWriter(folder, **options), planner=planner)


def load(state, folder, planner=None, **options):
    dcp.load(state, storage_reader=StorageReader(folder, **options), planner=planner)
    return state


def blank(state):
    """The same with other values: all bits of tensors are the other way round."""

    def other(value):
        if isinstance(value, torch.Tensor):
            kind = value.dtype
            turned = torch.frombuffer(bytearray(bits(value) or b"\0"), dtype=torch.uint8) ^ 255
            return turned[: value.nbytes].view(kind).reshape(value.shape)
        return None

    return _pytree.tree_map(other, state)


def equal(got, expected):
    """Whether all is the same, tensors bit by bit."""
    flat, shape = _pytree.tree_flatten(got)
    wanted, same_shape = _pytree.tree_flatten(expected)
    pairs = zip(flat, wanted)
    return shape == same_shape and all(
        same({"": a}, {"": b}) if isinstance(b, torch.Tensor) else a == b and type(a) is type(b) for a, b in pairs
    )


def files(folder, suffix):
    return sorted(folder.glob(f"*.{suffix}.wz"))


class Part(dcp.DefaultLoadPlanner):
    """Loads parts of tensors, as a rank does that has a part of each."""

    def __init__(self, offsets):
        super().__init__()
        self.offsets = offsets

    def create_local_plan(self):
        items = []
        for name, tensor in self.state_dict.items():
            chunk = ChunkStorageMetadata(torch.Size(self.offsets[name]), tensor.shape)
            items += create_read_items_for_chunk_list(name, self.metadata.state_dict_metadata[name], [chunk])
        return dcp.LoadPlan(items)

    def lookup_tensor(self, index):
        return self.state_dict[index.fqn]


def damage(file, name, row):
    """Changes a bit of the block that this row is in, and no other one."""
    content = bytearray(file.read_bytes())
    for at in range(len(content) // 16, len(content), len(content) // 199):
        content[at] ^= 1
        with weightzip.open(content) as damaged:
            try:
                damaged.rows(name, row, row + 1)
            except weightzip.CorruptionError:
                damaged.rows(name, 0, 1)
                file.write_bytes(content)
                return
        content[at] ^= 1
    raise AssertionError("nothing that was changed is in this row")
