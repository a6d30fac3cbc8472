"""Models from the hub: a stub of it, asked by huggingface_hub itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from hub_stub import REPO, Hub, commit
from huggingface_hub.errors import LocalEntryNotFoundError
from weightzip._repository import Repository

LOAD = """
import json, sys
import tiny
from transformers import AutoModelForCausalLM
from weightzip.transformers import from_pretrained
place, arguments = json.loads(sys.argv[1])
model = from_pretrained(AutoModelForCausalLM, place, **arguments)
print(tiny.digest(model), model.generation_config.max_new_tokens)
"""


@pytest.fixture(scope="module")
def models(wz, tmp_path_factory):
    """Compressed repositories: main is sharded, v1 is another model in one file."""
    folder = tmp_path_factory.mktemp("models")
    made = {"main": tiny.llama(), "v1": tiny.llama(tied=True)}
    for name, model in made.items():
        model.generation_config.max_new_tokens = 7
        size = {"max_shard_size": "60KB"} if name == "main" else {}
        model.save_pretrained(folder / name, **size)
        wz("compress", "--quiet", folder / name, "-o", folder / f"{name}.wz")
    digests = {name: tiny.digest(model) for name, model in made.items()}
    return {name: folder / f"{name}.wz" for name in made}, digests


@pytest.fixture
def load(tmp_path):
    """Loads in a process of its own: huggingface_hub reads its settings when it is imported."""

    def run(hub: Hub, place: str = REPO, *, fails: bool = False, **arguments) -> str:
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | hub.environment(tmp_path / "home") | {"PYTHONPATH": path}
        command = [sys.executable, "-c", LOAD, json.dumps([place, arguments])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


def test_downloads_what_is_needed(models, load, tmp_path):
    folders, digests = models
    (folders["main"] / "README.md").write_text("a card")
    with Hub(folders) as hub:
        assert load(hub).split() == [digests["main"], "7"]
        shards = sorted(path.name for path in folders["main"].glob("*.wz"))
        assert len(shards) > 1
        settings = ["config.json", "generation_config.json", "model.safetensors.index.json"]
        assert hub.downloaded() == sorted(settings + shards)
        assert (tmp_path / "home/hub/models--someone--model/snapshots" / commit("main")).is_dir()


def test_cache_serves_without_network(models, load, tmp_path):
    folders, digests = models
    cache = {"cache_dir": str(tmp_path / "cache")}
    with Hub(folders) as hub:
        load(hub, **cache)
        asked = len(hub.requests)
        assert load(hub, **cache, local_files_only=True).split()[0] == digests["main"]
        assert len(hub.requests) == asked
        before = hub.downloaded()
        load(hub, **cache)
        assert hub.downloaded() == before
    assert load(hub, **cache, local_files_only=True).split()[0] == digests["main"]
    assert load(hub, **cache).split()[0] == digests["main"]


def test_revision(models, load):
    folders, digests = models
    with Hub(folders) as hub:
        assert load(hub, revision="v1").split()[0] == digests["v1"]
        assert load(hub, revision=commit("main")).split()[0] == digests["main"]
        assert "RevisionNotFound" in load(hub, revision="v2", fails=True)


def test_token(models, load):
    folders, digests = models
    with Hub(folders, token="hf_secret") as hub:
        assert "GatedRepoError" in load(hub, fails=True)
        assert load(hub, token="hf_secret").split()[0] == digests["main"]


def test_subfolder_and_both_files(models, load, tmp_path):
    folders, digests = models
    outer = tmp_path / "outer"
    (outer / "inner").mkdir(parents=True)
    for path in folders["v1"].iterdir():
        (outer / "inner" / path.name).write_bytes(path.read_bytes())
    plain = folders["v1"].with_name("v1") / "model.safetensors"
    with Hub({"main": outer}) as hub:
        assert load(hub, subfolder="inner").split()[0] == digests["v1"]
        assert "model.safetensors.wz" in hub.downloaded()
    (outer / "inner" / "model.safetensors").write_bytes(plain.read_bytes())
    with Hub({"main": outer}) as hub:
        elsewhere = str(tmp_path / "elsewhere")
        load(hub, subfolder="inner", cache_dir=elsewhere)
        assert "model.safetensors.wz" not in hub.downloaded()


def test_nothing_there(models, load, tmp_path):
    folders, _ = models
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((folders["main"] / "config.json").read_bytes())
    with Hub({"main": bare}) as hub:
        told = load(hub, fails=True)
        assert (
            f"{REPO}: found no weights; looked for model.safetensors, model.safetensors.wz" in told
        )
        assert "RepositoryNotFoundError" in load(hub, "someone/else", fails=True)
        told = load(hub, local_files_only=True, fails=True)
        assert "in the cache; without local_files_only they are downloaded" in told


def test_a_missing_folder_is_no_unreachable_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="^my-model: no such folder here, and no repository"):
        Repository.open("my-model", local_files_only=True, cache_dir=tmp_path)


def test_a_download_that_breaks_is_no_missing_file(monkeypatch):
    def fail(*_, **__):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(LocalEntryNotFoundError, match="no network"):
        Repository(REPO, revision=commit("main")).weights("model.safetensors")
    with pytest.raises(FileNotFoundError, match="in the cache"):
        Repository(REPO, revision=commit("main"), local_files_only=True).weights(
            "model.safetensors"
        )
