"""Reading a .wz from Python: wherever it is, whatever is asked of it."""

import io
import threading

import numpy as np
import pytest
import weightzip
from archives import joined, safetensors

SHAPES = {"large": (3000, 1024), "scalar": (), "none": (0, 4)} | {f"small.{i}": (8, 8) for i in range(300)}


@pytest.fixture(scope="module")
def parts():
    return safetensors(SHAPES)


@pytest.fixture(scope="module")
def wz(parts):
    return weightzip.write_bytes(parts)


@pytest.fixture(scope="module")
def tensors(parts):
    return {name: part.tobytes() for name, part in zip(SHAPES, parts[1:])}


class Dribble(io.RawIOBase):
    """Gives a little at a time, as raw files may, and views of memory instead of bytes."""

    def __init__(self, data: bytes):
        self.file = io.BytesIO(data)

    def seek(self, offset, whence=0):
        return self.file.seek(offset, whence)

    def read(self, size=-1):
        return memoryview(self.file.read(min(size, 70_001)))


@pytest.fixture(params=["path", "string", "bytes", "bytearray", "file", "BytesIO", "dribble"])
def archive(request, tmp_path, wz):
    path = tmp_path / "model.wz"
    path.write_bytes(wz)
    file = {
        "path": lambda: path,
        "string": lambda: str(path),
        "bytes": lambda: wz,
        "bytearray": lambda: bytearray(wz),
        "file": lambda: path.open("rb"),
        "BytesIO": lambda: io.BytesIO(wz),
        "dribble": lambda: Dribble(wz),
    }[request.param]()
    with weightzip.open(file) as archive:
        yield archive


def test_everything_is_read_from_anywhere(archive, parts, tensors):
    assert archive.read_many() == tensors
    for name in ("large", "scalar", "none", "small.0", "small.299"):
        assert archive.read(name) == tensors[name]
        out = bytearray(len(tensors[name]))
        archive.read_into(name, out)
        assert out == tensors[name]
    assert archive.rows("large", 7, 2003) == tensors["large"][7 * 2048 : 2003 * 2048]
    out = np.empty((3, 8), np.uint16)
    archive.rows_into("small.5", 2, 5, out)
    assert out.tobytes() == tensors["small.5"][32:80]
    whole = joined(parts)
    assert archive.original() == whole
    assert archive.original(5, 4_000_000) == whole[5:4_000_000]
    assert archive.original(len(whole)) == b""


def test_what_it_says_of_itself(archive, parts, tensors, wz):
    assert list(archive) == list(SHAPES) and len(archive) == len(SHAPES)
    assert "large" in archive and "larger" not in archive
    at = len(parts[0])
    for name, shape in SHAPES.items():
        nbytes = len(tensors[name])
        assert archive.tensors[name] == (name, "BF16", shape, nbytes, at)
        at += nbytes
    assert archive.tensors["large"].shape == (3000, 1024)
    info = archive.info
    assert (info.format, info.original_bytes, info.compressed_bytes) == ("safetensors", at, len(wz))
    assert info.tensors == len(SHAPES) and info.level == "default" and info.sha256 is None
    assert len(info.blake3) == 64 and info.writer.startswith("weightzip ")


def test_many_by_name_in_any_order_and_twice(archive, tensors):
    names = ["small.7", "large", "small.3", "none", "scalar"]
    seen = []
    got = archive.read_many(iter(names), progress=lambda *at: seen.append(at))
    total = sum(len(tensors[name]) for name in names)
    assert list(got) == names and all(got[name] == tensors[name] for name in names)
    assert seen[-1] == (total, total)
    outs = [(name, bytearray(len(tensors[name]))) for name in [*names, "small.7"]]
    archive.read_many_into(outs)
    assert all(out == tensors[name] for name, out in outs)
    outs = {name: np.empty(len(tensors[name]), np.uint8) for name in names}
    archive.read_many_into(outs)
    assert all(outs[name].tobytes() == tensors[name] for name in names)


def test_threads_read_at_once(archive, tensors):
    wrong = []

    def read(first):
        for i in range(first, 300, 10):
            wrong.extend(n for n in (f"small.{i}",) if archive.read(n) != tensors[n])
        wrong.extend(n for n, data in archive.read_many().items() if data != tensors[n])

    threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_memory_is_ones_own(archive, tensors):
    first, second = archive.read("large"), archive.read("large")
    first[:4] = b"\0\0\0\0"
    archive.close()
    assert second == tensors["large"] and first[4:] == second[4:]
    with pytest.raises(ValueError, match="closed"):
        archive.read("large")
    assert "closed" in repr(archive) and "closed" in archive._repr_html_()


