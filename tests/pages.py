"""Runs the blocks of a page of the documentation as its reader would: in order, in one folder."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("WZ", ROOT / "target/release/wz")).resolve()
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Shown, not run: cargo's doctests run the README's Rust, and rules.toml is written before its page is run.
SHOWN = {"text", "rust", "toml"}
# Blocks that no test runs, by their first line, and why.
NOT_RUN = {
    ("README.md", "cargo run --release -- demo"): "builds for minutes, and runs these tests",
    ("README.md", "cargo install --path crates/cli"): "builds for minutes",
    ("docs/integrations/vllm.md", "class Updates:"): "a part of a worker of vLLM: tests/with_vllm.py",
}
# The pages that need no more than NumPy; the others are run by torch/test_docs.py.
NUMPY_PAGES = {
    *(f"docs/{page}.md" for page in ("deltas", "near-lossless", "repositories")),
    *(f"docs/formats/{page}.md" for page in ("msgpack", "numpy", "onnx", "other")),
    "docs/integrations/numpy.md",
}
TIME_LIMIT = 300

# What takes the place of programs that talk to other machines, which are folders beside the one that a page is run in.
STAND_INS = {
    "ssh": 'mkdir -p ../remote && cd ../remote && exec sh -c "$2"',
    "hf": """
        repository=../hub/$2
        case $1 in
            upload) mkdir -p "$repository" && cp -R "$3/." "$repository" ;;
            download) cp -R "$repository/." "$4" ;;
        esac""",
    "vllm": 'test "$1 $3 $4" = "serve --load-format weightzip" && ls "$2"/*.safetensors.wz "$2"/config.json',
}

EVAL = """
import sys
import numpy as np
from safetensors.numpy import load_file

model, original = load_file(sys.argv[1]), load_file("model.safetensors")
print(1 - np.mean([np.abs(model[name] - original[name]).mean() for name in original]))
"""


class Block(NamedTuple):
    """A block of code of a page."""

    page: str
    language: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """Its entry in NOT_RUN, if it has one."""
        return self.page, self.text.splitlines()[0].partition("  #")[0].rstrip()

    @property
    def is_run(self) -> bool:
        return self.language not in SHOWN and self.key not in NOT_RUN

    def as_python(self) -> str:
        """A program of Python that does what the block does."""
        if self.language == "python":
            return self.text
        shell = ["bash", "-e", "-o", "pipefail", "-c", self.text]
        return f"import subprocess\nsubprocess.run({shell!r}, check=True)\n"


def all_pages() -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page.relative_to(ROOT).as_posix() for page in pages]


def blocks(page: str) -> list[Block]:
    return [Block(page, *found) for found in FENCE.findall((ROOT / page).read_text())]


def run_page(
    page: str,
    folder: Path,
    languages: set[str] | None = None,
    before: str = "",
    environment: dict[str, str] | None = None,
) -> Path:
    """Runs the blocks of a page (of some languages) as one program in a new folder with models, and returns that.

    `before` is Python that the page takes for granted, such as a model that is trained.
    """
    chosen = [block for block in blocks(page) if block.is_run and (not languages or block.language in languages)]
    assert chosen, f"{page} has no block to run"
    work = folder / "work"
    if not work.exists():
        make_models(work)
    (folder / "home").mkdir()
    cache_a_model(folder / "home/.cache/huggingface/hub")
    (folder / "page.py").write_text("\n".join([before, *(block.as_python() for block in chosen)]))
    path = [str(programs(folder / "bin")), str(Path(sys.executable).parent), os.environ["PATH"]]
    done = subprocess.run(
        [sys.executable, folder / "page.py"],
        cwd=work,
        env=os.environ | {"PATH": os.pathsep.join(path), "HOME": str(folder / "home")} | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"
    return work


def programs(folder: Path) -> Path:
    """A folder with wz and the stand-ins."""
    folder.mkdir()
    (folder / "wz").symlink_to(PROGRAM)
    for name, script in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """A small model; each seed is a step of its training."""
    numbers, changes = np.random.default_rng(0), np.random.default_rng(seed)
    shapes = {
        "lm_head.weight": (256, 64),
        "model.layers.0.mlp.weight": (256, 64),
        "model.layers.1.mlp.weight": (256, 64),
        "model.norm.weight": (64,),
    }
    return {
        name: (numbers.normal(0, 0.02, shape) + changes.normal(0, 1e-5, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def make_models(folder: Path) -> None:
    """Everything that the pages name."""
    folder.mkdir()
    steps = ("model", "base", "newer", "fine-tune", "step-00100", "step-00200", "step-100", "step-200")
    for seed, name in enumerate(steps):
        safetensors.numpy.save_file(weights(seed), folder / f"{name}.safetensors")
    make_repository(folder / "my-model", 0)
    make_repository(folder / "fine-tune", 3)
    (folder / "eval.py").write_text(EVAL)
    (rules,) = (block.text for block in blocks("docs/near-lossless.md") if block.language == "toml")
    (folder / "rules.toml").write_text(rules)

    numbers = weights()["lm_head.weight"]
    for name in ("dump.bin", "weights.bin", "model.h5"):
        numbers.tofile(folder / name)
    np.save(folder / "embeddings.npy", numbers)
    np.savez(folder / "weights.npz", first=numbers, second=numbers.T)
    shutil.copy(ROOT / "fuzz/seeds/scan_onnx/model.onnx", folder)
    shutil.copy(ROOT / "fuzz/seeds/scan_msgpack/params.msgpack", folder / "flax_model.msgpack")


def make_repository(folder: Path, seed: int) -> None:
    """A model in two shards, as a folder."""
    folder.mkdir(parents=True)
    tensors = weights(seed)
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for shard in set(places.values()):
        chosen = {name: tensor for name, tensor in tensors.items() if places[name] == shard}
        safetensors.numpy.save_file(chosen, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# A model\n")


def cache_a_model(hub: Path) -> None:
    """A repository as huggingface_hub keeps it: snapshots of links to blobs."""
    repository = hub / "models--OWNER--NAME"
    make_repository(repository / "blobs", 0)
    snapshot = repository / "snapshots/c0ffee"
    snapshot.mkdir(parents=True)
    for blob in (repository / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(f"../../blobs/{blob.name}")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("c0ffee")
