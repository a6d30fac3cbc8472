"""Weights with a structure that their dtype doesn't tell of: made from MiniLM's matrices.

    python bench/structured.py FOLDER [NAME...]

writes the files, or those of these names, and prints what `wz` makes of each beside zstd -3 of byte groups.
needs: numpy, safetensors, ml_dtypes, zstandard; the `wz` program (WZ says where)
"""

import os
import subprocess
import sys
from pathlib import Path

import minilm
import ml_dtypes
import numpy as np
import safetensors.numpy
import zstandard

BF16 = ml_dtypes.bfloat16
BLOCK = 2**19


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tensors = safetensors.numpy.load(minilm.read_model())
    matrices = {k: t for k, t in tensors.items() if t.ndim == 2 and min(t.shape) >= 128}
    print("| file | default | max | zstd -3 of byte groups |\n| --- | ---: | ---: | ---: |")
    for name in sys.argv[2:] or MAKERS:
        make = MAKERS[name]
        path = folder / f"{name}.safetensors"
        made = make(matrices)
        safetensors.numpy.save_file(made, path)
        sizes = [compressed(path, level) for level in ("default", "max")]
        sizes.append(sum(grouped(tensor) for tensor in made.values()))
        shares = (f"{100 * size / path.stat().st_size:.2f}" for size in sizes)
        print(f"| {name} | {' | '.join(shares)} |", flush=True)
    print()
    for name in ("gptq_int32", "gptq_zeros_int32", "awq_int32"):
        made = list(MAKERS[name](matrices).values())
        ideal, size = sum(map(order0, made)), sum(tensor.nbytes for tensor in made)
        print(f"4-bit integers of {name}, by how often each occurs in a matrix: {100 * ideal / size:.2f} %")


def order0(tensor: np.ndarray) -> float:
    """Bytes that the halves of a tensor's bytes take by their frequency."""
    data = tensor.view(np.uint8)
    counts = np.bincount(np.concatenate([data & 15, data >> 4]).ravel(), minlength=16).astype(float)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum() * counts.sum() / 8)


def compressed(path: Path, level: str) -> int:
    target = path.with_suffix(f".{level}.wz")
    wz = os.environ.get("WZ", "wz")
    options = ["--force", "--quiet", "--level", level, "--output", target]
    subprocess.run([wz, "compress", *options, path], check=True)
    subprocess.run([wz, "verify", "--quiet", "--against", path, target], check=True)
    return target.stat().st_size


def grouped(tensor: np.ndarray) -> int:
    """Bytes of zstd -3, by blocks of which all first bytes come first, then all second ones, and so on."""
    data, size = tensor.tobytes(), tensor.itemsize
    compress = zstandard.ZstdCompressor(3).compress
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    return sum(len(compress(b"".join(block[i::size] for i in range(size)))) for block in blocks)


def each(make):
    """A maker of a file from one of a tensor."""
    return lambda matrices: {name: np.ascontiguousarray(make(t)) for name, t in matrices.items()}


def tiled(tensor, rows: int, columns: int, most: float, code):
    """A tensor as codes times a scale for each tile, in FP32; 0 rows are all, 0 columns, too."""
    height, width = tensor.shape
    result = np.empty_like(tensor)
    for i in range(0, height, rows or height):
        for j in range(0, width, columns or width):
            tile = tensor[i : i + (rows or height), j : j + (columns or width)]
            scale = np.maximum(np.abs(tile).max() / np.float32(most), np.float32(1e-9))
            values = code(tile / scale).astype(np.float32) * scale
            result[i : i + (rows or height), j : j + (columns or width)] = values
    return result


def integers(tensor):
    # As they are stored: without a negative zero.
    return np.rint(tensor) + np.float32(0)


def e4m3(tensor):
    return tensor.astype(ml_dtypes.float8_e4m3fn)


def e5m2(tensor):
    return tensor.astype(ml_dtypes.float8_e5m2)


def listed(tensor):
    """The nearest of 16 values, which are quantiles."""
    values = np.quantile(tensor, (np.arange(16) + 0.5) / 16)
    return values[np.digitize(tensor, (values[1:] + values[:-1]) / 2)].astype(BF16)


def pruned(tensor, share: float):
    kept = np.abs(tensor) >= np.quantile(np.abs(tensor), share)
    return np.where(kept, tensor, 0).astype(BF16)


def two_of_four(tensor):
    groups = np.abs(tensor).reshape(-1, 4)
    kept = groups.argsort(1).argsort(1) >= 2
    return np.where(kept.reshape(tensor.shape), tensor, 0).astype(BF16)


def some_rows(tensor):
    """Like an embedding's gradient: most rows are zero."""
    rows = np.random.default_rng(1).random(len(tensor)) < 0.02
    return np.where(rows[:, None], tensor, 0).astype(np.float32)


def gptq(tensor):
    """GPTQ's layout: eight 4-bit integers of a column in an int32, a scale for 128 rows of a column."""
    groups = grouped_by(tensor, 128)
    scale = np.abs(groups).max(2, keepdims=True) / 7
    return down(np.clip(np.rint(groups / scale), -8, 7) + 8)


def gptq_with_zeros(tensor):
    """The same with a zero point for each scale."""
    return down(with_zeros(tensor, 128))


def awq(tensor):
    """AWQ's layout: eight 4-bit integers of a row in an int32, a scale and a zero point for 128 rows of a column."""
    codes = with_zeros(tensor, 128)
    codes = codes.reshape(len(tensor), -1).T[:, : len(tensor) // 8 * 8].astype(np.uint32)
    codes = codes.reshape(len(codes), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]]
    return words(codes, 2)


