"""The same real tensors in files of each format: what a `.wz` of them takes.

    python bench/formats.py

needs: weightzip, torch, onnx, h5py, flax, numpy, safetensors, ml_dtypes
"""

import io

import flax.serialization
import h5py
import minilm
import ml_dtypes
import numpy as np
import onnx
import safetensors.torch
import torch
import weightzip
from onnx import helper, numpy_helper

LEVELS = ("default", "max")
DTYPES = {"minilm_bf16": "BF16", "minilm_fp16": "F16", "minilm_fp32": "F32"}


def saved(save, *arguments, **options) -> bytes:
    file = io.BytesIO()
    save(*arguments, file, **options)
    return file.getvalue()


def array_of(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)


def hdf5(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        for name, array in arrays.items():
            out[name.replace(".", "/")] = array
    return file.getvalue()


def files(content: bytes, dtype: str):
    """The files that hold the tensors of a safetensors file: what they are, their contents, and what is said of their numbers."""
    # By name: the order in which they are read differs.
    tensors = dict(sorted(safetensors.torch.load(content).items()))
    arrays = {name: array_of(tensor) for name, tensor in tensors.items()}
    plain = {name: array for name, array in arrays.items() if array.dtype.name != "bfloat16"}
    raw = content[8 + int.from_bytes(content[:8], "little") :]
    yield "safetensors", content, None
    yield "raw dump", raw, None
    yield "raw dump, its dtype given", raw, dtype
    yield "torch.save", saved(torch.save, tensors), None
    yield "torch.save before 1.6", saved(torch.save, tensors, _use_new_zipfile_serialization=False), None
    if plain:
        yield "numpy.savez", saved(lambda file: np.savez(file, **plain)), None
        big = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in plain.items()}
        yield "numpy.savez, big-endian", saved(lambda file: np.savez(file, **big)), None
        yield "HDF5", hdf5(plain), None
    yield "Flax", flax.serialization.to_bytes(arrays), None
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([], "graph", [], [], initializers)
    yield "ONNX", helper.make_model(graph).SerializeToString(), None


def main() -> None:
    print(f"| tensors | file | bytes | {' | '.join(LEVELS)} |\n| --- | --- | ---: | ---: | ---: |")
    casts = minilm.casts(minilm.read_model())
    for name, dtype in DTYPES.items():
        for kind, content, said in files(casts[name], dtype):
            shares = []
            for level in LEVELS:
                compressed = weightzip.write_bytes([content], level, dtype=said)
                assert weightzip.open(compressed).original() == content
                shares.append(f"{100 * len(compressed) / len(content):.2f} %")
            print(f"| {name} | {kind} | {len(content)} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
