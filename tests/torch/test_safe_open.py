"""safe_open for PyTorch: the same answers as safetensors gives, from a compressed file."""

import threading

import pytest
import safetensors
import safetensors.torch as plain
import torch
import weightzip
import weightzip.torch as wz

TENSORS = {
    "t": torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5),
    "v": torch.arange(10, dtype=torch.bfloat16),
    "s": torch.tensor(5.0),
    "e": torch.empty(0, 3),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """One and the same file open in both ways: ours, theirs."""
    path = tmp_path_factory.mktemp("pair") / "a.safetensors"
    plain.save_file(TENSORS, path, {"format": "pt"})
    wz.save_file(TENSORS, f"{path}.wz", {"format": "pt"})
    with weightzip.safe_open(f"{path}.wz", framework="pt") as ours, safetensors.safe_open(path, "pt") as theirs:
        yield ours, theirs


def test_answers_are_the_same(pair):
    ours, theirs = pair
    for ask in ("keys", "offset_keys", "metadata"):
        assert getattr(ours, ask)() == getattr(theirs, ask)()
    for name, tensor in TENSORS.items():
        for file in pair:
            part = file.get_slice(name)
            assert torch.equal(file.get_tensor(name), tensor)
            assert torch.equal(part[...], tensor)
            assert part.get_shape() == list(tensor.shape)
        assert ours.get_slice(name).get_dtype() == theirs.get_slice(name).get_dtype()
    assert list(ours.get_tensors()) == list(theirs.get_tensors())


def outcome(index_it) -> torch.Tensor | str:
    try:
        return index_it()
    except (IndexError, TypeError, ValueError) as error:
        return type(error).__name__


INDICES = [
    *(..., (), 0, -1, 2, -3, None, True, torch.tensor(1), slice(None), slice(0, 1), slice(-1, None)),
    *(slice(None, None, 2), slice(None, None, -1), slice(1, 0), slice(0, 100), slice(5, 7), slice(-100, 1)),
    *((..., 0), (0, ...), (0, ..., 0), (..., slice(1, 3)), (slice(None), 1), (slice(None), slice(None), slice(1, 3))),
    *((0, 1, 2, 3), (0, 1, 2, 3, 0), [0, 1], [1, 0], [0, 0], ([0], [1]), (slice(None), [0, 2]), ([True, False],)),
    *((None, 0), (slice(None), None), torch.tensor([1]), (slice(None, None, 2), slice(None, None, 2)), (..., ...)),
    *(slice(0, 0), [], (slice(None),) * 5, "x", 1.0, slice(0, 1, 0), (slice(None), -1), (0, [0, 2]), ([0, 1], 0)),
    *([5], (0, ..., 1, 2, 3), (slice(None), slice(None, None, -1)), (slice(1), slice(2), slice(3), slice(4))),
]


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_slices_are_the_same(pair, name, index):
    ours, theirs = (outcome(lambda: file.get_slice(name)[index]) for file in pair)
    if isinstance(theirs, str):
        assert ours == theirs
    else:
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def test_only_needed_rows_are_read(tmp_path):
    weights = torch.randn(3000, 512)
    wz.save_file({"w": weights}, tmp_path / "a.wz")
    content = bytearray((tmp_path / "a.wz").read_bytes())
    content[len(content) * 25 // 48] ^= 1  # amid the block that has row 1562
    (tmp_path / "a.wz").write_bytes(content)
    with wz.safe_open(tmp_path / "a.wz") as file:
        part = file.get_slice("w")
        for index in (7, slice(0, 1000), slice(2000, None), [2999, 0, 17], slice(0, 3000, 1499), (slice(9), 3)):
            assert torch.equal(part[index], weights[index])
        with pytest.raises(weightzip.CorruptionError, match="a.wz.*w"):
            part[:]


def test_few_columns_keep_no_more_memory(tmp_path):
    wz.save_file({"w": torch.randn(3000, 512)}, tmp_path / "a.wz")
    with wz.safe_open(tmp_path / "a.wz") as file:
        part = file.get_slice("w")[:, 64:128]
    assert part.untyped_storage().nbytes() == part.nbytes


def test_packed_floats(tmp_path):
    packed = torch.randint(0, 256, (6, 4), dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    flat = packed.view(torch.uint8).flatten()
    wz.save_file({"a": packed, "b": flat.view(torch.float4_e2m1fn_x2).clone()}, tmp_path / "a.wz")
    with wz.safe_open(tmp_path / "a.wz") as file:
        assert file.get_slice("a").get_shape() == [6, 8]
        assert torch.equal(file.get_slice("a")[2:4].view(torch.uint8), packed.view(torch.uint8)[2:4])
        assert torch.equal(file.get_slice("b")[3:20].view(torch.uint8), flat[3:20])


def test_plain_files_are_opened_by_safetensors(tmp_path):
    plain.save_file(TENSORS, tmp_path / "a.safetensors")
    with wz.safe_open(tmp_path / "a.safetensors", framework="pt", device="cpu", backend="pread") as file:
        assert isinstance(file, safetensors.safe_open)


def test_closed_files_say_so(tmp_path):
    wz.save_file(TENSORS, tmp_path / "a.wz")
    with wz.safe_open(tmp_path / "a.wz") as file:
        part = file.get_slice("t")
    for read in (lambda: file.get_tensor("t"), lambda: part[0], file.get_tensors):
        with pytest.raises(weightzip.WeightzipError, match="closed"):
            read()


def test_unknown_names(pair):
    ours, _ = pair
    for read in (ours.get_tensor, ours.get_slice):
        with pytest.raises(ValueError, match="a.safetensors.wz.*nope"):
            read("nope")


def test_threads_share_an_open_file(tmp_path):
    weights = {f"layer.{i}": torch.randn(200, 300 + i) for i in range(16)}
    wz.save_file(weights, tmp_path / "a.wz")
    with wz.safe_open(tmp_path / "a.wz") as file:
        wrong = []

        def read(k: int) -> None:
            for name, tensor in list(weights.items())[k:] + list(weights.items())[:k]:
                good = torch.equal(file.get_tensor(name), tensor)
                if not (good and torch.equal(file.get_slice(name)[k:100], tensor[k:100])):
                    wrong.append((k, name))

        threads = [threading.Thread(target=read, args=(4 * k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
