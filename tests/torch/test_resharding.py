"""weightzip.distributed: parts of tensors that one rank saved and others load."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import weightzip
from stored import EVERY, Part, blank, damage, files, load, save
from test_save_load import same, tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DeviceMesh, Replicate, Shard, distribute_tensor
from weightzip.distributed import StorageReader, StorageWriter

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
]


@pytest.mark.parametrize("part", [(slice(2, 5), slice(0, 8)), (slice(0, 7), slice(2, 6)), (slice(3, 4), slice(4, 8))])
def test_parts_of_every_dtype_round_trip(part, tmp_path):
    state = {dtype: tensor(dtype, 7, 8) for dtype in EVERY} | {"1d": torch.arange(7)}
    save(state, tmp_path)
    wanted = {dtype: state[dtype][part] for dtype in EVERY} | {"1d": state["1d"][part[0]]}
    offsets = {name: [s.start for s in part][: t.dim()] for name, t in wanted.items()}
    assert same(load(blank(wanted), tmp_path, Part(offsets)), wanted)


def test_only_the_rows_that_are_needed_are_decoded(tmp_path):
    state = {"w": torch.randn(3000, 200)}
    save(state, tmp_path)
    damage(*files(tmp_path, "safetensors"), "w", 2999)
    rows = {"w": torch.zeros(1000, 200)}
    assert torch.equal(load(rows, tmp_path, Part({"w": (500, 0)}))["w"], state["w"][500:1500])
    for whole, planner in [(torch.zeros(3000, 200), None), (torch.zeros(1000, 200), Part({"w": (2000, 0)}))]:
        with pytest.raises(CheckpointException, match="corrupt: .*tensor 'w'") as caught:
            load({"w": whole}, tmp_path, planner)
        error, _ = caught.value.failures[0]
        assert isinstance(error, weightzip.CorruptionError) and error.tensor == "w"


def shared(mesh):
    """Tensors that ranks share in all ways."""
    torch.manual_seed(1)
    whole = {
        "rows": torch.randn(1003, 700),
        "columns": torch.randn(40, 90).to(torch.bfloat16),
        "few": torch.arange(3),
        "wide": torch.randn(10, 6, dtype=torch.complex128),
        "everywhere": torch.randn(50),
    }
    placements = {"columns": Shard(1), "everywhere": Replicate()}
    parts = {
        name: distribute_tensor(t, mesh, [placements.get(name, Shard(0))], src_data_rank=None)
        for name, t in whole.items()
    }
    return whole, parts


def work(rank, folder):
    """What each of four ranks does: two save, all load."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=4)
    two, four = DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [0, 1, 2, 3])
    if rank < 2:
        _, parts = shared(two)
        saved = dcp.async_save(
            parts | {"step": 7}, storage_writer=StorageWriter(folder / "a"), process_group=two.get_group()
        )
        saved.result()
    dist.barrier()
    whole, parts = shared(four)
    got = {name: torch.zeros_like(part) for name, part in parts.items()} | {"step": 0}
    dcp.load(got, storage_reader=StorageReader(folder / "a"))
    assert got.pop("step") == 7
    assert same({n: t.to_local() for n, t in got.items()}, {n: t.to_local() for n, t in parts.items()})
    dist.barrier()
    if rank == 0:
        alone = {name: torch.zeros_like(t) for name, t in whole.items()}
        dcp.load(alone, storage_reader=StorageReader(folder / "a"), no_dist=True)
        assert same(alone, whole)
        (file,) = folder.glob("a/rank1-*.safetensors.wz")
        damage(file, "rows@502,0", 500)
    dist.barrier()
    with pytest.raises(CheckpointException, match=r"corrupt: .*tensor 'rows@502,0'") as caught:
        dcp.load(got, storage_reader=StorageReader(folder / "a"))
    assert caught.value.failures.keys() == {3}
    dist.destroy_process_group()


def test_what_two_ranks_save_is_loaded_by_four_and_by_one(tmp_path):
    # All ranks come from one process that has torch: to import it takes longer than the rest.
    multiprocessing.set_forkserver_preload(["torch.distributed.checkpoint", "torch.distributed.tensor"])
    torch.multiprocessing.start_processes(work, (tmp_path,), nprocs=4, start_method="forkserver")
