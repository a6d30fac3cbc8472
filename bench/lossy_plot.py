"""The picture of docs/near-lossless.md: size against what rounding costs, from what bench/lossy.py wrote.

    python bench/lossy_plot.py FIGURES.json... docs/near-lossless.png

needs: matplotlib
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import MultipleLocator, PercentFormatter

# Beside the points stands the knob: bits after the point of abs, of the mantissa of rel, decibels of snr.
ACROSS = "bits per weight; beside the points, the knob"
INK, FAINT, GRID = "#1f2328", "#59636e", "#e4e7eb"
# Color, marker, and where the numbers stand beside the points, in points of print; None: they would
# cover those of the series before.
SERIES = {
    "FP32 abs": ("#cf222e", "o", (-6, -9)),
    "BF16 abs": ("#0969da", "s", None),
    "BF16 rel": ("#1a7f37", "^", (7, 3)),
    "FP32 snr": ("#9a6700", "D", (18, -4)),
}
NETS = {"MLP": ("#0969da", "s", (0, -11)), "CNN": ("#cf222e", "o", (0, 8))}
BASES = {
    "alone": (FAINT, "o", 8),
    "against its base": ("#0969da", "s", 8),
    "against the previous epoch": ("#cf222e", "D", -16),
}
# Above so many bits per weight nothing changes.
WIDEST = 12.5


def draw(found: dict, path: Path) -> None:
    with pyplot.rc_context({"font.size": 10, "font.family": "DejaVu Sans"}):
        figure, axes = pyplot.subplots(2, 2, figsize=(11, 8.4), dpi=110, layout="constrained", facecolor="white")
        figure.get_layout_engine().set(hspace=0.06, wspace=0.04)
        for axis, part in zip(axes.flat, (sentences, bytes_of_text, digits, deltas)):
            part(axis, found)
            finish(axis)
        # Without the date, equal figures give equal files.
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def sentences(axis, found):
    axis.set_yscale("log")
    by_rule(axis, found["minilm"], lambda row: 1 - row["min_cosine"])
    title(axis, "MiniLM: the sentence that moved most", ACROSS, "1 − cosine with its embedding before")
    limit(axis, 1e-4, "cosine 0.9999")


def bytes_of_text(axis, found):
    # Linear up to the limit, where changes have either sign.
    axis.set_yscale("symlog", linthresh=1e-3)
    by_rule(axis, found["gpt"], lambda row: row["change"])
    title(axis, "gpt: held-out text", ACROSS, "bits per byte, change")
    limit(axis, 1e-3, "+0.001")
    limit(axis, -1e-3, "−0.001")


def by_rule(axis, rows, cost):
    for name, look in SERIES.items():
        dtype, knob = name.split()
        width = 32 if dtype == "FP32" else 16
        chosen = [r for r in rows if r["file"].endswith(dtype.lower()) and r["rule"].startswith(knob)]
        chosen = [row for row in chosen if row["default"] / 100 * width <= WIDEST]
        curve(axis, chosen, width, [cost(row) for row in chosen], name, look)
    axis.legend(frameon=False, labelcolor=INK)


def digits(axis, found):
    for name, look in NETS.items():
        chosen = [r for r in found["digits"] if r["file"] == name and r["rule"] != "lossless"]
        curve(axis, chosen, 32, [row["accuracy"] * 100 for row in chosen], name, look)
    axis.set_ylim(0, 100)
    axis.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axis.legend(frameon=False, labelcolor=INK, loc="lower right")
    title(axis, "Digits: two nets, FP32 abs", ACROSS, "accuracy")


def curve(axis, rows, width, up, name, look):
    color, marker, place = look
    across = [row["default"] / 100 * width for row in rows]
    axis.plot(across, up, color=color, marker=marker, markersize=5, linewidth=1.2, label=name)
    for x, y, row in zip(across, up, rows):
        if place:
            number = row["rule"].split("=")[1].removeprefix("2^-").replace("dB", " dB")
            axis.annotate(
                number, (x, y), place, textcoords="offset points", fontsize=8, color=color, ha="center", va="center"
            )


def deltas(axis, found):
    rules = ["lossless", "abs=2^-23", "abs=2^-18", "abs=2^-14"]
    rows = [row for row in found["delta"] if row["file"].startswith("family")]
    for name, (color, marker, place) in BASES.items():
        previous = name == "against the previous epoch"
        of = [row for row in rows if (row["base"] != "family_base_fp32") == previous]
        means = []
        for rule in rules:
            sizes = [row["sizes"][0 if name == "alone" else 1] for row in of if row["rule"] == rule]
            means.append(sum(sizes) / len(sizes))
        axis.plot(rules, means, color=color, marker=marker, label=name)
        for point in enumerate(means):
            axis.annotate(
                f"{point[1]:.0f} %", point, (0, place), textcoords="offset points", ha="center", color=color
            )
    axis.set_ylim(0, 100)
    axis.yaxis.set_major_locator(MultipleLocator(20))
    axis.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    axis.legend(frameon=False, labelcolor=INK)
    title(axis, "Fine-tuned gpt, FP32: with a base", "", "size, mean of three siblings")


def limit(axis, height, text):
    axis.axhline(height, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
    axis.annotate(
        text, (0.99, height), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", color=FAINT,
    )  # fmt: skip


def title(axis, text, across, up):
    axis.set_title(text, loc="left", fontweight="bold", color=INK)
    axis.set_xlabel(across, color=FAINT)
    axis.set_ylabel(up, color=FAINT)


def finish(axis):
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=FAINT, which="both")
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(GRID)


def main() -> None:
    *figures, path = sys.argv[1:]
    found = {}
    for figure in figures:
        found |= json.loads(Path(figure).read_text())
    draw(found, Path(path))


if __name__ == "__main__":
    main()
