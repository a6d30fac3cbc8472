"""The search for the rules that keep a score."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike

from weightzip import _weightzip


@dataclass(frozen=True)
class Trial:
    """Rules that were tried, as on the command line; the original has none."""

    rules: str
    compressed_bytes: int
    # compressed_bytes / bytes of the original.
    ratio: float
    score: float
    # Whether the score is within tolerance.
    within: bool


@dataclass(frozen=True)
class TuneResult:
    """What `tune` has found: `best` is the original, and `rules_toml` empty, if no rounding keeps the score."""

    original: Trial
    best: Trial
    # The rules of `best` as a file that `wz compress --lossy @rules.toml` takes.
    rules_toml: str
    trials: tuple[Trial, ...]


def tune(
    path: str | PathLike[str],
    evaluate: Callable[[str], float],
    tolerance: str | float = "0.1%",
    *,
    direction: str = "higher",
    knob: str = "abs",
    level: str = "default",
    max_evaluations: int = 60,
    log: str | PathLike[str] | None = None,
    work: str | PathLike[str] | None = None,
) -> TuneResult:
    """Finds how far a model may be rounded: the smallest file whose score stays close to the original's.

    `path` is a model file, or a folder with some. `evaluate` is called, on this thread, with the path of the original,
    and then of one that is rounded, and returns the score; what it raises ends the search. `tolerance` is how much worse
    than the original's a score may be: a percentage such as "0.1%", or a difference; `direction` says which scores are
    better, "higher" or "lower".

    First one bound for all tensors is bisected: a power of two ("abs") or mantissa bits ("rel"), as `knob` says. Then
    groups of tensors are loosened one by one. `log` is a file that keeps each measure: the same call goes on from there,
    as long as it is for the same model, level, and function by its name. `work` is the folder for rounded models, one
    at a time; that of `path` if it is None.

    Raises InvalidArgumentError if there is nothing to be rounded, if the original's score is not finite, or if the log is
    of something else.
    """
    size, best, rules_toml, rows = _weightzip.tune(
        path, evaluate, str(tolerance), direction, knob, level, max_evaluations, log, work
    )
    trials = tuple(
        Trial(rules, compressed, compressed / size, score, within)
        for rules, compressed, score, within in rows
    )
    return TuneResult(trials[0], trials[best], rules_toml, trials)
