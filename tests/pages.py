"""Runs the examples of a page of the documentation."""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_page(page: str, folder: Path, environment: dict[str, str] | None = None) -> None:
    """Runs all Python of a page as one program, in an empty folder."""
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert blocks, f"{page} has no example"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=folder,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"
