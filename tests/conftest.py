"""What the tests share: the built program, and real weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))


@pytest.fixture(scope="session")
def wz():
    """Runs wz and returns its stdout as bytes; a failure shows what wz said."""
    program = Path(os.environ.get("WZ", ROOT / "target/release/wz")).resolve()

    def run(*arguments, stdin: bytes | None = None) -> bytes:
        command = [str(a) for a in (program, *arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True)
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def minilm_files(tmp_path_factory):
    """The real model and its casts, as safetensors files by name."""
    import minilm

    folder = tmp_path_factory.mktemp("minilm")
    for name, content in minilm.casts(minilm.read_model()).items():
        (folder / f"{name}.safetensors").write_bytes(content)
    return {path.stem: path for path in folder.iterdir()}
