"""What updates of weights take, as bytes and seconds: the table of docs/integrations/sync.md. A development tool.

    python bench/sync.py [--rates 0.3,1,3] [--runs 5]

needs: weightzip and the packages of tests/requirements-torch.txt

The weights are those of MiniLM (bench/minilm.py), 22.7 M in BF16. An update is what bench/corpus.py's `rl` part sees at a small
learning rate: the FP32 weights take a step as Adam makes it, about as long for each, and are rounded to BF16 anew, so that few change,
and small ones more often. The learning rate is the one at which the wanted share changes. Every way's result is compared with
the new weights, bit by bit. Seconds are those of the fastest of so many runs, in memory, for a machine that does other things, too.
"""

import argparse
import io
import time

import minilm
import numpy as np
import safetensors.torch
import torch
import zstandard
from weightzip import sync

State = dict[str, torch.Tensor]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", default="0.3,1,3", help="percent of the weights that change")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    loaded = sorted(safetensors.torch.load(minilm.read_model()).items())  # in the same order each time
    weights = {name: tensor for name, tensor in loaded if tensor.is_floating_point()}
    old = {name: tensor.bfloat16() for name, tensor in weights.items()}
    print("| changed | way | bytes | of the weights | encode, s | decode, s |\n|---:|---|---:|---:|---:|---:|")
    for rate in map(float, args.rates.split(",")):
        new = stepped(weights, old, rate / 100)
        rows(old, new, args.runs)


def stepped(weights: State, old: State, share: float) -> State:
    """The weights after a step at which this share of them changes."""
    generator = torch.Generator().manual_seed(0)
    steps = {n: torch.randn(t.shape, generator=generator).clamp(-1, 1) for n, t in weights.items()}
    low, high = 0.0, 1e-2
    for _ in range(24):
        rate = (low + high) / 2
        new = {name: (tensor - rate * steps[name]).bfloat16() for name, tensor in weights.items()}
        low, high = (rate, high) if changed(old, new) < share else (low, rate)
    return new


def changed(old: State, new: State) -> float:
    different = sum((bits(old[name]) != bits(tensor)).sum().item() for name, tensor in new.items())
    return different / sum(tensor.numel() for tensor in new.values())


def rows(old: State, new: State, runs: int) -> None:
    """Runs all ways in turn, so that what else the machine does meets each of them, and prints their rows."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in WAYS}
    sizes = {}
    for _ in range(runs):
        for name, encode, decode in WAYS:
            given = {name: tensor.clone() for name, tensor in old.items()}
            start = time.perf_counter()
            update = encode(old, new)
            encoded = time.perf_counter()
            got = decode(given, update)
            seconds[name].append((encoded - start, time.perf_counter() - encoded))
            sizes[name] = len(update)
            assert all(torch.equal(bits(got[name]), bits(tensor)) for name, tensor in new.items())
    share = f"{100 * changed(old, new):.2f} %"
    plain = sum(tensor.nbytes for tensor in new.values())
    for name, size in sizes.items():
        encoding, decoding = map(min, zip(*seconds[name]))
        print(
            f"| {share} | {name} | {size:,} | {100 * size / plain:.2f} % | {encoding:.3f} | {decoding:.3f} |",
            flush=True,
        )


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int16)


def in_place(old: State, update: bytes) -> State:
    sync.apply_in_place(old, update)
    return old


def joined(state: State) -> np.ndarray:
    return np.concatenate([bits(tensor).reshape(-1).numpy() for tensor in state.values()])


def xor_encode(old: State, new: State) -> bytes:
    """XOR in byte groups, through zstd."""
    groups = (joined(old) ^ joined(new)).view(np.uint8).reshape(-1, 2).T
    return zstandard.ZstdCompressor(level=3, threads=-1).compress(np.ascontiguousarray(groups))


def xor_decode(old: State, update: bytes) -> State:
    groups = np.frombuffer(zstandard.ZstdDecompressor().decompress(update), np.uint8).reshape(2, -1)
    values = torch.from_numpy(np.ascontiguousarray(groups.T).view(np.int16).reshape(-1) ^ joined(old))
    parts = values.split([tensor.numel() for tensor in old.values()])
    return {n: part.view(torch.bfloat16).view(t.shape) for part, (n, t) in zip(parts, old.items())}


def sparse_encode(old: State, new: State) -> bytes:
    """Places and values of what changed, by torch.save."""
    found = {}
    for name, tensor in new.items():
        places = (bits(old[name]) != bits(tensor)).reshape(-1).nonzero().squeeze(1)
        found[name] = places.int(), tensor.reshape(-1)[places]
    file = io.BytesIO()
    torch.save(found, file)
    return file.getvalue()


def sparse_decode(old: State, update: bytes) -> State:
    for name, (places, values) in torch.load(io.BytesIO(update)).items():
        old[name].reshape(-1)[places] = values
    return old


def max_encode(old: State, new: State) -> bytes:
    return sync.diff(old, new, level="max")


WAYS = [
    ("`weightzip.sync`, `apply`", sync.diff, sync.apply),
    ("`apply_in_place`", sync.diff, in_place),
    ('`level="max"`, `apply`', max_encode, sync.apply),
    ("XOR, zstd 3", xor_encode, xor_decode),
    ("`torch.save` of places and values", sparse_encode, sparse_decode),
]


if __name__ == "__main__":
    main()
