"""Tensors that are read when they are asked for."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Self

import weightzip
from weightzip.archive import Base


class StateDict(dict[str, Any]):
    """The tensors of some files by name: `state["x"][...]` reads one, `state["x"][2:5]` some of its rows.

    A value has `get_shape()` and `get_dtype()` too. The files are closed by `close`, at the end of a
    `with` block, or when nothing uses them any more.
    """

    def __init__(self, files: Iterable[str], base: Base) -> None:
        super().__init__()
        with ExitStack() as opened:
            for file in files:
                tensors = opened.enter_context(weightzip.safe_open(file, framework="pt", base=base))
                names = tensors.keys()
                self.update((name, tensors.get_slice(name)) for name in names)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Closes the files; tensors that were read stay."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
