"""Folders that must be local ones."""

import os
import re
from pathlib import Path

from weightzip.errors import InvalidArgumentError

# `Path` makes one slash of two. A single letter is a drive.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def local_folder(path: str | os.PathLike[str]) -> Path:
    """The path of a folder. Refuses URLs, of which a folder such as `s3:` would be made."""
    text = os.fsdecode(path)
    if _URL.match(text):
        raise InvalidArgumentError(
            f"{text} is a URL, and this is for local folders: give one, and copy it there, or mount the other one"
        )
    return Path(text)
