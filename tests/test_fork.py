"""A forked child has no threads of its parent's pool: it starts its own."""

import os
import signal

import numpy as np
import pytest
import weightzip


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_works():
    numbers = np.random.default_rng(0).normal(0, 0.02, 12_000_000).astype(np.float32)
    before = weightzip.threads()
    weightzip.set_threads(2)
    frame = weightzip.compress(numbers, "f32")
    wz = weightzip.write_bytes([numbers])
    archive = weightzip.open(wz)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that hangs ends too
        same = weightzip.compress(numbers, "f32") == frame
        same = same and weightzip.decompress(frame) == numbers.tobytes()
        same = same and weightzip.write_bytes([numbers]) == wz
        same = same and archive.original() == numbers.tobytes()
        os._exit(0 if same else 1)
    _, status = os.waitpid(child, 0)
    weightzip.set_threads(before)
    assert os.waitstatus_to_exitcode(status) == 0
