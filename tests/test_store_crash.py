"""A training that is killed at any moment: every step that is there restores, and it goes on from the last."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from test_store import is_state
from weightzip.checkpoint import CheckpointStore

KILLS = 40
STEPS = 50
KEEP = 3

SAVER = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import state
from weightzip.checkpoint import CheckpointStore
with CheckpointStore(sys.argv[1], keep={KEEP}, keyframe_every=4) as store:
    start = max((step.number for step in store.steps()), default=0) + 1
    print(start, flush=True)
    for step in range(start, {STEPS} + 1):
        store.save(step, state(step))
"""


def test_kills(tmp_path):
    moments, kills = random.Random(9), 0
    for run in range(KILLS):
        folder, last = tmp_path / str(run), 0
        while kills < KILLS and last < STEPS:
            kills += killed_after(moments.uniform(0, 0.25), folder)
            steps = [step.number for step in checked(folder)]
            assert max(steps, default=0) >= last
            last = max(steps, default=0)
    assert kills == KILLS
    # The last one isn't killed, goes on where it was, and cleans up.
    assert not killed_after(60, folder)
    assert [step.number for step in checked(folder)] == list(range(STEPS - KEEP + 1, STEPS + 1))
    assert len(list(folder.iterdir())) == KEEP + 1  # and the mark


def killed_after(seconds: float, folder: Path) -> bool:
    """Starts or resumes the training; whether it was killed."""
    with subprocess.Popen([sys.executable, "-c", SAVER, str(folder)], stdout=subprocess.PIPE) as saver:
        assert saver.stdout.readline().strip()
        deadline = time.monotonic() + seconds
        while saver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if saver.poll() is None:
            os.kill(saver.pid, signal.SIGKILL)
        assert saver.wait() in (0, -signal.SIGKILL)
        return saver.returncode != 0


def checked(folder: Path) -> list:
    """The steps of a store, each of which was restored."""
    with CheckpointStore(folder) as store:
        steps = store.steps()
        assert all(is_state(store.load(step.number), step.number) for step in steps)
        return steps
