"""Every block of the README and the documentation runs as it is written; those that need torch in torch/test_docs.py."""

import re

import pytest
from pages import NOT_RUN, NUMPY_PAGES, ROOT, SHOWN, all_pages, blocks, run_page

LANGUAGES = SHOWN | {"sh", "python"}


@pytest.mark.parametrize("page", sorted(NUMPY_PAGES))
def test_page(page, tmp_path):
    run_page(page, tmp_path)


def test_the_readmes_commands(tmp_path):
    work = run_page("README.md", tmp_path, {"sh"})
    model = (work / "model.safetensors").read_bytes()
    assert (work / "copy.safetensors").read_bytes() == model
    assert (tmp_path / "remote/model.safetensors").read_bytes() == model


@pytest.mark.parametrize("page", all_pages())
def test_no_page_installs_what_is_not_published(page):
    installed = re.findall(r"(?:pip|cargo) install ([^`\n]*)", (ROOT / page).read_text())
    assert not [what for what in installed if what.strip("\"").startswith("weightzip")]


def test_no_block_is_forgotten():
    found = [block for page in all_pages() for block in blocks(page)]
    assert {block.language for block in found} <= LANGUAGES, "a block says what it is: sh, python, text"
    assert {block.page for block in found if block.language == "rust"} <= {"README.md"}, "the only page with doctests"
    assert NOT_RUN.keys() <= {block.key for block in found}, "remove what is no more"
