"""Safetensors files in pieces, for the tests of archives."""

import json

import numpy as np


def safetensors(shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> list:
    """The pieces of a file: its header, then each tensor, of two bytes an element."""
    header, at, rng = {}, 0, np.random.default_rng(7)
    tensors = []
    for name, shape in shapes.items():
        values = rng.normal(0, 0.02, shape).astype(np.float32).view(np.uint32)
        tensors.append((values >> 16).astype(np.uint16))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + tensors[-1].nbytes]}
        at += tensors[-1].nbytes
    text = json.dumps(header).encode()
    return [len(text).to_bytes(8, "little") + text, *tensors]


def joined(parts: list) -> bytes:
    """The whole file."""
    return b"".join(part if isinstance(part, bytes) else part.tobytes() for part in parts)
