"""wz on the cache of huggingface_hub, as that makes it."""

import os
from pathlib import Path

import pytest
import safetensors.numpy
import torch
from hub_stub import REPO, Hub, commit
from huggingface_hub import hf_hub_download

FILES = ["config.json", "model-1.safetensors", "sub/model-2.safetensors", "model.safetensors.index.json"]


def weights(seed: int) -> bytes:
    torch.manual_seed(seed)
    return safetensors.numpy.save({"w": torch.randn(256, 512).numpy()})


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Two revisions of a repository in a cache, and what they are made of."""
    revisions = {}
    for seed, name in enumerate(["main", "v1"]):
        folder = revisions[name] = tmp_path / "origin" / name
        for file in FILES:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(weights(seed) if path.suffix == ".safetensors" else name.encode())
    cache = tmp_path / "hub"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Hub(revisions) as hub:
        for revision in revisions:
            for file in FILES:
                hf_hub_download(REPO, file, revision=revision, cache_dir=cache, endpoint=hub.endpoint)
    return revisions, cache / "models--someone--model"


def listed(folder: Path) -> list[tuple]:
    """All that is in a folder; links as links."""
    paths = sorted(folder.rglob("*"))
    return [(str(path), os.lstat(path).st_mtime_ns, path.is_symlink(), path.stat().st_size) for path in paths]


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("revision", ["main", "v1"])
def test_a_snapshot_becomes_a_plain_folder(wz, cached, tmp_path, revision):
    revisions, repository = cached
    before = listed(repository)
    assert any(is_link for _, _, is_link, _ in before)
    source = repository if revision == "main" else repository / "snapshots" / commit(revision)
    packed, back = tmp_path / "packed", tmp_path / "back"
    wz("compress", "--quiet", source, "-o", packed)
    suffixes = sorted(f"{name}.wz" if name.endswith(".safetensors") else name for name in FILES)
    assert sorted(contents(packed)) == suffixes
    assert not any(path.is_symlink() for path in packed.rglob("*"))
    wz("decompress", "--quiet", packed, "-o", back)
    assert contents(back) == contents(revisions[revision])
    assert listed(repository) == before
