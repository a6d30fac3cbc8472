"""Nested dicts, lists and tuples: as JSON, and the tensors in them by name. Nothing is pickled."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from types import NoneType
from typing import Any, NamedTuple, Protocol

from weightzip.archive import Archive
from weightzip.errors import CompatibilityError, CorruptionError, InvalidArgumentError, WeightzipError

# More is more likely a container that holds itself.
_DEEPEST = 100
_SCALARS = (NoneType, bool, int, float, str)
_DICTS: dict[type, str] = {dict: "dict", OrderedDict: "ordered", Counter: "counter"}
_SENSELESS = (AttributeError, KeyError, RecursionError, RuntimeError, TypeError, ValueError, struct.error)
_AS_JSON = 1 << 63  # larger numbers are written in base 16: decimal ones take long, and Python bounds them

# Whose tensors are known, once they are imported: their class, its tag, and the module that knows it.
_FRAMEWORKS = {
    "torch": ("Tensor", "tensor", "weightzip._leaves_torch"),
    "numpy": ("ndarray", "array", "weightzip._leaves_numpy"),
}
_MODULES = {tag: module for _, tag, module in _FRAMEWORKS.values()}


class Kind(Protocol):
    """What a module knows of a framework's tensors."""

    def describe(self, tensor: Any) -> tuple[str, tuple[int, ...], str | None]:
        """Dtype and shape in safetensors; and its own dtype, if that is another. A ValueError says why it can't be saved."""

    def identity(self, tensor: Any) -> Hashable:
        """The same for those that are one piece of memory; None if there is none."""

    def address(self, tensor: Any) -> int | None:
        """Where its bytes are, if they are in ordinary memory, one behind another."""

    def copy(self, tensor: Any, room: memoryview) -> None:
        """Copies its values to where there is room for them, if they are elsewhere."""

    def load(self, archive: Archive, names: list[str], device: Any) -> Mapping[str, Any]:
        """Tensors of a file, as `describe` said."""

    def noted(self, tensor: Any, dtype: str) -> Any:
        """A tensor of its own dtype, of one that was loaded."""


