"""The original of a `.wz` as a file."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from weightzip.archive import Archive

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Original(io.RawIOBase):
    """The original of an open `.wz`: what is read is decoded then."""

    # Bytes that are decoded at a time.
    most = sys.maxsize

    def __init__(self, archive: Archive) -> None:
        super().__init__()
        self.archive = archive
        self._size = archive.info.original_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if at < 0:
            raise ValueError(f"can't seek to {at}: a file begins at 0")
        self._at = at
        return at

    def readinto(self, out: Buffer) -> int:
        into = memoryview(out).cast("B")
        stop = min(self._at + min(into.nbytes, self.most), self._size)
        if stop <= self._at:
            return 0
        part = self.archive.original(self._at, stop)
        into[: part.nbytes] = part
        self._at = stop
        return part.nbytes

    def readall(self) -> bytes:
        start = min(self._at, self._size)
        self._at = max(self._at, self._size)
        return self.archive.original(start).tobytes()
