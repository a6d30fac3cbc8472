"""Compressed checkpoints for Lightning: `Trainer(plugins=[WeightzipCheckpointIO()])`, or `Fabric(plugins=[WeightzipCheckpointIO()])`."""

from __future__ import annotations

import os
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from lightning.fabric.plugins import CheckpointIO

from weightzip import _checkpoint, torch

__all__ = ["WeightzipCheckpointIO"]

_Path = str | os.PathLike[str]


class WeightzipCheckpointIO(CheckpointIO):
    """Writes each checkpoint as a `.wz` of what `torch.save` makes of it, whatever its file is called, and reads those and plain ones.

    `level` is as for `weightzip.write`. In Lightning's `AsyncCheckpointIO` it works in the background.
    """

    def __init__(self, *, level: str = "default") -> None:
        super().__init__()
        self._level = level

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _Path, storage_options: object = None) -> None:
        """Saves a checkpoint. A local file has its name only when it is complete."""
        if storage_options is not None:
            raise TypeError("storage_options isn't taken here: leave it out")
        system, place = url_to_fs(path)
        system.makedirs(os.path.dirname(place), exist_ok=True)
        if isinstance(system, LocalFileSystem):
            _checkpoint.compress(checkpoint, place, level=self._level)
            return
        with system.transaction, system.open(place, "wb") as file:
            _checkpoint.compress(checkpoint, file, level=self._level)

    def load_checkpoint(self, path: _Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Loads a checkpoint, compressed or plain, as `torch.load` does."""
        system, place = url_to_fs(path)
        options = {"map_location": map_location, "weights_only": weights_only}
        if isinstance(system, LocalFileSystem):
            return torch.load(place, **options)
        with system.open(place, "rb") as file:
            return torch.load(file, **options)

    def remove_checkpoint(self, path: _Path) -> None:
        """Removes a checkpoint, if there is one."""
        system, place = url_to_fs(path)
        if system.exists(place):
            system.rm(place, recursive=True)
