"""Every block of the documentation that needs torch, or files that only torch and others write."""

import importlib
import inspect
import re

import pytest
import safetensors.torch
import tiny
import torch
import torch.distributed.checkpoint as dcp
from hub_stub import Hub
from pages import NUMPY_PAGES, ROOT, all_pages, blocks, make_models, run_page
from transformers import AutoModelForCausalLM
from weightzip.transformers import save_pretrained

INTEGRATIONS = ("torch", "distributed", "checkpoint-store", "lightning", "sync", "fsspec", "transformers", "diffusers", "vllm")
PAGES = [f"docs/integrations/{page}.md" for page in INTEGRATIONS] + ["docs/formats/torch.md", "docs/formats/other.md"]
HUB_PAGES = {"docs/integrations/huggingface-hub.md": "someone/model", "docs/share.md": "OWNER/NAME"}

TRAINING = """
import torch

model = torch.nn.Linear(256, 512)
optimizer = torch.optim.AdamW(model.parameters())
"""


@pytest.fixture
def work(tmp_path):
    """The folder that a page is run in, with a model that transformers loads and files of other libraries."""
    h5py = pytest.importorskip("h5py")
    folder = tmp_path / "work"
    make_models(folder)
    llama = tiny.llama()
    for path in (folder / "my-model").iterdir():
        path.unlink()
    llama.save_pretrained(folder / "my-model", max_shard_size="50KB")
    (folder / "my-model/README.md").write_text("# A model\n")

    optimizer = torch.optim.AdamW(llama.parameters())
    llama(torch.arange(8).reshape(1, 8)).logits.float().square().mean().backward()
    optimizer.step()
    state = {"model": llama.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, folder / "checkpoint.pt")
    dcp.save(state, checkpoint_id=folder / "step-1000")
    with h5py.File(folder / "model.h5", "w") as file:
        file["dense/kernel"] = llama.lm_head.weight.detach().float().numpy()
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_page(page, work, tmp_path):
    run_page(page, tmp_path)


def test_the_readme(work, tmp_path):
    run_page("README.md", tmp_path, before=TRAINING)


@pytest.mark.parametrize("page", HUB_PAGES)
def test_pages_with_a_hub(page, work, tmp_path):
    repository = tmp_path / "hub" / HUB_PAGES[page]
    if page != "docs/share.md":  # which uploads a model first
        save_pretrained(tiny.llama(), repository)
    with Hub({"main": repository, "v1": repository}, repository=HUB_PAGES[page]) as hub:
        run_page(page, tmp_path, environment=hub.environment(tmp_path / "cache"))


def test_every_page_is_run():
    pages = {page for page in all_pages() if any(block.is_run for block in blocks(page))}
    assert pages == NUMPY_PAGES | {"README.md", *PAGES, *HUB_PAGES}


def test_keywords_of_what_writes():
    """The README and docs/near-lossless.md say which call takes `level=` and `lossy=`."""
    page = (ROOT / "docs/near-lossless.md").read_text()
    kinds = re.search(r"`lossy=`.*? is a keyword of (.*?); it is none of (.*?), which", page, re.DOTALL)
    for has_lossy, names in zip((True, False), kinds.groups()):
        for name in re.findall(r"`([\w.]+)`", names):
            module, _, call = name.rpartition(".")
            keywords = inspect.signature(getattr(importlib.import_module(module), call)).parameters
            assert "level" in keywords, name
            assert ("lossy" in keywords) is has_lossy, name


def test_errors_of_stock_loaders(tmp_path):
    """docs/share.md quotes them."""
    quoted = (ROOT / "docs/share.md").read_text()
    folder = tmp_path / "my-model.wz"
    save_pretrained(tiny.llama(), folder)
    with pytest.raises(OSError) as nothing_there:
        AutoModelForCausalLM.from_pretrained(folder)
    said = str(nothing_there.value).replace(str(folder), folder.name)
    assert f"OSError: {said}\n" in quoted

    (folder / "model.safetensors.wz").rename(folder / "model.safetensors")
    with pytest.raises(Exception) as renamed:
        AutoModelForCausalLM.from_pretrained(folder)
    kind = type(renamed.value)
    assert f"{kind.__module__}.{kind.__name__}: {renamed.value}\n" in quoted
    with pytest.raises(kind, match=re.escape(str(renamed.value))):
        safetensors.torch.load_file(folder / "model.safetensors")
