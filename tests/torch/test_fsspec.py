"""weightzip.fsspec over the filesystems of fsspec: what reads a file reads the original of a `.wz`."""

import io
import pickle
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import h5py
import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import weightzip
import weightzip.fsspec
import weightzip.numpy
from fsspec.implementations.local import LocalFileSystem


@pytest.fixture(scope="module")
def content():
    """The originals by name."""
    rng = np.random.default_rng(0)
    tensors = {f"{i}.weight": rng.normal(size=(400, 500)).astype(np.float32) for i in range(4)}
    table, archive = io.BytesIO(), io.BytesIO()
    pd.DataFrame({"a": range(5000), "b": rng.random(5000)}).to_csv(table, index=False)
    with h5py.File(archive, "w") as file:
        file["values"] = tensors["0.weight"]
    numbers = io.BytesIO()
    np.save(numbers, tensors["1.weight"])
    return {
        "model.safetensors": safetensors.numpy.save(tensors),
        "table.csv": table.getvalue(),
        "archive.h5": archive.getvalue(),
        "numbers.npy": numbers.getvalue(),
        "empty": b"",
    }


class Server:
    """Files over HTTP, and how many bytes of them were sent."""

    def __init__(self, files, ranges=True):
        self.files, self.ranges, self.sent = files, ranges, 0
        handler = type("Handler", (_Handler,), {"owner": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        content = self.owner.files.get(self.path)
        if content is None:
            self.answer(404, b"", {})
        elif not self.owner.ranges:
            self.answer(200, content, {"Accept-Ranges": "none"})
        elif asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or len(content)) + 1, len(content))
            span = f"bytes {start}-{end - 1}/{len(content)}"
            self.answer(206, content[start:end], {"Accept-Ranges": "bytes", "Content-Range": span})
        else:
            self.answer(200, content, {"Accept-Ranges": "bytes"})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.owner.sent += len(body)
            self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture(params=["file", "memory", "http"])
def place(request, content, tmp_path):
    """The URL of a folder with a `.wz` of each original, and a file that isn't compressed."""
    stored = {f"{name}.wz": weightzip.write_bytes([data]) for name, data in content.items()}
    stored["config.json"] = b"{}"
    if request.param == "http":
        with Server({f"/{name}": data for name, data in stored.items()}) as server:
            yield server.url
        return
    folder = f"{request.param}://{tmp_path}"
    files, path = fsspec.url_to_fs(folder)
    for name, data in stored.items():
        files.pipe_file(f"{path}/{name}", data)
    yield folder
    files.rm(path, recursive=True)


def test_reads_the_originals(place, content):
    for name, data in content.items():
        for suffix in ("", ".wz"):
            with fsspec.open(f"wz::{place}/{name}{suffix}") as file:
                assert file.read() == data
    with fsspec.open(f"wz::{place}/config.json") as file:
        assert file.read() == b"{}"


def test_reads_at_random(place, content):
    data = content["model.safetensors"]
    rng = np.random.default_rng(1)
    with fsspec.open(f"wz::{place}/model.safetensors.wz") as file:
        assert (file.size, file.seek(0, 2)) == (len(data), len(data))
        assert file.read(1) == b""
        for start, length in rng.integers(0, len(data), (50, 2)) // [1, 3]:
            assert file.seek(start) == start
            assert file.read(length) == data[start : start + length]
            assert file.tell() == min(start + length, len(data))
        assert (file.seek(-5, 2), file.seek(2, 1)) == (len(data) - 5, len(data) - 3)
        assert file.read() == data[-3:]
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)
    assert file.closed


def test_what_reads_files_reads_these(place, content):
    url = f"wz::{place}"
    with fsspec.open(f"{url}/numbers.npy.wz") as file:
        assert np.load(file).tobytes() == np.load(io.BytesIO(content["numbers.npy"])).tobytes()
    with fsspec.open(f"{url}/archive.h5.wz") as file, h5py.File(file) as archive:
        assert np.array_equal(
            archive["values"][100:103], h5py.File(io.BytesIO(content["archive.h5"]))["values"][100:103]
        )
    with fsspec.open(f"{url}/model.safetensors.wz") as file:
        loaded, expected = (safetensors.numpy.load(data) for data in (file.read(), content["model.safetensors"]))
        assert all(np.array_equal(loaded[name], tensor) for name, tensor in expected.items())
    assert pd.read_csv(f"{url}/table.csv.wz").equals(pd.read_csv(io.BytesIO(content["table.csv"])))
    with fsspec.open(f"{url}/table.csv", "rt") as file:
        assert file.readline() == "a,b\n"


