"""Copies of many tensors at once."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import weightzip

# From where to where, and how many bytes.
Copy = tuple[int, int, int]

# More threads than this hardly copy faster, and each copies as much at a time.
_THREADS = 4
_PIECE = 4 << 20


def copy_all(copies: list[Copy]) -> None:
    """Copies ranges of memory, given by address, which must be allocated, and stay so, and not overlap.

    A few threads do, and wait for one another at the end only: torch's own do so at each tensor, which takes long where cores
    are busy.
    """
    threads = min(_THREADS, weightzip.threads(), sum(nbytes for *_, nbytes in copies) // _PIECE)
    if threads < 2:
        _copy([copies])
        return
    shares = iter(list(_shares(copies)))  # a list's iterator: any thread may take the next one
    with ThreadPoolExecutor(threads - 1, "weightzip") as pool:
        others = [pool.submit(_copy, shares) for _ in range(threads - 1)]
        _copy(shares)
        for other in others:
            other.result()


def _shares(copies: Iterable[Copy]) -> Iterator[list[Copy]]:
    """Groups of copies of about a piece, none larger than two."""
    share: list[Copy] = []
    size = 0
    for start, to, nbytes in copies:
        for at in range(0, nbytes, _PIECE):
            part = min(_PIECE, nbytes - at)
            share.append((start + at, to + at, part))
            size += part
            if size >= _PIECE:
                yield share
                share, size = [], 0
    yield share


def _copy(shares: Iterable[list[Copy]]) -> None:
    for share in shares:
        for start, to, nbytes in share:
            ctypes.memmove(to, start, nbytes)  # lets other threads go on
