"""The picture of bench/compare.py: size against speed, one row per dtype."""

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

import report

# One file stands for each dtype.
PANELS = {
    "BF16": "minilm_bf16",
    "FP16": "minilm_fp16",
    "FP32": "minilm_fp32",
    "BF16 stored as FP32": "minilm_bf16asfp32",
    "FP8 E4M3": "minilm_fp8e4m3",
}
INK, FAINT, GRID, OWN = "#1f2328", "#59636e", "#e4e7eb", "#cf222e"
SHORT = {"Blosc2 shuffle + zstd 1": "Blosc2 shuffle", "Blosc2 bitshuffle + zstd 1": "Blosc2 bitshuffle"}
# Where a label may stand, in points from its point: nearest places first, the far ones with a line.
PLACES = [
    (radius * math.cos(angle), radius * math.sin(angle))
    for radius in (10, 18, 28, 40, 54, 70)
    for angle in (
        math.radians(degrees)
        for degrees in (90, 0, 180, 270, 40, 320, 140, 220, 65, 295, 115, 245, 20, 340, 160, 200)
    )
]
LINE_FROM = 17
# From this size on a codec is named and not drawn: it would squeeze the others.
USELESS_PERCENT = 99


def draw(rows: list[dict], path: Path) -> None:
    """Draws what was measured warm on one thread, at the machine's own SIMD level."""
    rows = [row for row in report.where(rows, memory="warm", threads=1) if "(" not in row["codec"]]
    panels = {title: report.where(rows, data=data) for title, data in PANELS.items()}
    panels = {title: of for title, of in panels.items() if of}
    if not panels:
        return
    style = {"font.size": 10, "font.family": "DejaVu Sans", "svg.fonttype": "path", "svg.hashsalt": "compare"}
    with pyplot.rc_context(style):
        # A background of its own: readable on light and dark pages.
        figure, axes = pyplot.subplots(
            len(panels),
            2,
            figsize=(11, 3.5 * len(panels)),
            squeeze=False,
            dpi=110,
            layout="constrained",
            facecolor="white",
        )
        for line, (title, of) in zip(axes, panels.items()):
            for axis, step in zip(line, ("decode", "encode")):
                panel(axis, of, step, f"{title}, {step}")
        figure.get_layout_engine().set(hspace=0.06, wspace=0.04)
        figure.canvas.draw()
        figure.set_layout_engine("none")  # labels must not move what they were placed by
        for axis in axes.flat:
            place_labels(figure, axis)
        # Without the date, equal figures give equal files.
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
        pyplot.close(figure)


def panel(axis, rows, step, title):
    copies = [row["decode"] for row in rows if row["codec"] == "memcpy"]
    points = [row for row in rows if report.measured(row) and row["codec"] != "memcpy"]
    useless = [row["codec"] for row in points if row["percent"] > USELESS_PERCENT]
    points = [row for row in points if row["codec"] not in useless]
    peers = [row for row in points if not is_own(row["codec"])]
    own = [row for row in points if is_own(row["codec"])]
    axis.set_title(title, loc="left", fontweight="bold", color=INK)
    axis.set_xscale("log")
    axis.scatter([r[step] for r in peers], [r["percent"] for r in peers], s=34, color=FAINT, zorder=3)
    axis.scatter([r[step] for r in own], [r["percent"] for r in own], s=150, marker="*", color=OWN, zorder=4)
    # Fastest first, weightzip before all.
    peers.sort(key=lambda row: -row[step])
    axis.points = [(row[step], row["percent"], row["codec"]) for row in own + peers]
    speeds = [row[step] for row in points] + copies
    sizes = [row["percent"] for row in points]
    axis.set_xlim(min(speeds) / 1.5, max(speeds) * 1.5)
    room = max(max(sizes) - min(sizes), 4) * 0.12
    axis.set_ylim(max(sizes) + 2.6 * room, min(sizes) - 3 * room)
    axis.copies = copies
    for copy in copies:
        axis.axvline(copy, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
        axis.annotate(
            "memcpy", (copy, 0.04), xycoords=("data", "axes fraction"), xytext=(-4, 0),
            textcoords="offset points", rotation=90, ha="right", va="bottom", color=FAINT,
        )  # fmt: skip
    axis.set_xlabel("GB/s of original data, one thread", color=FAINT)
    axis.set_ylabel("size, % of the original", color=FAINT)
    axis.annotate(
        "better", (0.16, 0.19), (0.03, 0.05), xycoords="axes fraction", textcoords="axes fraction",
        color=FAINT, arrowprops={"arrowstyle": "->", "color": FAINT},
    )  # fmt: skip
    if useless:
        axis.annotate(
            f"no smaller: {', '.join(useless)}", (0.5, 0.05), xycoords="axes fraction", ha="center", color=FAINT,
        )  # fmt: skip
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=FAINT, which="both")
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(GRID)


def place_labels(figure, axis):
    """Puts each label where it misleads least: see `cost`."""
    renderer = figure.canvas.get_renderer()
    dots = [axis.transData.transform(point[:2]) for point in axis.points]
    lines = [axis.transData.transform((copy, 0))[0] for copy in axis.copies]
    frame = axis.get_window_extent(renderer)
    taken = [text.get_window_extent(renderer) for text in axis.texts]
    for own, (x, y, name) in zip(dots, axis.points):
        others = [dot for dot in dots if dot is not own]
        best = None
        for place in PLACES:
            label = annotate(axis, SHORT.get(name, name), (x, y), place, is_own(name))
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer).padded(2)
            costs = cost(box, own, others, taken, lines, frame, linked(place))
            if best is None or costs < best[0]:
                if best:
                    best[1].remove()
                best = (costs, label, box)
            else:
                label.remove()
            if costs == 0:
                break
        taken.append(best[2])


def cost(box, own, others, taken, lines, frame, is_linked) -> float:
    """What speaks against a label there: hiding things, leaving the panel, pointing elsewhere."""
    hidden = sum(box.overlaps(other) for other in taken)
    hidden += sum(distance(box, dot) < 5 for dot in others)
    outside = not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    crossed = any(box.x0 < line < box.x1 for line in lines)
    if is_linked:
        end = (clip(own[0], box.x0, box.x1), clip(own[1], box.y0, box.y1))
        steps = [own + (end - own) * i / 8 for i in range(9)]
        unclear = sum(any(math.dist(step, dot) < 6 for step in steps) for dot in others)
    else:
        unclear = sum(distance(box, dot) < 1.3 * distance(box, own) for dot in others)
    return hidden + outside + (crossed + unclear) / 2


def clip(value, least, most):
    return min(max(value, least), most)


def distance(box, dot) -> float:
    return math.dist(dot, (clip(dot[0], box.x0, box.x1), clip(dot[1], box.y0, box.y1)))


def linked(place) -> bool:
    """Whether a label at this place needs a line to its point."""
    return math.hypot(*place) > LINE_FROM


def is_own(name):
    return name.startswith("weightzip")


def annotate(axis, text, point, place, own):
    across, up = place
    line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
    return axis.annotate(
        text, point, place, textcoords="offset points", zorder=5, fontsize=9,
        ha="center" if abs(across) < 1 else "left" if across > 0 else "right",
        va="center" if abs(up) < 1 else "bottom" if up > 0 else "top",
        color=OWN if own else INK, fontweight="bold" if own else "normal",
        arrowprops=line if linked(place) else None,
    )  # fmt: skip
