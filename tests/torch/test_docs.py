"""Every example of the documentation that needs torch."""

import re

import pytest
import safetensors.torch
import tiny
from hub_stub import Hub
from pages import DOCS, run_page
from transformers import AutoModelForCausalLM
from weightzip.transformers import save_pretrained

PAGES = ["torch", "distributed", "checkpoint-store", "lightning", "sync", "fsspec", "transformers", "diffusers", "vllm"]


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tmp_path):
    run_page(f"integrations/{page}.md", tmp_path)


def test_hub(tmp_path):
    save_pretrained(tiny.llama(), tmp_path / "model")
    (tmp_path / "work").mkdir()
    with Hub({"main": tmp_path / "model", "v1": tmp_path / "model"}) as hub:
        environment = hub.environment(tmp_path / "home")
        run_page("integrations/huggingface-hub.md", tmp_path / "work", environment)


def test_every_page_is_run():
    assert {page.stem for page in (DOCS / "integrations").glob("*.md")} == {*PAGES, "numpy", "huggingface-hub"}


def test_errors_of_stock_loaders(tmp_path):
    """docs/share.md quotes them."""
    quoted = (DOCS / "share.md").read_text()
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
