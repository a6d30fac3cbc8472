"""Finds the weights of a model, in a folder or in a repository of the Hugging Face Hub."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from weightzip._safetensors import SUFFIXES, original_name

DOWNLOADS_AT_ONCE = 8
"""As many as huggingface_hub uses for a snapshot."""

INDEX = ".index.json"
"""What a file is called that says which tensors are in which shard."""

_SHARD = re.compile(r"-\d{5}-of-\d{5}(?=\.|$)")
_INDEX_FILE = re.compile(r"(.+)\.safetensors\.index(\.[^.]+)?\.json")


@dataclass(frozen=True)
class Repository:
    """A folder, or a repository of the hub; files of the latter go through its cache."""

    place: str
    revision: str | None = None
    token: str | bool | None = None
    cache_dir: str | None = None
    local_files_only: bool = False
    force_download: bool = False
    subfolder: str = ""

    @classmethod
    def open(
        cls,
        path_or_repo_id: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        subfolder: str | None = None,
    ) -> "Repository":
        """The repository at one commit, so that all its files are of one state."""
        place = os.fspath(path_or_repo_id)
        cache = None if cache_dir is None else os.fspath(cache_dir)
        self = cls(place, revision, token, cache, local_files_only, force_download, subfolder or "")
        if self.is_local:
            return self
        if isinstance(path_or_repo_id, os.PathLike) or not _is_repo_id(place):
            raise FileNotFoundError(
                f"{place}: no such folder, nor is this the name of a repository"
            )
        return replace(self, revision=self._commit())

    def _commit(self) -> str:
        """The commit that the revision stands for."""
        from huggingface_hub import resolve_revision
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionResolutionError

        try:
            return resolve_revision(
                self.place,
                revision=self.revision,
                cache_dir=self.cache_dir,
                local_files_only=self.local_files_only,
                token=self.token,
            )
        except GatedRepoError:
            raise
        except (RepositoryNotFoundError, RevisionResolutionError) as error:
            raise FileNotFoundError(
                f"{self.place}: no such folder here, and no repository of this name was found: {error}"
            ) from error

    @property
    def is_local(self) -> bool:
        """Whether it is a folder, or a file by itself."""
        return os.path.exists(self.place)

    def hub_arguments(self) -> dict[str, Any]:
        """What transformers and diffusers want to know to read other files from the same place."""
        return {
            "revision": self.revision,
            "token": self.token,
            "cache_dir": self.cache_dir,
            "local_files_only": self.local_files_only,
            "force_download": self.force_download,
            "subfolder": self.subfolder,
        }

    def weights(self, name: str, variant: str | None = None) -> list[str]:
        """The files that hold the weights called `name`: that file or its .wz, or the shards of its index."""
        if os.path.isfile(self.place):
            return [self.place]
        if name.endswith(INDEX):
            single, indices = None, [name]
        else:
            single = add_variant(name, variant)
            # The libraries have a variant's index under the second name.
            indices = list(dict.fromkeys([f"{single}{INDEX}", add_variant(f"{name}{INDEX}", variant)]))
            if plain := self._get(single):
                return [plain]
        packed = None if single is None else self._compressed(single)
        for index in indices:
            if path := self._get(index):
                return self._shards(path, index) if packed is None else self._plain_shards(path, index, packed)
        if packed is not None:
            return [packed]
        names = [] if single is None else [single, *(f"{single}{suffix}" for suffix in SUFFIXES)]
        raise FileNotFoundError(self._nothing_found([*names, *indices]))

    def _plain_shards(self, path: str, index: str, packed: str) -> list[str]:
        """The shards of an index beside a compressed file of the same weights, if plain ones: these were saved later."""
        found = [self._get(name) for name in _shard_names(path)]
        if any(shard is None or shard.endswith(SUFFIXES) for shard in found):
            raise ValueError(
                f"{self}: {index} and {os.path.basename(packed)} are of two saves of the same weights; "
                "remove what belongs to the older one"
            )
        return [shard for shard in found if shard is not None]

    def _shards(self, path: str, index: str) -> list[str]:
        names = _shard_names(path)
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            found = list(pool.map(self._plain_or_compressed, names))
        missing = [name for name, path in zip(names, found, strict=True) if path is None]
        if missing:
            raise FileNotFoundError(
                f"{self}: {index} names {_some(missing)}, but neither that nor its .wz is there; "
                "get the missing files, then try again"
            )
        return [path for path in found if path is not None]

    def _plain_or_compressed(self, name: str) -> str | None:
        """A file, or else its .wz: where both are, the plain one may be newer."""
        return self._get(name) or self._compressed(name)

    def _compressed(self, name: str) -> str | None:
        return next((found for suffix in SUFFIXES if (found := self._get(f"{name}{suffix}"))), None)

    def _get(self, name: str) -> str | None:
        """Where a file is on this machine, after a download if need be; none if there is no such file."""
        if self.is_local:
            path = os.path.join(self.place, self.subfolder, name)
            return path if os.path.isfile(path) else None
        from huggingface_hub import (
            _CACHED_NO_EXIST,
            hf_hub_download,
            is_offline_mode,
            try_to_load_from_cache,
        )
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if not self.force_download:
            path = f"{self.subfolder}/{name}" if self.subfolder else name
            cached = try_to_load_from_cache(self.place, path, self.cache_dir, self.revision)
            if cached is not None:
                # A commit doesn't change, nor do the files that it lacks.
                return None if cached is _CACHED_NO_EXIST else cached
        try:
            return hf_hub_download(
                self.place,
                name,
                subfolder=self.subfolder or None,
                revision=self.revision,
                token=self.token,
                cache_dir=self.cache_dir,
                local_files_only=self.local_files_only,
                force_download=self.force_download,
                library_name="weightzip",
            )
        except LocalEntryNotFoundError:
            # Nobody was asked whether it exists, or nobody answered.
            if self.local_files_only or is_offline_mode():
                return None
            raise
        except EntryNotFoundError:
            return None

    def _nothing_found(self, looked_for: list[str]) -> str:
        message = f"{self}: found no weights; looked for {', '.join(looked_for)}"
        if not self.is_local and self.local_files_only:
            return f"{message} in the cache; without local_files_only they are downloaded"
        if self.is_local:
            folder = Path(self.place, self.subfolder)
            there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            message += f"; there is {_some(there)}" if there else "; there is nothing"
        return f"{message}; subfolder= and variant= say where else to look"

    def __str__(self) -> str:
        return f"{self.place}/{self.subfolder}" if self.subfolder else self.place


def add_variant(name: str, variant: str | None) -> str:
    """`model.safetensors` as `model.fp16.safetensors`."""
    stem, suffix = name.rsplit(".", 1)
    return f"{stem}.{variant}.{suffix}" if variant else name


def weights_of(filename: str) -> str | None:
    """The weights that a file is of, with their variant: `model.fp16` for `model.fp16-00001-of-00002.safetensors.wz`.

    An index is of its weights, too. None for other files.
    """
    if found := _INDEX_FILE.fullmatch(filename):
        return f"{found[1]}{found[2] or ''}"
    plain = original_name(filename)
    return _SHARD.sub("", plain.removesuffix(".safetensors")) if plain.endswith(".safetensors") else None


def _is_repo_id(place: str) -> bool:
    return place.count("/") <= 1 and "\\" not in place and not place.startswith((".", "/", "~"))


def _shard_names(path: str) -> list[str]:
    """The files that an index names; a name that leads out of the folder is refused."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # some editors put a mark before the first byte
            content = json.load(file)
    except ValueError as error:
        raise ValueError(f"{path}: not an index of weights: {error}; get the file again") from None
    try:
        names = sorted(set(content["weight_map"].values()))
        if not all(isinstance(name, str) for name in names):
            raise TypeError
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: not an index of weights: it has no weight_map") from None
    for name in names:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name:
            raise ValueError(f"{path}: names {name!r}, which is outside of its folder")
    if not names:
        raise ValueError(f"{path}: its weight_map is empty")
    return names


def _some(names: list[str], count: int = 5) -> str:
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
