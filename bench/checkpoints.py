"""What saving a training's checkpoints costs, each way: stall, bytes and the way back. A development tool.

    python bench/checkpoints.py FOLDER [--saves 10] [--every 20] [--warm-up 40] [--csv FILE] [--plot FILE.png]

needs: weightzip, torch (versions in tests/requirements-torch.txt) and, for the picture, matplotlib

Trains bench/corpus.py's GPT on four windows a step, and saves its weights (FP32) and AdamW's moments every so many steps, in
each of the ways, one after another. Every way's last step is loaded again and compared, and from the store's the training goes
on beside the one that was never stopped. Seconds are those of one process, and of a machine that may do other things.
"""

import argparse
import csv
import statistics
import time
import warnings
from pathlib import Path

import numpy
import torch
import torch.distributed.checkpoint as dcp
from corpus import Gpt, Trainer, gpt_texts
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.utils import _pytree

import weightzip
from weightzip.checkpoint import CheckpointStore
from weightzip.distributed import StorageReader, StorageWriter
from weightzip.torch import save

PARTS = {"weights": "model.", "exp_avg": ".exp_avg", "exp_avg_sq": ".exp_avg_sq"}
# Steps that the resumed training is compared for.
AFTER = 3


class HostCopy:
    """The least that a save in the background takes: a copy of all tensors, into memory that is kept.

    By one thread: torch's own `copy_` has its threads wait for each other at each tensor, and took 20 times as long beside
    another process.
    """

    def __init__(self, folder):
        self.copies = None

    def save(self, step, state):
        tensors = [value for value in _pytree.tree_leaves(state) if torch.is_tensor(value)]
        self.copies = self.copies or [torch.empty_like(tensor).numpy() for tensor in tensors]
        for copy, tensor in zip(self.copies, tensors):
            numpy.copyto(copy, tensor.numpy())

    def wait(self):
        pass

    def bytes(self, step):
        return 0


class TorchSave(HostCopy):
    def __init__(self, folder):
        self.folder = folder

    def path(self, step):
        return self.folder / f"step-{step}.pt"

    def save(self, step, state):
        torch.save(state, self.path(step))

    def bytes(self, step):
        return self.path(step).stat().st_size

    def load(self, step, blank):
        return torch.load(self.path(step))


class Distributed(TorchSave):
    """torch.distributed.checkpoint, with its own storage."""

    def path(self, step):
        return self.folder / str(step)

    def storage(self, step, plain, ours):
        return plain(self.path(step))

    def save(self, step, state):
        dcp.save(state, storage_writer=self.storage(step, dcp.FileSystemWriter, StorageWriter))

    def bytes(self, step):
        return sum(path.stat().st_size for path in self.path(step).iterdir())

    def load(self, step, blank):
        dcp.load(blank, storage_reader=self.storage(step, dcp.FileSystemReader, StorageReader))
        return blank


class Compressed(Distributed):
    """The same with weightzip's, each step next to those before."""

    def storage(self, step, plain, ours):
        earlier = sorted((path for path in self.folder.iterdir() if int(path.name) < step), key=lambda p: int(p.name))
        return ours(self.path(step), base=earlier or None)


class Store(HostCopy):
    """The store. `only` picks a part of the state."""

    def __init__(self, folder, only=lambda state: state, **options):
        self.only, self.store = only, CheckpointStore(folder, **options)

    def save(self, step, state):
        self.store.save(step, self.only(state))

    def wait(self):
        self.store.wait()

    def bytes(self, step):
        return next(found.stored for found in self.store.steps() if found.number == step)

    def load(self, step, blank):
        return self.store.load(step)

    def parts(self, step):
        """Of each kind of tensor, the bytes stored and all."""
        with weightzip.archive.Archive.over(self.store._chain.open_step(step)) as archive:
            found = {}
            for part, mark in PARTS.items():
                names = [name for name in archive if name.startswith(mark) or name.endswith(mark)]
                found[part] = (sum(archive._core.stored(names)), sum(archive.tensors[name].nbytes for name in names))
            return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--saves", type=int, default=10)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=40)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "torch.distributed is disabled")

    ways = ways_in(args.folder)
    torch.manual_seed(0)
    trainer = Trainer(Gpt(), gpt_texts(), learning_rate=6e-4, batch=4)
    train(trainer, args.warm_up)
    rows = []
    for save in range(1, args.saves + 1):
        train(trainer, args.every)
        state = state_of(trainer)
        rows += [measured(name, way, args.warm_up + save * args.every, state) for name, way in ways.items()]
    restored = {name: restore(way, rows[-1]["step"], state, name) for name, way in ways.items() if hasattr(way, "load")}
    plain = ways["torch.save"].bytes(rows[-1]["step"])
    print_costs(rows, restored, plain)
    print_deepest({name: way.store for name, way in ways.items() if isinstance(way, Store)})
    print_parts(ways, [row["step"] for row in rows if row["way"] == "store"])
    print_moments(state["optimizer"]["state"])
    resume(trainer, ways["store"].load(rows[-1]["step"], None))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if args.plot:
        from checkpoints_plot import draw

        draw(rows, plain, args.plot)


