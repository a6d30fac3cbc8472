"""Checkpoints of a training in a folder, saved in the background, each coded against the one before: `CheckpointStore`."""

from __future__ import annotations

import ctypes
import logging
import mmap
import operator
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from weightzip import _state
from weightzip._background import Background
from weightzip._copies import copy_all
from weightzip._local import local_folder
from weightzip._safetensors import Part, in_pieces, read_metadata
from weightzip._weightzip import Chain
from weightzip.archive import Archive, Lossy, size
from weightzip.errors import CorruptionError, InvalidArgumentError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["CheckpointStore", "Step"]

_KEY = "weightzip.state"
_ALIGNMENT = 64
_NONE = memoryview(b"")
_LOG = logging.getLogger("weightzip")


class Step(NamedTuple):
    """A checkpoint of a store."""

    number: int
    # Of the safetensors file; that of the `.wz` has `.wz` behind it.
    name: str
    # The steps that it is coded against, and how many must be decoded for it, one behind the other.
    bases: tuple[int, ...]
    depth: int
    # Bytes of the safetensors file and of the `.wz`.
    nbytes: int
    stored: int


class CheckpointStore:
    """Keeps the states of one process in a local folder, which the first save makes if there is none.

    A state is a tensor of PyTorch or array of NumPy, a number, text, None, or dicts, lists and tuples of these. `save` copies
    its tensors and returns; the rest is done in the background, one save at a time. The folder is one of `wz chain`: each
    step is the `.wz` of a safetensors file.

    With `keep`, so many of the last steps stay: an earlier one goes when the new one is on disk, unless its number is a
    multiple of `keep_every`. Nothing goes that the store hasn't written, nor what another `.wz` of the folder needs. Of `keyframe_every`
    steps one is coded alone; 0: only where it must. `max_host_bytes` bounds the copy. `level` and `lossy` are as for `weightzip.write`:
    rules name tensors by their place in the state, such as `model.*:abs=2^-14`, and `snr=` isn't for here.

    A step that is damaged stops nothing: it is named in a warning of the logger `weightzip`, and the next one stands alone.

    As a context manager it is closed at the end. Without, the interpreter's exit waits for the last save.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        level: str = "default",
        keep: int | None = None,
        keep_every: int | None = None,
        lossy: Lossy = None,
        keyframe_every: int = 16,
        max_host_bytes: int | None = None,
    ) -> None:
        if keep is not None and keep < 1:
            raise InvalidArgumentError(f"keep={keep} would leave no step: give at least 1, or None to keep all")
        if keep_every is not None and (keep is None or keep_every < 1):
            raise InvalidArgumentError(
                f"keep_every={keep_every} says which steps stay beyond the last: give at least 1, and keep= for the last ones"
            )
        if keyframe_every < 0:
            raise InvalidArgumentError(f"keyframe_every={keyframe_every} is less than 0: give a number of steps")
        self._folder, self._max_host_bytes = local_folder(folder), max_host_bytes
        self._keep, self._keep_every = keep, keep_every
        self._chain = Chain(self._folder, level, keyframe_every=keyframe_every, lossy=lossy)
        last = self._chain.last()
        self._last, self._is_made = -1 if last is None else last, False
        self._told: set[str] = set()
        self._room, self._closed = _NONE, False
        self._background = Background(self)
        self._saving = threading.Lock()

    def save(self, step: int, state: object) -> None:
        """Saves a state as a step, beyond all that there are. Changes to its tensors after that aren't saved.

        Returns when they are copied, into memory that is used again by the next save. Waits for the save before, and raises
        what went wrong in it: then this one has done nothing, and can be tried again. Also raises `InvalidArgumentError`, before
        anything is copied, if the step is not beyond the last, the state has what can't be saved, or takes more than
        `max_host_bytes`.
        """
        number = _number(step)
        with self._saving:
            self._background.wait()
            self._check_next(number)
            text, leaves = _state.flatten(state)
            ends = list(accumulate((-(-leaf.nbytes // _ALIGNMENT) * _ALIGNMENT for leaf in leaves), initial=0))
            self._make_room(ends[-1])
            places = [partial(self._place, start, leaf.nbytes) for start, leaf in zip(ends, leaves)]
            parts = (Part(*leaf[:4], place) for leaf, place in zip(leaves, places))
            in_order = partial(in_pieces, list(parts), {_KEY: text})
            in_order()  # raises what can't be a file before anything is copied
            self._copy(leaves, ends)
            self._make_folder()
            self._background.start(partial(self._write, number, in_order))

    def load(self, step: int | None = None, *, device: Any = "cpu") -> Any:
        """The state that was saved as a step, or as the last one: the same dicts, lists and tuples, with tensors on `device`.

        Arrays of NumPy are such again, and tensors that were one piece of memory are one again. Waits for a save that is
        under way; what goes wrong in it is left to `wait`. Raises `InvalidArgumentError` if there is no such step.
        """
        self._background.join()
        if not self._folder.is_dir():
            raise InvalidArgumentError("there is no such folder, and so no step", file=str(self._folder))
        number = self._last_step() if step is None else _number(step)
        with Archive.over(self._chain.open_step(number)) as archive:
            text = (read_metadata(archive) or {}).get(_KEY) if archive.info.format == "safetensors" else None
            if text is None:
                raise InvalidArgumentError(
                    f"step {number} was not saved by a CheckpointStore: open it with weightzip.open",
                    file=str(self._folder),
                )
            return _state.rebuild(text, archive, device)

    def steps(self) -> list[Step]:
        """The steps that are complete, in order. Reads the folder."""
        return [Step(*row[:2], tuple(row[2]), *row[3:]) for row in self._chain.steps()]

    def wait(self) -> None:
        """Waits until the last save is on disk, and raises what went wrong in it, once."""
        self._background.wait()

    def close(self) -> None:
        """Waits as `wait` does, and lets go of the memory for copies. Nothing can be saved then."""
        with self._saving:
            self._background.join()
            self._room, self._closed = _NONE, True
            self._background.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _last_step(self) -> int:
        steps = self.steps()
        if not steps:
            raise InvalidArgumentError("this store has no step yet: save one first", file=str(self._folder))
        return steps[-1].number

    def _check_next(self, number: int) -> None:
        if self._closed:
            raise InvalidArgumentError("this store is closed: open it again", file=str(self._folder))
        if number <= self._last:
            raise InvalidArgumentError(
                f"step {number} is not beyond the last one: save one from {self._last + 1} on", file=str(self._folder)
            )

    def _make_room(self, nbytes: int) -> None:
        """Memory for copies: the same as long as they fit, since its pages take longer than a copy at first."""
        if self._max_host_bytes is not None and nbytes > self._max_host_bytes:
            raise InvalidArgumentError(
                f"a copy of this state takes {nbytes} bytes ({size(nbytes)}), and max_host_bytes is "
                f"{self._max_host_bytes}: allow more, or save less"
            )
        if not nbytes <= self._room.nbytes <= 2 * nbytes:
            self._room = _NONE  # first, so that there are never two
            self._room = _memory(nbytes)

    def _copy(self, leaves: list[_state.Leaf], starts: list[int]) -> None:
        room = ctypes.addressof(ctypes.c_char.from_buffer(self._room)) if starts[-1] else 0
        copies = []
        for leaf, start in zip(leaves, starts):
            if leaf.address is not None:
                copies.append((leaf.address, room + start, leaf.nbytes))
            elif leaf.nbytes:
                leaf.copy(self._place(start, leaf.nbytes))
        copy_all(copies)

    def _place(self, start: int, nbytes: int) -> memoryview:
        return self._room[start : start + nbytes]

    def _make_folder(self) -> None:
        """Makes the folder, once: if it goes after that, someone should be told."""
        if not self._is_made:
            self._folder.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._chain.create()
            self._is_made = True

    def _write(self, number: int, in_order: Callable[[], tuple[Iterable[Buffer], int]]) -> None:
        name = f"step-{number:08}.safetensors"
        try:
            _, damaged = self._chain.add(name, in_order()[0])
        except CorruptionError as error:  # of what this step would be coded against: its own tensors are in memory
            _LOG.warning("%s: %s; step %d stands alone", self._folder, error, number)
            _, damaged = self._chain.add(name, in_order()[0], alone=True)
        self._last = number
        damage = [] if damaged is None else [damaged]
        if self._keep is not None and self._are_to_go(self._keep):
            _, found = self._chain.prune(self._keep, self._keep_every)
            damage += found
        for path, why in damage:
            if path not in self._told:
                self._told.add(path)
                _LOG.warning("%s: %s; it stays, put a copy of it there or remove it", path, why)

    def _are_to_go(self, keep: int) -> bool:
        """Whether steps are neither among the last ones nor multiples of `keep_every`."""
        earlier = self._chain.steps()[:-keep]
        return any(self._keep_every is None or number % self._keep_every for number, *_ in earlier)


def _number(step: int) -> int:
    number = operator.index(step)
    if not 0 <= number < 1 << 64:
        raise InvalidArgumentError(f"a step can't have the number {number}: count from 0 on")
    return number


def _memory(nbytes: int) -> memoryview:
    """Memory of this process alone, which takes room as it is written to."""
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    memory = mmap.mmap(-1, max(nbytes, 1), **private)
    with suppress(AttributeError, OSError):  # of systems that have none
        # A page's first use takes longer than its copy: better few of them.
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)[:nbytes]
