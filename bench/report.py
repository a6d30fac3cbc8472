"""The results of bench/compare.py as CSV, as Markdown tables, and against the project's bars."""

import csv
from pathlib import Path

FIELDS = [
    "memory", "data", "dtype", "bytes", "codec", "version", "threads", "percent", "file_percent",
    "encode", "encode_least", "encode_greatest", "decode", "decode_least", "decode_greatest",
    "of_memcpy", "reason",
]  # fmt: skip
TEXT = {"memory", "data", "dtype", "codec", "version", "reason"}
DTYPES = {"bf16": "BF16", "f32": "FP32", "f16": "FP16", "f8_e4m3": "FP8 E4M3"}
DATA = {
    "minilm_bf16": "MiniLM",
    "gpt_c_bf16": "gpt",
    "synth_llama_bf16": "synth",
    "minilm_fp32": "MiniLM",
    "minilm_bf16asfp32": "MiniLM BF16, stored as FP32",
    "minilm_fp16asfp32": "MiniLM FP16, stored as FP32",
    "gpt_c_grad_fp32": "gpt's gradients",
    "gpt_c_adam_fp32": "gpt's optimizer state",
    "minilm_fp16": "MiniLM",
    "minilm_fp8e4m3": "MiniLM",
}


def write(rows: list[dict], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})


