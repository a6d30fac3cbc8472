"""weightzip.tune: the rules that keep a score."""

import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import weightzip
from weightzip.numpy import load_file, save_file

SENSITIVE = "h.0.up.weight"


@pytest.fixture
def model(tmp_path):
    import safetensors.numpy

    numbers = np.random.default_rng(1)
    names = [f"h.{layer}.{role}.weight" for layer in range(2) for role in ("up", "down", "out")]
    # Large enough not to share blocks, in which the finest grid would count.
    tensors = {name: numbers.normal(0, 0.02, (256, 128)).astype(np.float32) for name in names}
    tensors["norm.weight"] = np.ones(64, np.float32)
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    return path


def is_original(path: str, model: Path) -> bool:
    """Whether an evaluation got the original, which is a copy that it may do anything with."""
    return Path(path) != model and Path(path).read_bytes() == model.read_bytes()


def scorer(model):
    import safetensors.numpy

    original = safetensors.numpy.load_file(model)

    def score(path: str) -> float:
        score.calls.append(path)
        assert is_original(path, model) or len(score.calls) > 1
        now = safetensors.numpy.load_file(path)
        assert (now["norm.weight"] == 1).all()
        cost = {name: float(((now[name] - original[name]) ** 2).sum()) for name in original}
        return 1 - sum(cost.values()) - 300 * cost[SENSITIVE] - 300 * cost["h.1.up.weight"]

    score.calls = []
    return score


def test_the_result_is_what_was_measured(model):
    score = scorer(model)
    result = weightzip.tune(model, score, "0.1%")
    assert result.original is result.trials[0] and result.original.score == 1
    assert result.original.rules == "" and score.calls[0] != str(model)
    assert result.best in result.trials and result.best.within
    assert result.best.ratio < 0.6 < result.original.ratio
    smallest = min(trial.compressed_bytes for trial in result.trials if trial.within)
    assert result.best.compressed_bytes == smallest
    for trial in result.trials:
        assert trial.within == (trial.score >= 0.999)
    assert result.rules_toml.startswith("default = ")
    uniform = [t for t in result.trials if t.within and ":" not in t.rules and t.rules]
    assert result.best.compressed_bytes < min(t.compressed_bytes for t in uniform)
    assert all(Path(path).name == model.name for path in score.calls)
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_a_log_is_gone_on_with(model, tmp_path):
    log = tmp_path / "log.jsonl"
    score = scorer(model)
    first = weightzip.tune(model, score, 0.001, log=log, max_evaluations=8)
    assert len(first.trials) == len(score.calls) == 8
    again = weightzip.tune(model, score, "0.001", log=log, max_evaluations=20)
    assert again.trials[:8] == first.trials
    assert len(score.calls) == len(again.trials) <= 20
    assert json.loads(log.read_text().splitlines()[0])["evaluate"].endswith("scorer.<locals>.score")
    with pytest.raises(weightzip.InvalidArgumentError, match="another level"):
        weightzip.tune(model, score, 0.001, log=log, level="max")
    with pytest.raises(weightzip.InvalidArgumentError, match="another evaluation"):
        weightzip.tune(model, len, 0.001, log=log)


def test_what_evaluate_raises_comes_out_and_nothing_stays(model, tmp_path):
    class Broken(Exception):
        pass

    threads, log = set(), tmp_path / "log.jsonl"

    def evaluate(path: str) -> float:
        threads.add(threading.current_thread())
        if not is_original(path, model):
            raise Broken
        return 1.0

    with pytest.raises(Broken):
        weightzip.tune(model, evaluate, log=log)
    assert threads == {threading.current_thread()}
    assert len(log.read_text().splitlines()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {model.name, log.name}
    with pytest.raises(TypeError):
        weightzip.tune(model, lambda path: "no number")


def test_lower_scores_and_mantissa_bits(model, tmp_path):
    score = scorer(model)
    work = tmp_path / "work"
    work.mkdir()
    result = weightzip.tune(
        model, lambda path: 2 - score(path), "0.2%", direction="lower", knob="rel", work=work
    )
    assert result.best.within and result.best.rules.startswith("rel=2^-")
    assert result.best.score <= 1.002
    assert any(Path(path).parent.parent == work for path in score.calls)


def test_no_rounding_that_keeps_the_score(model):
    result = weightzip.tune(model, lambda path: float(is_original(path, model)))
    assert result.best is result.original and result.rules_toml == ""
    nan = weightzip.tune(model, lambda path: 1.0 if is_original(path, model) else math.nan)
    assert nan.best is nan.original and all(not trial.within for trial in nan.trials[1:])


def test_bad_arguments(model, tmp_path):
    one = lambda path: 1.0  # noqa: E731
    for arguments in (
        {"tolerance": "-1"},
        {"tolerance": "x%"},
        {"direction": "up"},
        {"knob": "snr"},
        {"level": "best"},
        {"max_evaluations": 0},
    ):
        with pytest.raises(weightzip.InvalidArgumentError):
            weightzip.tune(model, one, **arguments)
    with pytest.raises(TypeError):
        weightzip.tune(model, 3)
    with pytest.raises(FileNotFoundError):
        weightzip.tune(tmp_path / "gone", one)
    with pytest.raises(weightzip.InvalidArgumentError, match="score is NaN"):
        weightzip.tune(model, lambda path: math.nan)
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "v.safetensors.wz")
    with pytest.raises(weightzip.InvalidArgumentError, match="restore it first"):
        weightzip.tune(tmp_path / "v.safetensors.wz", one)
    assert load_file(tmp_path / "v.safetensors.wz")["w"].shape == (3,)
