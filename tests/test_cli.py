"""The console script `wz` of the Python package: the program that Rust builds, from the same wheel."""

import os
import signal
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(sysconfig.get_path("scripts"), "wz")


def run(*arguments, **more):
    return subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True, **more)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.bin"
    np.random.default_rng(0).normal(0, 0.02, 500_000).astype(np.float32).tofile(path)
    return path


def test_it_says_the_same_as_the_program(wz):
    for arguments in (["--version"], ["--help"], ["compress", "--help"]):
        done = run(*arguments)
        assert done.returncode == 0 and done.stdout == wz(*arguments).decode()


def test_a_round_trip(model, tmp_path):
    content = model.read_bytes()
    done = run("compress", model)
    assert done.returncode == 0, done.stderr
    assert run("verify", f"{model}.wz").returncode == 0
    done = run("decompress", "-o", tmp_path / "restored", f"{model}.wz")
    assert done.returncode == 0 and (tmp_path / "restored").read_bytes() == content
    piped = subprocess.run([SCRIPT, "compress", "-o", "-", "-"], input=content, capture_output=True)
    assert piped.stdout == Path(f"{model}.wz").read_bytes()


def test_exit_codes(tmp_path):
    assert run("compress", "--no-such-option").returncode == 2
    done = run("decompress", tmp_path / "missing.wz")
    assert done.returncode == 1 and "missing.wz" in done.stderr


def test_what_nobody_reads_is_no_failure(model):
    process = subprocess.Popen([SCRIPT, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait() == 0 and process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_it_and_leaves_no_partial_file(tmp_path):
    target = tmp_path / "out.wz"
    process = subprocess.Popen(
        [SCRIPT, "compress", "-o", target, "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    # More than a pipe holds: when all of it is taken, the work has begun. A file has no name before it is complete.
    process.stdin.write(os.urandom(1 << 20))
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == -signal.SIGINT
    process.stdin.close()
    assert process.stderr.read() == b"" and not list(tmp_path.iterdir())
    process.stderr.close()