def test_what_can_not_be_is_refused(archive, tensors):
    small = len(tensors["small.0"])
    for call, why in [
        (lambda: archive.read("x"), "no tensor of this name .*tensor 'x'"),
        (lambda: archive.read_many(["small.0", "x"]), "no tensor of this name"),
        (lambda: archive.read_into("small.0", bytearray(3)), "128 bytes don't fit .*small.0"),
        (lambda: archive.read_into("small.0", bytes(small)), "read-only"),
        (lambda: archive.rows("small.0", 3, 9), "rows 3:9 are not in 0:8"),
        (lambda: archive.rows("small.0", 5, 3), "rows 5:3"),
        (lambda: archive.rows("small.0", -1, 3), "counted from 0 on, not from -1"),
        (lambda: archive.original(0, -8), "counted from 0 on, not from -8"),
        (lambda: archive.rows("scalar", 0, 1), "single value"),
        (lambda: archive.original(5, 3), "bytes 5:3 are not in"),
        (lambda: archive.original(0, 1 << 40), "bytes 0:1099511627776 are not in"),
    ]:
        with pytest.raises(weightzip.InvalidArgumentError, match=why):
            call()
    shared = bytearray(2 * small)
    outs = [("small.0", memoryview(shared)[:small]), ("small.1", memoryview(shared)[small - 1 : -1])]
    with pytest.raises(ValueError, match="shares memory with another"):
        archive.read_many_into(outs)


def test_memory_that_is_read_is_not_written(wz):
    memory = bytearray(wz)
    archive = weightzip.open(memory)
    with pytest.raises(ValueError, match="shares memory with the input"):
        archive.read_into("small.0", memoryview(memory)[100:228])
    assert memory == wz


def test_damage_names_file_offset_and_tensor(tmp_path, wz):
    damaged = bytearray(wz)
    damaged[len(wz) // 2] ^= 1
    path = tmp_path / "damaged.wz"
    path.write_bytes(damaged)
    archive = weightzip.open(path)
    for read in (
        lambda: archive.read("large"),
        archive.read_many,
        lambda: archive.rows("large", 0, 3000),
        lambda: archive.read_into("large", bytearray(3000 * 2048)),
    ):
        with pytest.raises(weightzip.CorruptionError) as caught:
            read()
        error = caught.value
        assert (error.file, error.tensor) == (str(path), "large") and 0 < error.offset < len(wz)
        assert all(text in str(error) for text in (str(path), f"at byte {error.offset}", "'large'"))
    assert len(archive.read("small.299")) == 128


def test_files_that_are_none_or_cut(tmp_path, wz):
    with pytest.raises(FileNotFoundError) as caught:
        weightzip.open(tmp_path / "missing.wz")
    assert caught.value.filename == str(tmp_path / "missing.wz")
    with pytest.raises(weightzip.InvalidArgumentError, match="not a .wz"):
        weightzip.open(b"x" * 1000)
    with pytest.raises(weightzip.InsufficientDataError):
        weightzip.open(wz[:-5])
    with pytest.raises(weightzip.ReadWriteError) as caught:
        weightzip.open(tmp_path)
    assert isinstance(caught.value, OSError) and caught.value.file == str(tmp_path)
    with pytest.raises(TypeError):
        weightzip.open(5)


def test_a_file_that_fails_says_so_itself(wz):
    class Failing(io.BytesIO):
        failing = False

        def read(self, size=-1):
            if self.failing:
                raise ConnectionError("gone")
            return super().read(size)

    file = Failing(wz)
    archive = weightzip.open(file)
    file.failing = True
    with pytest.raises(ConnectionError, match="gone"):
        archive.read_many()
    file.failing = False
    assert len(archive.read("large")) == 3000 * 2048
    file.truncate(len(wz) // 2)
    with pytest.raises(weightzip.WeightzipError):
        weightzip.open(file)


def test_a_file_may_use_the_package_itself(wz, tensors):
    """While all of the pool waits for what it reads."""

    class Nested(io.BytesIO):
        def read(self, size=-1):
            assert weightzip.open(wz).read("large") == tensors["large"]
            return super().read(size)

    assert weightzip.open(Nested(wz)).read("large") == tensors["large"]


def test_a_file_that_reads_its_own_archive_is_refused(wz):
    class Own(io.BytesIO):
        archive = None

        def read(self, size=-1):
            if self.archive is not None:
                self.archive.original()
            return super().read(size)

    file = Own(weightzip.write_bytes([bytes(1000)]))
    archive = weightzip.open(file)
    file.archive = archive
    with pytest.raises(weightzip.ReadWriteError, match="reads the archive that is read from it"):
        archive.original()
    file.archive = None
    assert archive.original() == bytes(1000)


def test_tables_for_people(wz):
    lines = repr(weightzip.open(wz)).splitlines()
    assert lines[0].startswith("weightzip archive: safetensors, 303 tensors, 6.2")
    assert lines[1].split() == ["name", "dtype", "shape", "size", "stored"]
    assert lines[2].split()[:4] == ["large", "BF16", "[3000,", "1024]"] and lines[2].endswith(" %")
    assert len(lines) == 23 and lines[-1] == "… and 283 more"
    hostile = weightzip.write_bytes(safetensors({"<b>\x1b[31m": (2, 2)}))
    page = weightzip.open(hostile)._repr_html_()
    assert "<td>&lt;b&gt;\\u{1b}[31m</td>" in page and page.count("<tr>") == 2
    assert "\x1b" not in repr(weightzip.open(hostile))