def read(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return [
            {k: v if k in TEXT else float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)
        ]


def where(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def measured(row: dict) -> bool:
    return not row["reason"]


def of_file(row: dict) -> float | None:
    """The size of the whole file as a .wz, if that was measured."""
    percent = row.get("file_percent")
    return percent if percent and percent == percent else None


def tables(rows: list[dict]) -> str:
    """All tables: warm before cold, one thread before more, by dtype."""
    parts = ["Sizes in brackets: the whole file as a .wz, names and boundaries included.\n\n"]
    for memory in ("warm", "cold"):
        for threads in sorted({row["threads"] for row in rows}):
            of = where(rows, memory=memory, threads=threads)
            if of:
                count = "one thread" if threads == 1 else f"{threads:.0f} threads"
                parts.append(f"## {memory.capitalize()}, {count}\n\n")
                parts += [dtype_table(where(of, dtype=dtype), name) for dtype, name in DTYPES.items()]
    return "".join(parts)


def dtype_table(rows: list[dict], title: str) -> str:
    lines = [
        f"### {title}\n",
        "| data | codec | size % | encode GB/s | decode GB/s | of memcpy |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        name = row["codec"]
        if name.startswith("weightzip"):
            name = f"**{name}**"
        start = f"| {DATA[row['data']]} | {name} |"
        if not measured(row):
            lines.append(f"{start} {row['reason']} | | | |")
        elif row["codec"] == "memcpy":
            lines.append(f"{start} | | {row['decode']:.2f} | |")
        else:
            size = f"{row['percent']:.2f}" + (f" ({of_file(row):.2f})" if of_file(row) else "")
            speeds = f"{row['encode']:.2f} | {row['decode']:.2f} | {row['of_memcpy']:.2f}"
            lines.append(f"{start} {size} | {speeds} |")
    return "\n".join(lines) + "\n\n" if rows else ""


class Bars:
    """The bars of one file: each compares weightzip with a number and becomes a line."""

    def __init__(self, rows: list[dict], data: str, codec: str = "weightzip"):
        of = [row for row in where(rows, memory="warm", threads=1, data=data) if measured(row)]
        found = {row["codec"]: row for row in of}
        self.data, self.own = data, found.get(codec)
        self.peers = {
            name: row for name, row in found.items() if name != "memcpy" and not name.startswith("weightzip")
        }
        self.title = " ".join([DTYPES[self.own["dtype"]], DATA[data]]) if self.own else ""
        if codec != "weightzip":
            self.title += codec.removeprefix("weightzip")
        self.lines = []

    def line(self, what: str, value: float, bar: float, text: str, most: bool = False) -> None:
        kept = value <= bar if most else value >= bar
        by = f"{value - bar:+.3f} points" if most else f"{(value / bar - 1) * 100:+.1f} %"
        word = "pass" if kept else f"**miss** ({by})"
        sign = "≤" if most else "≥"
        self.lines.append(f"| {self.title} | {what} | {value:.3f} | {sign} {bar:.3f} ({text}) | {word} |")

    def size(self, most: float, text: str) -> None:
        self.line("size %", self.own["percent"], most, text, most=True)
        if of_file(self.own):
            self.line("size %, as .wz", of_file(self.own), most, text, most=True)

    def size_of(self, peer: str, points: float = 0) -> None:
        if peer in self.peers:
            self.size(self.peers[peer]["percent"] + points, f"{peer} + {points}" if points else peer)

    def size_of_smallest(self, points: float) -> None:
        if self.peers:
            peer = min(self.peers, key=lambda name: self.peers[name]["percent"])
            self.size_of(peer, points)

    def speed(self, what: str, times: float, peer: str) -> None:
        if peer in self.peers:
            bar = times * self.peers[peer][what]
            self.line(f"{what} GB/s", self.own[what], bar, f"{times:g} x {peer}")

    def of_memcpy(self, least: float) -> None:
        self.line("decode, of memcpy", self.own["of_memcpy"], least, "of memcpy")

    def decode_of_fastest(self, times: float, points: float) -> None:
        most = self.own["percent"] + points
        near = [name for name, row in self.peers.items() if row["percent"] <= most]
        if near:
            self.speed("decode", times, max(near, key=lambda name: self.peers[name]["decode"]))


def bf16(bars: Bars) -> None:
    bars.size_of("ZipNN", 0.1)
    bars.speed("decode", 3.5, "ZipNN")
    bars.of_memcpy(0.65)
    bars.speed("encode", 2, "ZipNN")


def fp32(bars: Bars) -> None:
    bars.size_of("ZipNN")
    bars.decode_of_fastest(1.8, points=2)
    bars.speed("encode", 3, "ZipNN")


def fp16(bars: Bars) -> None:
    bars.size(85.3, "fixed")
    bars.speed("decode", 2.5, "ZipNN")
    bars.speed("encode", 2, "ZipNN")


def narrow(bars: Bars) -> None:
    bars.size_of_smallest(0.1)
    bars.speed("decode", 1.5, "ZipNN")
    bars.speed("encode", 2, "ZipNN")


def fp8(bars: Bars) -> None:
    bars.size(83.1, "fixed")
    bars.speed("decode", 3, "zstd -1")
    bars.speed("encode", 2, "zstd -1")


def avx2(bars: Bars) -> None:
    bars.of_memcpy(0.40)


def scalar(bars: Bars) -> None:
    bars.speed("decode", 0.5, "ZipNN")
    bars.speed("encode", 0.5, "ZipNN")


def max_bf16(bars: Bars) -> None:
    bars.size({"minilm_bf16": 65.7, "gpt_c_bf16": 65.6, "synth_llama_bf16": 65.6}[bars.data], "fixed")
    bars.line("decode GB/s", bars.own["decode"], 4, "fixed")
    bars.speed("decode", 1.2, "ZipNN")
    bars.line("encode GB/s", bars.own["encode"], 0.7, "fixed")


def max_avx2(bars: Bars) -> None:
    bars.line("decode GB/s", bars.own["decode"], 2, "fixed")


def max_size(bars: Bars) -> None:
    most = {
        "minilm_fp32": 81.5,
        "minilm_fp16": 84.6,
        "minilm_bf16asfp32": 32.9,
        "minilm_fp16asfp32": 42.3,
        "gpt_c_adam_fp32": 81.3,
        "minilm_fp8e4m3": 82.0,
    }
    bars.size(most[bars.data], "fixed")


# Optimizer state has no bar but at level max.
BARS = {
    "minilm_bf16": bf16,
    "gpt_c_bf16": bf16,
    "synth_llama_bf16": bf16,
    "minilm_fp32": fp32,
    "minilm_fp16": fp16,
    "minilm_bf16asfp32": narrow,
    "minilm_fp16asfp32": narrow,
    "gpt_c_grad_fp32": narrow,
    "minilm_fp8e4m3": fp8,
    "gpt_c_adam_fp32": None,
}


def bars(rows: list[dict]) -> str:
    """What the project wants to reach, warm on one thread, and whether it does."""
    lines = []
    for data, check in BARS.items():
        levels = [("weightzip", check)] if check else []
        if check is bf16:
            levels += [("weightzip (avx2)", avx2), ("weightzip (scalar)", scalar)]
            levels += [("weightzip max", max_bf16), ("weightzip max (avx2)", max_avx2)]
        elif data != "gpt_c_grad_fp32":
            levels += [("weightzip max", max_size)]
        for codec, check_level in levels:
            bars = Bars(rows, data, codec)
            if bars.own:
                check_level(bars)
                lines += bars.lines
    if not lines:
        return ""
    head = "## Bars: warm, one thread\n\n| data | what | weightzip | bar | |\n|---|---|---:|---|---|\n"
    return head + "\n".join(lines) + "\n"
