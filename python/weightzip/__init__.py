"""Lossless compression of AI model files."""

from weightzip._safe_open import safe_open
from weightzip._tune import Trial, TuneResult, tune
from weightzip._weightzip import (
    __version__,
    compress,
    decompress,
    decompress_into,
    frame_len,
    set_threads,
    simd_level,
    threads,
    write_bytes,
)
from weightzip.archive import (
    Archive,
    Info,
    Loss,
    Losses,
    LossyWarning,
    Summary,
    TensorInfo,
    open,
    write,
)
from weightzip.errors import (
    CompatibilityError,
    CorruptionError,
    InsufficientDataError,
    InvalidArgumentError,
    ReadWriteError,
    WeightzipError,
)

__all__ = [
    "Archive",
    "CompatibilityError",
    "CorruptionError",
    "Info",
    "InsufficientDataError",
    "InvalidArgumentError",
    "Loss",
    "Losses",
    "LossyWarning",
    "ReadWriteError",
    "Summary",
    "TensorInfo",
    "Trial",
    "TuneResult",
    "WeightzipError",
    "__version__",
    "compress",
    "decompress",
    "decompress_into",
    "frame_len",
    "open",
    "safe_open",
    "set_threads",
    "simd_level",
    "threads",
    "tune",
    "write",
    "write_bytes",
]