class Leaf(NamedTuple):
    """A tensor of a state."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    # Where its bytes are, if that is ordinary memory; else `copy` brings its values there.
    address: int | None
    copy: Callable[[memoryview], None]


def flatten(state: object) -> tuple[str, list[Leaf]]:
    """A state as JSON, and its tensors: those that are one piece of memory once.

    Raises `InvalidArgumentError` with the path of what can't be saved.
    """
    flat = _Flat()
    tree = flat.tree(state, ())
    return json.dumps(tree, separators=(",", ":"), allow_nan=False), list(flat.leaves.values())


class _Flat:
    def __init__(self) -> None:
        self.leaves: dict[str, Leaf] = {}
        self._names: dict[Hashable, str] = {}

    def tree(self, value: Any, path: tuple[object, ...]) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return _scalar(value)
        if len(path) > _DEEPEST:
            raise InvalidArgumentError(f"{_shown(path):.60}... is nested {_DEEPEST} deep, or holds itself")
        if kind is list or kind is tuple:
            parts = [self.tree(each, (*path, i)) for i, each in enumerate(value)]
            return parts if kind is list else {"tuple": parts}
        if kind in _DICTS:
            pairs = ((self._key(key, path), self.tree(each, (*path, key))) for key, each in value.items())
            content = {_DICTS[kind]: [each for pair in pairs for each in pair]}
            # What a module's `state_dict()` says of its layers' versions.
            about = getattr(value, "_metadata", None)
            return content if about is None else {"module": [content, self.tree(about, (*path, "_metadata"))]}
        for framework, (known, tag, _) in _FRAMEWORKS.items():
            of_framework = getattr(sys.modules.get(framework), known, None)
            if of_framework is not None and isinstance(value, of_framework):
                return {tag: self._leaf(value, path, _kind(tag))}
        raise InvalidArgumentError(
            f"{_shown(path)} is a {kind.__name__}, which can't be saved: make it tensors, numbers, text or None, "
            "or a dict, list or tuple of these"
        )

    def _key(self, key: Any, path: tuple[object, ...]) -> Any:
        if type(key) is tuple:
            return {"tuple": [self._key(part, path) for part in key]}
        if type(key) in _SCALARS:
            return _scalar(key)
        raise InvalidArgumentError(
            f"{_shown(path)} has a {type(key).__name__} as key, which can't be saved: make it text or a number"
        )

    def _leaf(self, value: Any, path: tuple[object, ...], kind: Kind) -> str | list[str]:
        try:
            dtype, shape, own = kind.describe(value)
        except ValueError as why:
            raise InvalidArgumentError(f"this tensor {why}", tensor=_shown(path)) from None
        identity = kind.identity(value)
        name = self._names.get(identity)
        if name is None:
            name = self._name(path)
            self.leaves[name] = Leaf(
                name, dtype, shape, value.nbytes, kind.address(value), partial(kind.copy, value)
            )
            if identity is not None:
                self._names[identity] = name
        return name if own is None else [name, own]

    def _name(self, path: tuple[object, ...]) -> str:
        name = _dotted(path)
        if not name.isascii():  # text may hold what UTF-8 lacks
            name = name.encode(errors="backslashreplace").decode()
        while name in self.leaves or name == "__metadata__":  # which safetensors keeps for itself
            name += "'"
        return name


def _scalar(value: float | str | None) -> Any:
    if type(value) is float and not math.isfinite(value):
        return {"float": struct.pack(">d", value).hex()}
    if type(value) is int and abs(value) >= _AS_JSON:
        return {"int": hex(value)}
    return value


def _dotted(path: tuple[object, ...]) -> str:
    return ".".join(map(str, path))


def _shown(path: tuple[object, ...]) -> str:
    return _dotted(path) or "the state"


def rebuild(text: str, archive: Archive, device: Any) -> Any:
    """The state that `flatten` made this of, with the tensors of a file. Those that were one are one again.

    Raises `CorruptionError` if the text is no such state, `CompatibilityError` if a later version made it.
    """
    with _sense_expected():
        tree = json.loads(text)
        names: dict[str, dict[str, None]] = {}
        for tag, name in _named(tree):
            names.setdefault(tag, {})[archive.tensors[name].name] = None
    found = {tag: _kind(tag).load(archive, list(of_tag), device) for tag, of_tag in names.items()}
    with _sense_expected():
        return _Rebuild(found).value(tree)


@contextmanager
def _sense_expected() -> Iterator[None]:
    try:
        yield
    except WeightzipError:
        raise
    except _SENSELESS as error:
        raise CorruptionError(f"what this file says of its state makes no sense: {error!r}") from error


@cache
def _kind(tag: str) -> Kind:
    return import_module(_MODULES[tag])


def _named(tree: Any) -> Iterator[tuple[str, str]]:
    """The tensors in a tree: tag and name."""
    if isinstance(tree, list):
        for each in tree:
            yield from _named(each)
    elif isinstance(tree, dict):
        ((tag, content),) = tree.items()
        if tag in _MODULES:
            yield tag, content if isinstance(content, str) else content[0]
        else:
            yield from _named(content)


class _Rebuild:
    def __init__(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        self._found = found
        self._noted: dict[tuple[str, str, str], Any] = {}

    def value(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.value(each) for each in tree]
        if not isinstance(tree, dict):
            return tree
        ((tag, content),) = tree.items()
        if tag == "float":
            return struct.unpack(">d", bytes.fromhex(content))[0]
        if tag == "int":
            return int(content, 16)
        if tag == "tuple":
            return tuple(self.value(content))
        if tag == "module":
            state, about = self.value(content)
            state._metadata = about
            return state
        if tag in _MODULES:
            return self._tensor(tag, content)
        for kind, known in _DICTS.items():
            if tag == known:
                parts = self.value(content)
                return kind(dict(zip(parts[::2], parts[1::2], strict=True)))
        raise CompatibilityError(f"this step's state has a {tag!r}: a later version of weightzip saved it")

    def _tensor(self, tag: str, content: Any) -> Any:
        if isinstance(content, str):
            return self._found[tag][content]
        name, note = content
        if (tag, name, note) not in self._noted:
            self._noted[tag, name, note] = _kind(tag).noted(self._found[tag][name], note)
        return self._noted[tag, name, note]
