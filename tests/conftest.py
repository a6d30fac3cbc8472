"""What the tests share: the built program, real weights, and what keeps a failure from taking the machine along."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

MEMORY = 2 << 30
TIME_LIMIT = 300


def limit_memory(most: int) -> None:
    """Bounds the private memory of this process, and of those that it starts, where the system can."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


limit_memory(MEMORY)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_interrupts():
    """Here and in all programs that tests start, though jobs in the background have SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def wz():
    """Runs wz and returns its stdout as bytes; a failure shows what wz said."""
    program = Path(os.environ.get("WZ", ROOT / "target/release/wz")).resolve()

    def run(*arguments, stdin: bytes | None = None) -> bytes:
        command = [str(a) for a in (program, *arguments)]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=TIME_LIMIT)
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