def test_says_names_and_sizes(place, content):
    files, path = fsspec.url_to_fs(f"wz::{place}/model.safetensors.wz")
    data = content["model.safetensors"]
    info = files.info(path)
    assert (info["name"], info["size"], info["type"]) == (path.removesuffix(".wz"), len(data), "file")
    with weightzip.open(weightzip.write_bytes([data])) as archive:
        assert info["blake3"] == archive.info.blake3
    assert files.exists(path) and files.isfile(path.removesuffix(".wz"))
    assert not files.exists(f"{path}.wz")
    assert files.cat_file(path, 7, 99) == data[7:99]
    assert files.cat_file(path, -9) == data[-9:]
    assert files.unstrip_protocol(path) == f"wz::{place}/model.safetensors.wz"
    with pytest.raises(FileNotFoundError):
        files.info(f"{path}.other")
    with pytest.raises(FileNotFoundError):
        files.open(f"{path}.other")


@pytest.mark.parametrize("place", ["file", "memory"], indirect=True)
def test_lists_originals(place, content):
    files, path = fsspec.url_to_fs(f"wz::{place}")
    expected = {f"{path}/{name}": len(data) for name, data in content.items()} | {f"{path}/config.json": 2}
    assert {entry["name"]: entry["size"] for entry in files.ls(path)} == expected
    assert files.ls(path, detail=False) == sorted(expected)
    assert files.find(path) == sorted(expected)
    assert files.glob(f"{path}/*.safetensors") == [f"{path}/model.safetensors"]
    assert files.du(path) == sum(expected.values())
    assert [entry["size"] for entry in files.ls(f"{path}/table.csv")] == [len(content["table.csv"])]
    assert files.isdir(path)
    with pytest.raises(FileNotFoundError):
        files.ls(f"{path}/nothing")


def test_a_plain_file_comes_first(tmp_path):
    (tmp_path / "a.wz").write_bytes(weightzip.write_bytes([b"older"]))
    (tmp_path / "a").write_bytes(b"newer")
    files = fsspec.filesystem("wz")
    assert files.cat(f"{tmp_path}/a") == b"newer"
    assert files.cat(f"{tmp_path}/a.wz") == b"older"
    assert files.ls(tmp_path.as_posix(), detail=False) == [f"{tmp_path}/a"]


def test_folders_may_end_in_wz(tmp_path):
    folder = tmp_path / "my-model.wz"
    folder.mkdir()
    (folder / "a.wz").write_bytes(weightzip.write_bytes([b"text"]))
    files = fsspec.filesystem("wz")
    assert files.isdir(str(folder))
    assert files.find(str(tmp_path)) == [f"{folder}/a"]
    assert files.modified(f"{folder}/a") == LocalFileSystem().modified(f"{folder}/a.wz")


def test_what_is_no_wz_is_listed_and_not_opened(tmp_path):
    (tmp_path / "a.wz").write_bytes(b"something else")
    files = fsspec.filesystem("wz")
    assert files.ls(str(tmp_path), detail=False) == [f"{tmp_path}/a"]
    assert [entry["name"] for entry in files.ls(str(tmp_path))] == [f"{tmp_path}/a.wz"]
    with pytest.raises(weightzip.InvalidArgumentError):
        files.open(f"{tmp_path}/a.wz")


