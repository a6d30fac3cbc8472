"""The crates, the source distribution and the wheel: each has all that it takes to build it. `./test --all` runs this."""

import email
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

# weightzip-python is published as the wheel.
CRATES = {"weightzip-kernels": "kernels", "weightzip": "weightzip", "weightzip-cli": "cli"}
PAPERS = {"README.md", "LICENSE-APACHE", "LICENSE-MIT"}


def run(*command, cwd: Path = ROOT) -> None:
    subprocess.run([str(word) for word in command], cwd=cwd, check=True, timeout=1200)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks an archive of one folder, and returns that."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        return folder / tar.getnames()[0].partition("/")[0]


def check(workspace: Path, *crates: str) -> None:
    """Compiles crates of a workspace, short of their machine code."""
    named = [word for crate in crates for word in ("--package", crate)]
    run("cargo", "check", "--quiet", "--offline", *named, cwd=workspace)


@pytest.fixture(scope="module")
def crates(tmp_path_factory) -> dict[str, Path]:
    """The unpacked packages by name."""
    folder = tmp_path_factory.mktemp("crates")
    run(
        *("cargo", "package", "--quiet", "--workspace", "--exclude", "weightzip-python", "--locked", "--offline"),
        *("--no-verify", "--allow-dirty", "--target-dir", folder),
    )
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    return {name: unpack(folder / f"package/{name}-{version}.crate", folder) for name in CRATES}


@pytest.fixture
def source(tmp_path) -> Path:
    """The unpacked source distribution."""
    run(sys.executable, "-m", "maturin", "sdist", "--out", tmp_path, cwd=ROOT / "python")
    folder = unpack(*tmp_path.glob("*.tar.gz"), tmp_path)
    # With another compiler than elsewhere all dependencies would be compiled again.
    shutil.copy(ROOT / "rust-toolchain.toml", folder)
    return folder


@pytest.mark.parametrize("name", CRATES)
def test_a_crate_says_what_it_is(crates, name):
    manifest = tomllib.loads((crates[name] / "Cargo.toml").read_text())["package"]
    assert manifest.keys() >= {"description", "license", "readme", "keywords", "categories", "rust-version"}
    assert PAPERS <= {path.name for path in crates[name].iterdir()}


def test_the_source_distribution_builds(source):
    assert PAPERS <= {path.name for path in source.iterdir()}
    check(source, "weightzip-python")


def test_the_crates_build(crates, source):
    """In the place of the folders that they were made from: there they share compiled dependencies with other builds."""
    patches = ["[patch.crates-io]"]
    for name, folder in CRATES.items():
        (source / "crates" / folder).rename(source / f"{folder}-before")
        crates[name].rename(source / "crates" / folder)
        patches.append(f'{name} = {{ path = "crates/{folder}" }}')
    with (source / "Cargo.toml").open("a") as manifest:
        manifest.write("\n".join(["", *patches, ""]))
    check(source, *CRATES)


def test_the_wheel_says_what_it_is():
    (wheel,) = (ROOT / ".cache/wheels").glob("weightzip-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(metadata))
    assert said["Keywords"] and said["License-Expression"] == "Apache-2.0 OR MIT"
    assert set(said.get_all("License-File")) == PAPERS - {"README.md"}
    assert said["Description-Content-Type"].startswith("text/markdown")
    assert said.get_payload().startswith("# weightzip")
    assert "weightzip/py.typed" in names
