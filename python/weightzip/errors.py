"""What can go wrong. Every error has its kind, and the file, offset and tensor where they are known."""

from typing import ClassVar


class WeightzipError(Exception):
    """An error of this package: one of the classes below."""

    kind: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        offset: int | None = None,
        tensor: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.offset = offset
        self.tensor = tensor

    def __str__(self) -> str:
        places = [
            self.file,
            None if self.offset is None else f"at byte {self.offset}",
            None if self.tensor is None else f"tensor {self.tensor!r}",
        ]
        place = ", ".join(place for place in places if place is not None)
        return f"{self.kind}: {self.message}" + (f" ({place})" if place else "")


class CorruptionError(WeightzipError):
    """The bytes contradict themselves or a checksum."""

    kind = "corrupt"


class CompatibilityError(WeightzipError):
    """The file is sound but asks for something that this version can't do."""

    kind = "incompatible"


class InsufficientDataError(WeightzipError):
    """The data ends before it should."""

    kind = "insufficient data"


class InvalidArgumentError(WeightzipError, ValueError):
    """The caller asked for something that can't be."""

    kind = "invalid argument"


class ReadWriteError(WeightzipError, OSError):
    """Reading or writing failed. A file that can't be opened raises Python's own OSError."""

    kind = "i/o error"
