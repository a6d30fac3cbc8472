"""The table of docs/deltas.md: models coded against others, beside what other tools make of it.

    cargo build --release
    python bench/deltas.py FOLDER [--wz target/release/wz] [--only gpt,family,lora,rl]

FOLDER is what bench/corpus.py builds, of which --only names parts. Every .wz is verified, with its base, against a SHA-256 that is
taken from the original. Exits with 1 if a size is above its bound, or above the size alone. Needs
numpy, zstandard and zipnn (bench/requirements.txt). Linux only.
"""

import argparse
import tempfile
from pathlib import Path

import numpy
import zstandard
from evaluate import ROOT, run, sha256
from zipnn import ZipNN

# Base, new model, what it shows.
PAIRS = [
    ("gpt_b_bf16", "gpt_c_bf16", "checkpoint, 20 steps on"),
    ("gpt_a_bf16", "gpt_c_bf16", "checkpoint, 40 steps on"),
    ("gpt_b_fp32", "gpt_c_fp32", "checkpoint, 20 steps on"),
    ("gpt_a_fp32", "gpt_c_fp32", "checkpoint, 40 steps on"),
    ("gpt_b_adam_fp32", "gpt_c_adam_fp32", "Adam moments, 20 steps on"),
    ("gpt_b_grad_fp32", "gpt_c_grad_fp32", "gradients, 20 steps on"),
    *((f"family_{s}_2_fp32", f"family_{s}_3_fp32", "previous epoch") for s in ("lib", "py", "txt")),
    *(("family_base_fp32", f"family_{s}_3_fp32", "the base") for s in ("lib", "py", "txt")),
    ("family_py_3_fp32", "family_lib_3_fp32", "sibling"),
    ("family_txt_3_fp32", "family_lib_3_fp32", "sibling"),
    ("lora_base_bf16", "lora_merged_bf16", "LoRA, merged"),
    ("rl_0_bf16", "rl_1_bf16", "RL step"),
    ("rl_1_bf16", "rl_2_bf16", "RL step"),
    ("rl_0_bf16", "rl_10_bf16", "RL, ten steps"),
]

# Largest sizes in percent, set before the work began: level default, level max.
BOUNDS = {
    ("gpt_b_bf16", "gpt_c_bf16"): (43.0, 42.0),
    ("gpt_b_fp32", "gpt_c_fp32"): (None, 71.5),
}


def wz_size(wz: Path, new: Path, level: str, folder: Path, base: Path | None = None) -> int:
    packed = folder / f"{new.name}.wz"
    given = ["--base", base] if base else []
    run(wz, "compress", "--quiet", "--force", "--level", level, "-o", packed, new, *given)
    run(wz, "verify", "--quiet", "--sha256", sha256(new), packed, *given)
    return packed.stat().st_size


def xor_zstd(base: bytes, new: bytes, width: int) -> int:
    """The seed paper's delta: byte-wise XOR, byte groups, zstd at its default level."""
    length = min(len(base), len(new)) // width * width
    old, now = (numpy.frombuffer(data, numpy.uint8, length) for data in (base, new))
    grouped = (old ^ now).reshape(-1, width).T.tobytes()
    return len(zstandard.compress(grouped, 3)) + len(new) - length


def patch_from(base: bytes, new: bytes) -> int:
    """What `zstd --patch-from` does: the base as a raw dictionary, and a window for both."""
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3, window_log=28, enable_ldm=True, source_size=len(new), dict_size=len(base)
    )
    compressor = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
    return len(compressor.compress(new))


def zipnn_delta(base: bytes, new: bytes, dtype: str) -> int:
    """Beside the size of the data: ZipNN takes inputs of one length, and XORs them in place."""
    zipnn = ZipNN(bytearray_dtype=dtype, delta_compressed_type="byte")
    return len(zipnn.compress(bytearray(new), delta_second_data=bytearray(base)))


def row(wz: Path, folder: Path, pair: tuple[str, str, str], scratch: Path) -> bool:
    """Prints a pair's sizes; returns whether what was wanted of them holds."""
    base, new = (folder / f"{name}.safetensors" for name in pair[:2])
    old, now = base.read_bytes(), new.read_bytes()
    width, dtype = (2, "bfloat16") if "bf16" in new.name else (4, "float32")
    alone = {level: wz_size(wz, new, level, scratch) for level in ("default", "max")}
    delta = {level: wz_size(wz, new, level, scratch, base) for level in ("default", "max")}
    same_length = len(old) == len(now)
    others = [
        xor_zstd(old, now, width),
        patch_from(old, now),
        zipnn_delta(old, now, dtype) if same_length else None,
    ]
    sizes = [*alone.values(), *delta.values(), *others]
    cells = ["" if size is None else f"{size / len(now) * 100:.2f} %" for size in sizes]
    print(f"| {pair[1]} | {pair[0]} | {pair[2]} | {' | '.join(cells)} |", flush=True)
    # A list of bases is all that a delta may cost.
    kept = all(delta[level] <= alone[level] * 1.001 for level in alone)
    for level, bound in zip(delta, BOUNDS.get(pair[:2], (None, None))):
        kept &= bound is None or delta[level] / len(now) * 100 <= bound
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wz", type=Path, default=ROOT / "target/release/wz")
    parser.add_argument("--only", help="parts of the corpus, with commas between")
    args = parser.parse_args()
    parts = [pair[1].split("_")[0] for pair in PAIRS]
    wanted = args.only.split(",") if args.only else parts
    if unknown := set(wanted) - set(parts):
        parser.error(f"no pairs of {', '.join(sorted(unknown))}")
    pairs = [pair for pair, part in zip(PAIRS, parts) if part in wanted]
    print(
        "| model | base | which is | alone | alone, max | delta | delta, max "
        "| XOR, zstd | zstd --patch-from | ZipNN delta |"
    )
    print("|---|---|---|" + "---:|" * 7)
    with tempfile.TemporaryDirectory() as scratch:
        kept = [row(args.wz, args.folder, pair, Path(scratch)) for pair in pairs]
    raise SystemExit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
