"""Rules for the sources of the package."""

import ast
import re
import tomllib
from pathlib import Path

import weightzip

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "python/weightzip").glob("*.py"))

# What `torch.device(...)` as a context, `set_default_device` and `set_default_dtype` change the meaning of.
CONSTRUCTORS = set(
    "arange as_tensor asarray empty empty_permuted empty_strided eye full linspace logspace normal ones rand randint "
    "randn randperm scalar_tensor tensor zeros".split()
)


def of_ambient(source: str) -> list[str]:
    """The calls that make a tensor of the default device or dtype."""
    found = []
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            is_torch = isinstance(call.func.value, ast.Name) and call.func.value.id == "torch"
            given = {keyword.arg for keyword in call.keywords}
            if is_torch and call.func.attr in CONSTRUCTORS and not {"device", "dtype"} <= given:
                found.append(f"line {call.lineno}: torch.{call.func.attr}")
    return found


def test_new_tensors_name_their_device_and_dtype():
    assert of_ambient("a = torch.empty(3, dtype=x)") == ["line 1: torch.empty"]
    assert of_ambient("a = torch.empty(3, dtype=x, device='cpu')") == []
    assert len(SOURCES) > 20
    assert {path.name: calls for path in SOURCES if (calls := of_ambient(path.read_text()))} == {}


def test_the_lowest_versions_are_those_that_are_declared():
    project = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {dependency.replace(">=", "==") for name in ("numpy", "fsspec") for dependency in extras[name]}
    tested = set((ROOT / "tests/requirements-lowest.txt").read_text().splitlines())
    assert declared <= tested


def test_the_package_has_the_version_of_the_crates():
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert weightzip.__version__ == version[1]
