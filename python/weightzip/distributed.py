"""Compressed checkpoints for `torch.distributed.checkpoint`: `StorageWriter` for its `save`, `StorageReader` for its `load`.

A checkpoint is a folder. Each rank writes the `.wz` of a safetensors file with its tensors, and another one of the bytes
that torch made of everything else. `.metadata`, which says what is where, comes last: without it there is no checkpoint.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import uuid
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

import weightzip
from weightzip import _chunks, _safetensors
from weightzip._local import local_folder
from weightzip._weightzip import base_files
from weightzip.archive import Archive, Base
from weightzip.errors import InvalidArgumentError

__all__ = ["StorageReader", "StorageWriter"]

_METADATA = ".metadata"
_OURS = re.compile(r"rank\d+-[0-9a-f]{8}\.(safetensors|objects)\.wz")


class StorageWriter(dcp.StorageWriter):
    """Writes a compressed checkpoint: `save(state, storage_writer=StorageWriter(folder))`; so does `async_save`.

    `level` and `base` are as for `weightzip.write`: a base is the folder of an earlier checkpoint, or several, oldest first.
    A checkpoint that is in the folder is replaced, if `overwrite`; it stays complete until the new one is.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        level: str = "default",
        base: Base = None,
        overwrite: bool = True,
    ) -> None:
        super().__init__()
        self._path, self._level, self._base, self._overwrite = local_folder(path), level, _listed(base), overwrite

    @property
    def checkpoint_id(self) -> Path:
        """The folder that is written to."""
        return self._path

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether this can be a folder to write to."""
        return bool(dcp.FileSystemWriter.validate_checkpoint_id(checkpoint_id))

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Takes another folder."""
        if checkpoint_id:
            self._path = local_folder(checkpoint_id)

    def storage_meta(self) -> StorageMeta:
        """What planners are told."""
        return StorageMeta(checkpoint_id=self._path)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Refuses ranks that know nothing of one another: none could say that all are done."""
        if not kwargs.get("use_collectives", True):
            raise InvalidArgumentError("use_collectives=False isn't taken here: leave it out")

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Refuses what can't be saved, before anything is written."""
        for item in _tensors(plan):
            _chunks.check(item)
        self._path.mkdir(parents=True, exist_ok=True)
        if not self._overwrite and (self._path / _METADATA).exists():
            raise InvalidArgumentError(
                "this folder has a checkpoint: save into another one, or with overwrite=True", file=str(self._path)
            )
        folder = self._path.resolve()
        for file in [] if self._base is None else base_files(self._base):
            if file.parent == folder:
                raise InvalidArgumentError(
                    "this file is the base, or the base needs it: save into another folder", file=str(file)
                )
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Ranks share no file: nothing is to be agreed on."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Writes the files of this rank. Their names are new, so that an earlier checkpoint keeps its own."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        stem = self._path / f"rank{rank}-{uuid.uuid4().hex[:8]}"
        results = [*self._write_tensors(stem, plan, planner), *self._write_objects(stem, plan, planner)]
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def _write_tensors(self, stem: Path, plan: SavePlan, planner: SavePlanner) -> Iterator[WriteResult]:
        items = _tensors(plan)
        if not items:
            return
        path, parts = stem.with_name(f"{stem.name}.safetensors.wz"), _chunks.parts(items, planner)
        _safetensors.write(parts, None, path, self._level, self._base, None, None)
        _sync(path)
        for item, part in zip(items, parts):
            yield WriteResult(item.index, part.nbytes, (path.name, part.name))

    def _write_objects(self, stem: Path, plan: SavePlan, planner: SavePlanner) -> Iterator[WriteResult]:
        items = [item for item in plan.items if item.type == WriteItemType.BYTE_IO]
        if not items:
            return
        path, contents = stem.with_name(f"{stem.name}.objects.wz"), [planner.resolve_data(item) for item in items]
        sizes = [content.getbuffer().nbytes for content in contents]
        weightzip.write([content.getbuffer() for content in contents], path, self._level)
        _sync(path)
        for item, size, end in zip(items, sizes, accumulate(sizes)):
            yield WriteResult(item.index, size, (path.name, end - size, end))

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Makes a checkpoint of what all ranks wrote, then removes files of one that it replaces."""
        metadata.storage_data = {result.index: result.storage_data for of_rank in results for result in of_rank}
        temporary = self._path / f"{_METADATA}.tmp"
        temporary.write_bytes(pickle.dumps(metadata))
        _sync(temporary)
        os.replace(temporary, self._path / _METADATA)
        _sync(self._path / _METADATA)
        kept = {place[0] for place in metadata.storage_data.values()}
        for path in list(self._path.iterdir()):
            if _OURS.fullmatch(path.name) and path.name not in kept:
                path.unlink()


class StorageReader(dcp.FileSystemReader):
    """Reads a checkpoint: `load(state, storage_reader=StorageReader(folder))`. Plain ones, of torch's own writer, too.

    Where a rank needs some rows of what another one saved, only the blocks with these are decoded. `base` is where a
    checkpoint finds what it is coded against (see `weightzip.open`): folders of earlier ones, oldest first.
    """

    def __init__(self, path: str | os.PathLike[str], *, base: Base = None) -> None:
        super().__init__(path)
        self._base = _listed(base)

    def read_metadata(self) -> Metadata:
        """What is where. As for every checkpoint, torch unpickles this: load those that you trust."""
        try:
            return super().read_metadata()
        except FileNotFoundError as error:
            raise InvalidArgumentError(
                "this folder has no .metadata: it is no checkpoint, or its save didn't finish; load another one",
                file=os.fsdecode(self.path),
            ) from error

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Keeps the metadata, which know the dtypes."""
        super().set_up_storage_reader(metadata, is_coordinator, *args, **kwargs)
        self._metadata = metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Reads what this rank needs, file by file."""
        files: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            place = self.storage_data[item.storage_index]
            if not isinstance(place, tuple):  # torch's own
                return super().read_data(plan, planner)
            files.setdefault(place[0], []).append(item)
        for file, items in files.items():
            with weightzip.open(os.path.join(self.path, file), base=self._base) as archive:
                self._read_objects(archive, items, planner)
                self._read_tensors(archive, items, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _read_objects(self, archive: Archive, items: list[ReadItem], planner: LoadPlanner) -> None:
        for item in items:
            if item.type == LoadItemType.BYTE_IO:
                _, start, end = self.storage_data[item.storage_index]
                planner.load_bytes(item, io.BytesIO(archive.original(start, end)))

    def _read_tensors(self, archive: Archive, items: list[ReadItem], planner: LoadPlanner) -> None:
        chunks = []
        for item in items:
            if item.type != LoadItemType.BYTE_IO:
                _, name = self.storage_data[item.storage_index]
                known = self._metadata.state_dict_metadata[item.storage_index.fqn]
                chunks.append(_chunks.Chunk(name, known.properties.dtype, item))
        _chunks.read(archive, chunks, planner)


def _tensors(plan: SavePlan) -> list[WriteItem]:
    return [item for item in plan.items if item.type != WriteItemType.BYTE_IO]


def _listed(base: Base) -> Base:
    """Bases that can be gone through again."""
    return base if base is None or isinstance(base, (str, os.PathLike)) else list(base)


def _sync(path: Path) -> None:
    """Brings a file and its name to disk."""
    # Elsewhere folders can't be opened, and names are written through.
    for each in [path, path.parent] if os.name == "posix" else [path]:
        opened = os.open(each, os.O_RDONLY if each.is_dir() else os.O_RDWR)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
