"""Checks the reference decoder with every file in ../vectors, and the hashes with known answers."""

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from random import Random

from decode import FormatError, decode, decode_frame, find_footer, read_at
from hashes import wrong_answers

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
RANDOM_RANGES = 5


def check_vector(vector: dict) -> str | None:
    """What is wrong with how a vector is decoded, or None."""
    data = (VECTORS / vector["file"]).read_bytes()
    expected = vector["expected"]
    bases = [(VECTORS / base).read_bytes() for base in vector.get("bases", [])]
    is_frame = vector["file"].endswith(".frame")
    try:
        original = decode_frame(data) if is_frame else decode(data, bases)
    except FormatError as error:
        if error.kind == expected.get("error"):
            return None if is_frame else check_refused_ranges(data, bases)
        return f"refused: {error}"
    found = {"bytes": len(original), "sha256": hashlib.sha256(original).hexdigest()}
    if found != expected:
        return f"decodes to {found} instead of {expected}"
    return None if is_frame else check_ranges(data, original, bases)


def check_ranges(data: bytes, original: bytes, bases: list[bytes]) -> str | None:
    """Compares ranges read by random access with what was read from front to back."""
    for offset, length in ranges(len(original)):
        try:
            found = read_at(data, offset, length, bases)
        except FormatError as error:
            return f"{length} bytes at {offset}: refused: {error}"
        if found != original[offset : offset + length]:
            return f"{length} bytes at {offset}: not those of the original"
    return None


def check_refused_ranges(data: bytes, bases: list[bytes]) -> str | None:
    """Random access needn't see what is wrong elsewhere in a file, but fails in no other way."""
    with suppress(FormatError):
        read_at(data, 0, min(1, find_footer(data).length), bases)
    return None


def ranges(length: int) -> list[tuple[int, int]]:
    """All bytes, none, the last one, and a few ranges that are the same every time."""
    random = Random(length)
    found = [(0, length), (length, 0), (max(length - 1, 0), min(length, 1))]
    for _ in range(RANDOM_RANGES):
        first, last = sorted((random.randint(0, length), random.randint(0, length)))
        found.append((first, last - first))
    return found


def main() -> int:
    failures = [f"hashes: {wrong} is wrong" for wrong in wrong_answers()]
    vectors = json.loads((VECTORS / "MANIFEST.json").read_text())
    passed = 0
    for vector in vectors:
        try:
            wrong = check_vector(vector)
        except Exception as error:  # a decoder must not fail in any other way than FormatError
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            failures.append(f"{vector['file']} ({vector['shows']}): {wrong}")
        else:
            passed += 1
    for failure in failures:
        print(failure)
    print(f"{passed} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