def ways_in(folder):
    """All ways of saving, each in a folder of its own."""
    classes = {
        "host copy": HostCopy,
        "torch.save": TorchSave,
        "FileSystemWriter": Distributed,
        "StorageWriter": Compressed,
    }
    ways = {}
    for name, way in classes.items():
        own = folder / name.replace(" ", "-")
        own.mkdir(parents=True)
        ways[name] = way(own)
    ways["store"] = Store(folder / "store")
    ways["store, max"] = Store(folder / "store-max", level="max")
    ways["store, each alone"] = Store(folder / "store-alone", keyframe_every=1)
    ways["store, BF16 weights"] = Store(
        folder / "store-bf16", only=lambda state: {name: t.bfloat16() for name, t in state["model"].items()}
    )
    return ways


def train(trainer, steps):
    for _ in range(steps):
        loss = trainer.step()
    print(f"loss {loss:.3f} after {steps} more steps", flush=True)


def state_of(trainer):
    model, optimizer = get_state_dict(trainer.model, trainer.optimizer)
    return {"model": model, "optimizer": optimizer, "random": torch.get_rng_state()}


def measured(name, way, step, state):
    start = time.perf_counter()
    way.save(step, state)
    saved = time.perf_counter()
    way.wait()
    done = time.perf_counter()
    return {"way": name, "step": step, "stall": saved - start, "behind": done - saved, "bytes": way.bytes(step)}


def restore(way, step, state, name):
    """Seconds to load a step, the median of three; what comes back must be what was saved."""
    seconds = []
    for _ in range(3):
        blank = _pytree.tree_map(lambda value: torch.zeros_like(value) if torch.is_tensor(value) else value, state)
        start = time.perf_counter()
        loaded = way.load(step, blank)
        seconds.append(time.perf_counter() - start)
    expected = way.only(state) if isinstance(way, Store) else state
    assert equal(loaded, expected), name
    return statistics.median(seconds)


def equal(got, expected):
    pairs = zip(_pytree.tree_leaves(got), _pytree.tree_leaves(expected), strict=True)
    return all(torch.equal(a, b) if torch.is_tensor(b) else a == b for a, b in pairs)


def print_costs(rows, restored, plain):
    print(
        "\n| way | stall, s | then in the background, s | bytes a step | of torch.save | load, s |\n|---|---:|---:|---:|---:|---:|"
    )
    for name in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == name]
        stall, behind = (statistics.median(row[key] for row in own) for key in ("stall", "behind"))
        size = statistics.mean(row["bytes"] for row in own)
        load = f"{restored[name]:.2f}" if name in restored else ""
        print(f"| {name} | {stall:.3f} | {behind:.2f} | {size:,.0f} | {size / plain:.1%} | {load} |")


def print_deepest(stores):
    """What it takes to load the step that needs most others."""
    print("\n| way | step | others needed | load, s |\n|---|---:|---:|---:|")
    for name, store in stores.items():
        deepest = max(store.steps(), key=lambda step: step.depth)
        seconds = statistics.median(timed(lambda: store.load(deepest.number)) for _ in range(3))
        print(f"| {name} | {deepest.number} | {deepest.depth} | {seconds:.2f} |")


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def print_parts(ways, steps):
    stores = {name: way for name, way in ways.items() if isinstance(way, Store)}
    print(f"\n| part | {' | '.join(stores)} |\n|---|{'---:|' * len(stores)}")
    found = [[store.parts(step) for step in steps] for store in stores.values()]
    for part in PARTS:
        print_row(part, [[sum(of_step[part][i] for of_step in store) for i in (0, 1)] for store in found])
    listed = [store.store.steps() for store in stores.values()]
    print_row("all", [(sum(step.stored for step in of), sum(step.nbytes for step in of)) for of in listed])


def print_moments(states):
    """What fewer bits of the last step's moments would leave, each step by itself, of their bytes as FP32."""
    print("\n| moments, alone | FP32 | BF16 | `rel=2^-7` | `rel=2^-4` |\n|---|---:|---:|---:|---:|")
    for moment in ("exp_avg", "exp_avg_sq"):
        tensors = {name: state[moment] for name, state in states.items()}
        short = {name: tensor.bfloat16() for name, tensor in tensors.items()}
        sizes = [len(save(tensors)), len(save(short)), *(len(save(tensors, lossy=f"rel=2^-{bits}")) for bits in (7, 4))]
        print_row(moment, [(size, sum(tensor.nbytes for tensor in tensors.values())) for size in sizes])


def print_row(part, sizes):
    """Bytes stored of bytes, where there are any."""
    print(f"| {part} | {' | '.join(f'{stored / nbytes:.2%}' if nbytes else '' for stored, nbytes in sizes)} |")


def resume(trainer, state):
    """Trains on from what was loaded, and without a break."""
    train(trainer, AFTER)
    second = Trainer(Gpt(), gpt_texts(), learning_rate=6e-4, batch=4)
    get_state_dict(second.model, second.optimizer)  # makes the moments
    set_state_dict(second.model, second.optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    torch.set_rng_state(state["random"])
    train(second, AFTER)
    assert equal(state_of(second), state_of(trainer)), "the resumed training went another way"
    print(f"resumed from the store, the training is bit-equal {AFTER} steps later")


if __name__ == "__main__":
    main()
