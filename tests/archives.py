"""Safetensors files in pieces, and what an archive has, for the tests of archives."""

import json

import numpy as np
import weightzip


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


def archive_of(content: bytes, level: str = "default") -> weightzip.Archive:
    """The archive of a file, which must come back from it; from a pipe it is the same."""
    compressed = weightzip.write_bytes([content], level)
    assert compressed == weightzip.write_bytes([content[:100], content[100:]], level)
    archive = weightzip.open(compressed)
    assert archive.original() == content
    return archive


def listed(archive: weightzip.Archive) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and shape of each tensor."""
    return {name: (info.dtype, info.shape) for name, info in archive.tensors.items()}
