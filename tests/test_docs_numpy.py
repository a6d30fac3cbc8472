"""The page about NumPy; the others need torch and are in torch/test_docs.py."""

from pages import run_page


def test_numpy(tmp_path):
    run_page("integrations/numpy.md", tmp_path)
