"""What a checkpoint of torch.distributed.checkpoint takes, plain and compressed. A development tool.

    python bench/distributed.py FOLDER [--steps 60]

needs: weightzip and torch (versions in tests/requirements-torch.txt)

Trains bench/corpus.py's GPT for so many steps of four windows, saves its weights (FP32) and AdamW's moments, trains for 20
more, and saves them again into FOLDER: plain, alone, and next to the first. Each is loaded again and compared. Seconds are
those of one process, and of a machine that may do other things.
"""

import argparse
import time
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from corpus import Gpt, Trainer, gpt_texts
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.utils import _pytree

from weightzip.distributed import StorageReader, StorageWriter


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "torch.distributed is disabled")

    torch.manual_seed(0)
    trainer = Trainer(Gpt(), gpt_texts(), learning_rate=6e-4, batch=4)
    train(trainer, args.steps)
    earlier = args.folder / "earlier"
    dcp.save(state_of(trainer), storage_writer=StorageWriter(earlier))
    train(trainer, 20)
    state = state_of(trainer)
    print("| storage | bytes | of plain | save, s | load, s |\n|---|---:|---:|---:|---:|")
    plain = measure("plain", state, dcp.FileSystemWriter, dcp.FileSystemReader, args.folder, None)
    measure("alone", state, StorageWriter, StorageReader, args.folder, plain)
    measure("alone, max", state, StorageWriter, StorageReader, args.folder, plain, level="max")
    measure("next to the earlier one", state, StorageWriter, StorageReader, args.folder, plain, base=earlier)


def train(trainer, steps):
    for step in range(steps):
        loss = trainer.step()
    print(f"loss {loss:.3f} after {steps} steps", flush=True)


def state_of(trainer):
    model, optimizer = get_state_dict(trainer.model, trainer.optimizer)
    return {"model": model, "optimizer": optimizer}


def measure(name, state, writer, reader, folder, plain, **options):
    """Saves and loads, prints a row and returns the bytes."""
    folder = folder / name.replace(" ", "-")
    start = time.perf_counter()
    dcp.save(state, storage_writer=writer(folder, **options))
    saved = time.perf_counter()
    loaded = _pytree.tree_map(lambda value: torch.zeros_like(value) if torch.is_tensor(value) else value, state)
    options.pop("level", None)
    begun = time.perf_counter()
    dcp.load(loaded, storage_reader=reader(folder, **options))
    read = time.perf_counter()
    same = _pytree.tree_map(lambda a, b: torch.equal(a, b) if torch.is_tensor(a) else a == b, loaded, state)
    assert all(_pytree.tree_leaves(same)), name
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"| {name} | {size:,} | {size / (plain or size):.2%} | {saved - start:.2f} | {read - begun:.2f} |", flush=True)
    return size


if __name__ == "__main__":
    main()
