"""Writing a .wz from Python: the same file as wz writes, from pieces, to anything."""

import io
import os
import stat

import pytest
import weightzip
from archives import joined, safetensors

SHAPES = {"a": (1000, 512), "b": (0,)} | {f"c{i}": (16,) for i in range(100)}


@pytest.fixture(scope="module")
def parts():
    return safetensors(SHAPES)


def test_the_same_as_the_command_line_writes(tmp_path, parts, wz):
    original, ours, theirs = (tmp_path / name for name in ("m.safetensors", "ours.wz", "theirs.wz"))
    original.write_bytes(joined(parts))
    summary = weightzip.write(parts, ours)
    wz("compress", "-o", theirs, original)
    content = ours.read_bytes()
    assert content == theirs.read_bytes()
    assert wz("decompress", "-o", "-", ours) == joined(parts)
    with weightzip.open(ours) as archive:
        assert summary.blake3 == archive.info.blake3
    assert (summary.format, summary.tensors) == ("safetensors", len(SHAPES))
    assert (summary.original_bytes, summary.compressed_bytes) == (len(joined(parts)), len(content))
    assert len(list(tmp_path.iterdir())) == 3


def test_any_pieces_of_any_kind(tmp_path, parts):
    whole = joined(parts)
    expected = weightzip.write_bytes(parts)
    pieces = (whole[at : at + 4099] for at in range(0, len(whole), 4099))
    assert weightzip.write_bytes(pieces) == expected
    assert weightzip.write_bytes([bytearray(whole), b""]) == expected
    file = io.BytesIO()
    weightzip.write(tuple(parts), file)
    assert file.getvalue() == expected
    with (tmp_path / "raw").open("wb", buffering=0) as raw:
        weightzip.write(iter(parts), raw)
    assert (tmp_path / "raw").read_bytes() == expected


def test_nothing_is_a_file_too():
    wz = weightzip.write_bytes([])
    assert weightzip.open(wz).original() == b"" and weightzip.write_bytes([b""]) == wz


def test_parts_are_not_held_longer_than_needed():
    """A generator gives gigabytes through megabytes."""
    held, most = 0, 0

    class Part(bytearray):
        def __del__(self):
            nonlocal held
            held -= 1

    def parts():
        nonlocal held, most
        for _ in range(100):
            held += 1
            most = max(most, held)
            yield Part(2 << 20)

    weightzip.write_bytes(parts())
    assert most <= 20


def test_what_was_there_is_replaced_when_all_is_written(tmp_path, parts):
    target, link = tmp_path / "model.wz", tmp_path / "link.wz"
    target.write_bytes(b"before")
    link.symlink_to(target)

    def fails():
        yield parts[0]
        assert target.read_bytes() == b"before"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        weightzip.write(fails(), target)
    assert target.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 2
    weightzip.write(parts, link)
    assert link.is_symlink() and target.read_bytes() == weightzip.write_bytes(parts)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    target.chmod(0o600)
    weightzip.write(parts, link)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_link_to_nothing_leads_to_what_is_written(tmp_path, parts):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.wz").symlink_to("folder/second.wz")
    (tmp_path / "folder/second.wz").symlink_to("model.wz")
    weightzip.write(parts, tmp_path / "link.wz")
    assert (tmp_path / "link.wz").is_symlink() and (tmp_path / "folder/second.wz").is_symlink()
    assert (tmp_path / "folder/model.wz").read_bytes() == weightzip.write_bytes(parts)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="no files without names")
def test_a_file_that_is_written_has_no_name_yet(tmp_path, parts):
    names = []
    weightzip.write((names.append(os.listdir(tmp_path)) or part for part in parts), tmp_path / "x.wz")
    assert names == [[]] * len(parts)


def test_what_can_not_be_written(tmp_path, parts):
    with pytest.raises(FileNotFoundError) as caught:
        weightzip.write(parts, tmp_path / "no folder" / "x.wz")
    assert caught.value.filename == str(tmp_path / "no folder" / "x.wz")
    with pytest.raises(IsADirectoryError):
        weightzip.write(parts, tmp_path)
    with pytest.raises(TypeError):
        weightzip.write([b"ab", "text"], tmp_path / "x.wz")
    with pytest.raises(ValueError, match="contiguous"):
        weightzip.write([parts[1][:, ::2]], tmp_path / "x.wz")
    assert not list(tmp_path.iterdir())

    class Raw(io.RawIOBase):
        answer = None

        def write(self, data):
            return self.answer

    raw = Raw()
    with pytest.raises(BlockingIOError, match="non-blocking"):
        weightzip.write(parts, raw)
    for raw.answer in 0, -1, 1 << 40, "all":
        with pytest.raises(OSError, match="write returned .* for .* bytes"):
            weightzip.write(parts, raw)

    class Full(io.RawIOBase):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space") as caught:
        weightzip.write(parts, Full())
    assert caught.value.errno == 28


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_a_full_disk_is_an_error_with_its_number(parts):
    with pytest.raises(weightzip.ReadWriteError) as caught:
        weightzip.write(parts, "/dev/full")
    assert (caught.value.errno, caught.value.file) == (28, "/dev/full")


def test_progress(parts):
    whole, seen = joined(parts) * 20, []
    weightzip.write_bytes([whole], progress=lambda *at: seen.append(at))
    assert seen[-1] == (len(whole), len(whole)) and seen == sorted(seen)
    assert {total for _, total in seen} == {len(whole)}


def test_numbers_without_a_format(wz, tmp_path):
    data = bytes(range(256)) * 3000 + b"\1"
    compressed = weightzip.write_bytes([data[:5], data[5:]], dtype="bf16")
    file = tmp_path / "dump"
    file.write_bytes(data)
    assert compressed == wz("compress", "--dtype", "BF16", "-o", "-", file)
    assert weightzip.open(compressed).original() == data
    assert compressed != weightzip.write_bytes([data])
    summary = weightzip.write([data], tmp_path / "dump.wz", dtype="f32")
    assert summary.original_bytes == len(data)


def test_a_dtype_is_for_numbers_without_a_format(parts, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match="safetensors, which says what its numbers are"):
        weightzip.write(parts, tmp_path / "a.wz", dtype="bf16")
    with pytest.raises(weightzip.InvalidArgumentError, match="no dtype 'half'|no dtype \"half\""):
        weightzip.write_bytes(parts, dtype="half")
    assert not list(tmp_path.iterdir())
