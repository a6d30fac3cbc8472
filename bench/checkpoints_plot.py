"""The picture of bench/checkpoints.py: how long a save stops the training, and what a step takes."""

import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import PercentFormatter

INK, FAINT, GRID, OWN = "#1f2328", "#59636e", "#e4e7eb", "#cf222e"


def draw(rows: list[dict], plain: int, path: Path) -> None:
    """`plain` is what a step takes uncompressed, in bytes."""
    with pyplot.rc_context({"font.size": 10, "font.family": "DejaVu Sans"}):
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), dpi=110, layout="constrained", facecolor="white")
        stalls(axes[0], [row for row in rows if "BF16" not in row["way"]])
        sizes(axes[1], [row for row in rows if row["way"].startswith(("torch.save", "store"))], plain)
        for axis in axes:
            finish(axis)
        # Without the date, equal figures give equal files.
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def stalls(axis, rows):
    ways = list(dict.fromkeys(row["way"] for row in rows))[::-1]
    medians = [statistics.median(row["stall"] for row in rows if row["way"] == way) for way in ways]
    bars = axis.barh(ways, medians, color=[OWN if is_own(way) else FAINT for way in ways])
    axis.bar_label(bars, [f"{median:.3f}" for median in medians], padding=3, color=INK)
    axis.margins(x=0.12)
    title(axis, "How long a save stops the training", "seconds, median")


def is_own(way):
    return way.startswith(("store", "StorageWriter"))


def sizes(axis, rows, plain):
    ends = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        whole = plain / 6 if "BF16" in way else plain  # two bytes of the twelve that FP32 weights and moments take
        line = {"color": OWN, "marker": "o"} if way.startswith("store") else {"color": FAINT, "marker": "s"}
        axis.plot(
            [row["step"] for row in own], [row["bytes"] / whole for row in own], markersize=4, linewidth=1.2, **line
        )
        ends[way] = (own[-1]["step"], own[-1]["bytes"] / whole)
    below = 2.0
    for way, (step, share) in sorted(ends.items(), key=lambda end: -end[1][1]):
        below = min(share, below - 0.04)  # a line of text
        axis.annotate(way, (step, below), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_ylim(0, 1.1)
    axis.margins(x=0.3)
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    title(axis, "What a step takes, of its tensors' bytes", "step of the training")


def title(axis, text, across):
    axis.set_title(text, loc="left", fontweight="bold", color=INK)
    axis.set_xlabel(across, color=FAINT)


def finish(axis):
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=FAINT, which="both")
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(GRID)
