"""Order-0 entropies of a safetensors file: what an ideal coder of single symbols would reach.

    python bench/order0.py [--json] FILE...

In percent of the tensors' bytes, each tensor with its own statistics, cost of tables not counted:

    bytes     byte groups: byte 0 of all elements, byte 1 of all elements, ..., each on its own
    exponent  exponents coded; sign and mantissa as they are
    narrow    the same, but of the mantissa only as many bits as values with that exponent use

Integers have no exponent: for them all three are byte groups. needs: numpy
"""

import argparse
import json
from pathlib import Path

import numpy as np

# Bytes and mantissa bits of the float dtypes; the exponent fills the rest up to the sign.
FLOATS = {"F64": (8, 52), "F32": (4, 23), "F16": (2, 10), "BF16": (2, 7), "F8_E4M3": (1, 3), "F8_E5M2": (1, 2)}
INTEGERS = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def entropy_bits(counts: np.ndarray) -> float:
    """Bits that all symbols with these counts take together."""
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def byte_group_bits(data: np.ndarray, width: int) -> float:
    groups = data.reshape(-1, width).T
    return sum(entropy_bits(np.bincount(group, minlength=256)) for group in groups)


def float_bits(data: np.ndarray, width: int, mantissa_bits: int) -> tuple[float, float]:
    """Bits with exponents coded: with the mantissa whole, and with it narrow."""
    values = data.view(f"<u{width}")
    mask = (1 << (width * 8 - 1 - mantissa_bits)) - 1
    exponents = ((values >> mantissa_bits) & mask).astype(np.int64)
    mantissas = values & ((1 << mantissa_bits) - 1)
    counts = np.bincount(exponents)
    coded = entropy_bits(counts) + len(values)
    narrow = 0
    for exponent in np.flatnonzero(counts):
        used = int(np.bitwise_or.reduce(mantissas[exponents == exponent]))
        trailing_zeros = (used & -used).bit_length() - 1 if used else mantissa_bits
        narrow += int(counts[exponent]) * (mantissa_bits - trailing_zeros)
    return coded + len(values) * mantissa_bits, coded + narrow


def measure(path: Path) -> dict[str, float]:
    """The three sizes of a file, in percent."""
    content = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    header.pop("__metadata__", None)
    size = 0
    bits = np.zeros(3)
    for tensor in header.values():
        begin, end = tensor["data_offsets"]
        data, dtype = content[start + begin : start + end], tensor["dtype"]
        if len(data) == 0:
            continue
        size += len(data)
        if dtype in FLOATS:
            width, mantissa_bits = FLOATS[dtype]
            groups = byte_group_bits(data, width)
            bits += [groups, *float_bits(np.ascontiguousarray(data), width, mantissa_bits)]
        elif dtype in INTEGERS:
            bits += byte_group_bits(data, INTEGERS[dtype])
        else:
            raise SystemExit(f"{path}: dtype {dtype} is not known here")
    if size == 0:
        raise SystemExit(f"{path}: no tensor has elements")
    return dict(zip(("bytes", "exponent", "narrow"), (bits / (size * 8) * 100).tolist()))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    args = parser.parse_args()
    for path in args.files:
        sizes = measure(path)
        if args.json:
            print(json.dumps({"file": path.name} | sizes))
        else:
            print(f"{path.name:<34}" + "".join(f"  {name} {size:6.2f} %" for name, size in sizes.items()))


if __name__ == "__main__":
    main()