def test_damage_is_an_error_where_it_is(tmp_path, content):
    stored = bytearray(weightzip.write_bytes([content["model.safetensors"]]))
    stored[len(stored) // 2] ^= 1
    (tmp_path / "a.wz").write_bytes(stored)
    with fsspec.open(f"wz::file://{tmp_path}/a.wz") as file:
        assert file.read(1000) == content["model.safetensors"][:1000]
        with pytest.raises(weightzip.CorruptionError):
            file.read()


def test_only_what_is_needed_comes_over_the_line(content):
    data = content["model.safetensors"]
    with Server({"/model.safetensors.wz": weightzip.write_bytes([data])}) as server:
        with fsspec.open(f"wz::{server.url}/model.safetensors.wz", http={"cache_type": "none"}) as file:
            file.seek(len(data) // 2)
            assert file.read(4000) == data[len(data) // 2 :][:4000]
        assert 0 < server.sent < len(data) / 4


def test_a_server_without_ranges_is_an_error(content):
    with Server({"/a.wz": weightzip.write_bytes([content["model.safetensors"]])}, ranges=False) as server:
        with pytest.raises((ValueError, OSError)):
            fsspec.open(f"wz::{server.url}/a.wz").open()
        with fsspec.open(f"wz::simplecache::{server.url}/a.wz") as file:
            assert file.read() == content["model.safetensors"]


def test_bases(tmp_path):
    old, new = ({"w": np.random.default_rng(0).random((300, 300)) + add} for add in (0, 1e-9))
    (tmp_path / "bases").mkdir()
    weightzip.numpy.save_file(old, tmp_path / "old.safetensors")
    weightzip.numpy.save_file(new, tmp_path / "new.safetensors.wz", base=tmp_path / "old.safetensors")
    url = f"wz::file://{tmp_path}/new.safetensors.wz"
    with fsspec.open(url) as file:  # which is beside it
        assert file.read() == safetensors.numpy.save(new)
    (tmp_path / "old.safetensors").rename(tmp_path / "bases/old.safetensors")
    with fsspec.open(url) as file, pytest.raises(weightzip.InvalidArgumentError, match="base model not found"):
        file.read()
    with fsspec.open(url, wz={"base": str(tmp_path / "bases")}) as file:
        assert file.read() == safetensors.numpy.save(new)
    with open(tmp_path / "new.safetensors.wz", "rb") as stored:
        fsspec.filesystem("memory").pipe_file("/new.wz", stored.read())
    with fsspec.open("wz::memory://new.wz", wz={"base": [str(tmp_path / "bases")]}) as file:
        assert file.read() == safetensors.numpy.save(new)


def test_nothing_is_written(tmp_path):
    files = fsspec.filesystem("wz")
    path = f"{tmp_path}/a"
    for write in [
        files.touch,
        files.mkdir,
        files.makedirs,
        lambda p: files.open(p, "wb"),
        lambda p: files.pipe(p, b"x"),
    ]:
        with pytest.raises(io.UnsupportedOperation, match="for reading"):
            write(path)
    (tmp_path / "a.wz").write_bytes(weightzip.write_bytes([b"text"]))
    for write in [files.rm, files.rmdir, lambda p: files.cp(p, f"{p}2"), lambda p: files.mv(p, f"{p}2")]:
        with pytest.raises(io.UnsupportedOperation, match="for reading"):
            write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.wz"]


@pytest.mark.parametrize("place", ["file", "memory"], indirect=True)
def test_compression_is_inferred(place, content):
    with fsspec.open(f"{place}/table.csv.wz", compression="infer") as file:
        assert file.read() == content["table.csv"]
        assert file.seek(5) == 5
    with fsspec.open(f"{place}/table.csv.wz", "rt", compression="wz") as file:
        assert file.readline() == "a,b\n"
    with pytest.raises(io.UnsupportedOperation, match="weightzip.write"):
        fsspec.open(f"{place}/new.wz", "wb", compression="infer").open()


def test_filesystems_and_unopened_files_are_pickled(tmp_path):
    (tmp_path / "a.wz").write_bytes(weightzip.write_bytes([b"text"]))
    with pickle.loads(pickle.dumps(fsspec.open(f"wz::file://{tmp_path}/a.wz"))) as file:
        assert file.read() == b"text"


def test_files_are_closed(tmp_path, monkeypatch):
    opened = []
    below = fsspec.filesystem("memory")
    below.pipe_file("/a.wz", weightzip.write_bytes([b"text"]))
    below.pipe_file("/b.wz", b"something else")
    monkeypatch.setattr(
        type(below), "open", lambda self, *a, **k: opened.append(io.BytesIO(below.cat(a[0]))) or opened[-1]
    )
    files = fsspec.filesystem("wz", fs=below, skip_instance_cache=True)
    with files.open("/a.wz") as file:
        assert not opened[0].closed
        assert file.read() == b"text"
    files.info("/a.wz")
    with pytest.raises(weightzip.InvalidArgumentError):
        files.open("/b.wz")
    assert len(opened) == 3 and all(file.closed for file in opened)


def test_is_found_by_its_entry_point():
    """That of python/pyproject.toml, as fsspec reads it of an installed package."""
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "python/pyproject.toml").read_text())["project"]
    ((name, value),) = project["entry-points"]["fsspec.specs"].items()
    assert fsspec.get_filesystem_class(name) is weightzip.fsspec.WeightzipFileSystem
    assert value == f"{weightzip.fsspec.WeightzipFileSystem.__module__}:{weightzip.fsspec.WeightzipFileSystem.__name__}"
