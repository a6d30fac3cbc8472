"""The pages that need no more than NumPy; the others need torch and are in torch/test_docs.py."""

import pytest
from pages import run_page


@pytest.mark.parametrize("page", ["integrations/numpy.md", "near-lossless.md"])
def test_page(page, tmp_path):
    run_page(page, tmp_path)
