"""What tests/conftest.py promises of all tests: they end by themselves, and leave memory to others."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import MEMORY, ROOT, TIME_LIMIT


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't count all memory")
def test_memory_is_bounded():
    with pytest.raises(MemoryError):
        bytearray(MEMORY)
    code = f"bytearray({MEMORY})"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=TIME_LIMIT)
    assert child.returncode == 1 and "MemoryError" in child.stderr


@pytest.mark.skipif(os.name != "posix", reason="jobs of shells")
def test_a_run_in_the_background_is_like_any_other():
    """Shells have SIGINT ignored there."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/test_interrupt.py", "-k", "slow_parts"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 0, done.stdout