def grouped_by(tensor, size: int):
    columns = tensor.shape[1] // size * size
    return tensor[:, :columns].reshape(len(tensor), -1, size)


def with_zeros(tensor, size: int):
    """Integers from 0 to 15, so that those of a group reach from its least to its greatest weight, or zero."""
    groups = grouped_by(tensor, size)
    least = np.minimum(groups.min(2, keepdims=True), 0)
    scale = np.maximum(np.maximum(groups.max(2, keepdims=True), 0) - least, np.float32(1e-9)) / 15
    return np.clip(np.rint(groups / scale) + np.rint(-least / scale), 0, 15)


def down(codes):
    """Words of eight integers of a column of the transposed matrix."""
    codes = codes.reshape(len(codes), -1).T.astype(np.uint32)
    return words(codes.reshape(-1, 8, codes.shape[1]), 1)


def words(codes, axis: int):
    return sum(codes.take(i, axis) << (4 * i) for i in range(8)).astype(np.uint32).view(np.int32)


def with_scales(make, names: tuple[str, str]):
    """A maker of a file of numbers and their scales, which have names of their own."""

    def model(matrices):
        pairs = {name.removesuffix(".weight"): make(t) for name, t in matrices.items()}
        return {name + end: part for name, pair in pairs.items() for end, part in zip(names, pair)}

    return model


def mxfp4(tensor):
    """MX's numbers of four bits, 16 bytes of them and an exponent for 32 of a row."""
    groups = grouped_by(tensor, 32)
    exponent = np.floor(np.log2(np.maximum(np.abs(groups).max(2), 2.0**-100))) - 2
    numbers = (groups / 2 ** exponent[..., None]).astype(ml_dtypes.float4_e2m1fn)
    return two_in_a_byte(numbers), (exponent + 127).astype(np.uint8)


def nvfp4(tensor):
    """NVIDIA's numbers of four bits, and a scale of eight for 16 of a row, beside one for all, which isn't kept."""
    groups = grouped_by(tensor, 16)
    most = np.abs(groups).max(2)
    scale = (most * (448 / most.max())).astype(ml_dtypes.float8_e4m3fn)
    largest = np.maximum(scale.astype(np.float32), np.float32(2**-9)) * (most.max() / 448)
    numbers = (groups / largest[..., None] * 6).astype(ml_dtypes.float4_e2m1fn)
    return two_in_a_byte(numbers).reshape(len(tensor), -1), scale


def mxfp8(tensor):
    """MX's numbers of eight bits, and an exponent for 32 of a row."""
    groups = grouped_by(tensor, 32)
    exponent = np.floor(np.log2(np.maximum(np.abs(groups).max(2), 2.0**-100))) - 8
    numbers = np.clip(groups / 2 ** exponent[..., None], -448, 448)
    return e4m3(numbers).reshape(len(tensor), -1), (exponent + 127).astype(np.uint8)


def two_in_a_byte(numbers):
    codes = numbers.view(np.uint8)
    return codes[..., ::2] | codes[..., 1::2] << 4


def mask(share: float):
    random = np.random.default_rng(0)
    return each(lambda tensor: random.random(tensor.shape) < share)


def tied(matrices):
    """The model as BF16, with its largest matrix once more: a head that is the embedding."""
    model = {name: tensor.astype(BF16) for name, tensor in matrices.items()}
    largest = max(model.values(), key=lambda tensor: tensor.size)
    return {**model, "head.weight": largest}


MAKERS = {
    "e4m3_tiles_bf16": each(lambda t: tiled(t, 128, 128, 448, e4m3).astype(BF16)),
    "e4m3_rows_bf16": each(lambda t: tiled(t, 1, 0, 448, e4m3).astype(BF16)),
    "e4m3_tensor_bf16": each(lambda t: tiled(t, 0, 0, 448, e4m3).astype(BF16)),
    "e4m3_tiles_fp32": each(lambda t: tiled(t, 128, 128, 448, e4m3)),
    "e5m2_tiles_bf16": each(lambda t: tiled(t, 128, 128, 57344, e5m2).astype(BF16)),
    "int8_rows_bf16": each(lambda t: tiled(t, 1, 0, 127, integers).astype(BF16)),
    "int8_rows_fp32": each(lambda t: tiled(t, 1, 0, 127, integers)),
    "int4_rows_bf16": each(lambda t: tiled(t, 1, 0, 7, integers).astype(BF16)),
    "int4_groups128_bf16": each(lambda t: tiled(t, 1, 128, 7, integers).astype(BF16)),
    "int4_groups32_fp16": each(lambda t: tiled(t, 1, 32, 7, integers).astype(np.float16)),
    "listed16_bf16": each(listed),
    "pruned50_bf16": each(lambda t: pruned(t, 0.5)),
    "pruned90_bf16": each(lambda t: pruned(t, 0.9)),
    "two_of_four_bf16": each(two_of_four),
    "some_rows_fp32": each(some_rows),
    "mask50": mask(0.5),
    "mask5": mask(0.05),
    "tied_bf16": tied,
    "gptq_int32": each(gptq),
    "gptq_zeros_int32": each(gptq_with_zeros),
    "awq_int32": each(awq),
    "mxfp4": with_scales(mxfp4, ("_blocks", "_scales")),
    "nvfp4": with_scales(nvfp4, (".weight", ".weight_scale")),
    "mxfp8": with_scales(mxfp8, (".weight", ".weight_scale")),
}

if __name__ == "__main__":
    main()
