"""The same real tensors in files of each format: what a `.wz` of them takes.

    python bench/formats.py

needs: weightzip, torch, onnx, numpy, safetensors, ml_dtypes
"""

import io

import minilm
import ml_dtypes
import numpy as np
import onnx
import safetensors.torch
import torch
import weightzip
from onnx import helper, numpy_helper

LEVELS = ("default", "max")


def saved(save, *arguments, **options) -> bytes:
    file = io.BytesIO()
    save(*arguments, file, **options)
    return file.getvalue()


def array_of(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)


def files(content: bytes):
    """Names and contents of the files that hold the tensors of a safetensors file."""
    tensors = safetensors.torch.load(content)
    arrays = {name: array_of(tensor) for name, tensor in tensors.items()}
    plain = {name: array for name, array in arrays.items() if array.dtype.name != "bfloat16"}
    yield "safetensors", content
    yield "raw dump", content[8 + int.from_bytes(content[:8], "little") :]
    yield "torch.save", saved(torch.save, tensors)
    if plain:
        yield "numpy.savez", saved(lambda file: np.savez(file, **plain))
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph([], "graph", [], [], initializers)
    yield "ONNX", helper.make_model(graph).SerializeToString()


def main() -> None:
    print(f"| tensors | file | bytes | {' | '.join(LEVELS)} |\n| --- | --- | ---: | ---: | ---: |")
    casts = minilm.casts(minilm.read_model())
    for name in ("minilm_bf16", "minilm_fp16", "minilm_fp32"):
        for kind, content in files(casts[name]):
            shares = []
            for level in LEVELS:
                compressed = weightzip.write_bytes([content], level)
                assert weightzip.open(compressed).original() == content
                shares.append(f"{100 * len(compressed) / len(content):.2f} %")
            print(f"| {name} | {kind} | {len(content)} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
