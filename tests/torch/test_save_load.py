"""weightzip.torch: what safetensors.torch promises of saving and loading."""

import pytest
import safetensors
import safetensors.torch as plain
import torch
import weightzip
import weightzip.torch as wz

DTYPES = [
    *"bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64".split(),
    *"complex64 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu".split(),
    "float4_e2m1fn_x2",
]


def tensor(dtype: str, *shape: int) -> torch.Tensor:
    """Any bits: also such as are no number."""
    kind = getattr(torch, dtype)
    size = torch.empty(shape).numel() * kind.itemsize
    bits = torch.randint(0, 2 if dtype == "bool" else 256, (size,), generator=torch.manual_seed(len(shape)))
    return bits.to(torch.uint8).view(kind).reshape(shape)


def bits(tensor: torch.Tensor) -> bytes:
    dense = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
    return dense.view(torch.uint8).numpy().tobytes()


def same(got: dict, expected: dict) -> bool:
    return got.keys() == expected.keys() and all(
        (got[name].dtype, got[name].shape, bits(got[name])) == (t.dtype, t.shape, bits(t))
        for name, t in expected.items()
    )


@pytest.fixture
def tensors():
    """Of every dtype: a matrix and nothing; single values where safetensors has them."""
    every = {f"{dtype}.weight": tensor(dtype, 5, 4) for dtype in DTYPES}
    every |= {f"{dtype}.none": tensor(dtype, 0, 4) for dtype in DTYPES}
    return every | {f"{dtype}.scale": tensor(dtype) for dtype in DTYPES if "float4" not in dtype}


def test_as_many_dimensions_as_a_wz_holds():
    for dimensions in (0, 1, 63, 64):
        tensors = {"x": torch.zeros([1] * dimensions)}
        assert same(wz.load(wz.save(tensors)), tensors)
    with pytest.raises(weightzip.InvalidArgumentError, match="`x` has 65 dimensions, and a .wz holds at most 64"):
        wz.save({"x": torch.zeros([1] * 65)})


def test_every_dtype_round_trips(tensors, tmp_path):
    wz.save_file(tensors, tmp_path / "a.safetensors.wz")
    assert same(wz.load_file(tmp_path / "a.safetensors.wz"), tensors)
    assert same(wz.load(wz.save(tensors)), tensors)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_holds_the_very_file_that_safetensors_writes(tensors, metadata, tmp_path):
    wz.save_file(tensors, tmp_path / "a.safetensors.wz", metadata)
    plain.save_file(tensors, tmp_path / "b.safetensors", metadata)
    restored = weightzip.open(tmp_path / "a.safetensors.wz").original()
    assert restored == (tmp_path / "b.safetensors").read_bytes()
    assert weightzip.open(wz.save(tensors, metadata)).original() == restored


def test_loaded_tensors_can_be_written_and_trained():
    loaded = wz.load(wz.save({"a": torch.zeros(3)}))["a"]
    loaded += 1
    loaded.requires_grad_().sum().backward()
    assert loaded.tolist() == loaded.grad.tolist() == [1, 1, 1]


def test_loaded_tensors_outlive_the_file(tmp_path):
    wz.save_file({"a": torch.arange(100_000), "b": torch.ones(3)}, tmp_path / "a.wz")
    loaded = wz.load_file(tmp_path / "a.wz")
    (tmp_path / "a.wz").write_bytes(b"something else")
    del loaded["b"]
    assert torch.equal(loaded["a"], torch.arange(100_000))


def test_the_suffix_decides(tmp_path):
    weights = {"a": torch.arange(6.0)}
    for name, compressed in [("a.safetensors", False), ("a.wz.bin", False), ("a.wz", True)]:
        wz.save_file(weights, tmp_path / name, {"k": "v"})
        content = (tmp_path / name).read_bytes()
        assert (content != plain.save(weights, {"k": "v"})) == compressed
        assert same(wz.load_file(str(tmp_path / name)), weights)
        assert same(wz.load(content), weights)
        with wz.safe_open(tmp_path / name) as file:
            assert (file.metadata(), file.keys()) == ({"k": "v"}, ["a"])


def test_a_missing_file_is_the_compressed_one(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="a.safetensors"):
        wz.load_file(path)
    wz.save_file({"a": torch.ones(1)}, f"{path}.wz")
    assert wz.load_file(path)["a"] == 1
    wz.save_file({"a": torch.zeros(1)}, path)
    assert wz.load_file(path)["a"] == 0
    assert wz.load_file(path, device="cpu", backend="pread")["a"] == 0
    assert wz.load_file(f"{path}.wz")["a"] == 1


@pytest.mark.parametrize("name", ["a.wz", "a.safetensors"])
@pytest.mark.parametrize(
    ("given", "error"),
    [
        (None, ValueError),
        ([("a", torch.zeros(1))], ValueError),
        ({"a": None}, ValueError),
        ({"a": [1.0]}, ValueError),
        ({"a": torch.zeros(1).numpy()}, ValueError),
        ({1: torch.zeros(1)}, TypeError),
        ({"a": torch.eye(3).to_sparse()}, ValueError),
        ({"a": torch.eye(3).to_sparse_csr()}, ValueError),
        ({"a": torch.zeros(3, 4).T}, ValueError),
        ({"a": torch.zeros(3, 4)[:, :2]}, ValueError),
        ({"a": torch.zeros(1).expand(3)}, ValueError),
    ],
)
def test_refuses_the_same_as_safetensors(given, error, name, tmp_path):
    with pytest.raises(error):
        wz.save_file(given, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (3, "this tensor must be a torch.Tensor, not int.*tensor 'bad'"),
        (torch.eye(3).to_sparse(), "this tensor is sparse.*to_dense.*tensor 'bad'"),
        (torch.zeros(3, 4).T, "this tensor is not contiguous.*contiguous.*tensor 'bad'"),
        (torch.zeros(3, dtype=torch.complex128), "this tensor has dtype torch.complex128.*tensor 'bad'"),
        (torch.zeros(3, device="meta"), "this tensor is on device meta.*tensor 'bad'"),
    ],
)
def test_says_which_tensor_it_refuses_and_why(tensor, message):
    with pytest.raises(ValueError, match=message) as caught:
        wz.save({"good": torch.ones(1), "bad": tensor})
    assert caught.value.tensor == "bad"


def test_refuses_tensors_that_share_memory():
    a = torch.zeros(10, 4)
    for shared in ({"a": a, "b": a}, {"a": a, "b": a[2:4]}, {"a": a[:6], "b": a[5:]}, {"a": a, "b": a.view(40)}):
        with pytest.raises(RuntimeError, match="share memory.*`a`, `b`.*save_model"):
            wz.save(shared | {"c": torch.ones(1)})


def test_parts_of_one_memory_that_do_not_overlap_are_saved():
    a = torch.arange(40).reshape(10, 4)
    parts = {"c": a[8:], "a": a[:3], "b": a[3:8], "none": a[3:3]}
    assert same(wz.load(wz.save(parts)), parts)


def test_parts_that_are_contiguous_by_chance_are_saved():
    a = torch.arange(24.0).reshape(4, 6)
    parts = {"one": a[1:2, 3:4], "step": a[::3, 5][:1], "row": a[2:3], "rows": a.expand(1, 4, 6)[:, 3:]}
    assert same(wz.load(wz.save(parts)), {name: part.clone() for name, part in parts.items()})


def test_values_are_saved_where_memory_differs_by_a_sign():
    conjugate = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64).conj()
    negative = torch.tensor([5 + 2j]).conj().imag
    assert conjugate.is_conj() and negative.is_neg()
    loaded = wz.load(wz.save({"a": conjugate, "b": negative}))
    assert loaded["a"].tolist() == [1 - 2j, 3 + 4j] and loaded["b"].tolist() == [-2]


def test_parameters_are_saved():
    weight = torch.nn.Parameter(torch.ones(3))
    loaded = wz.load(wz.save({"a": weight}))["a"]
    assert loaded.tolist() == [1, 1, 1] and not loaded.requires_grad


def test_the_input_is_unchanged(tmp_path):
    # Too few, and incompressible: both are stored as they are.
    given = {"few": torch.tensor([1.5, -2.25, 3, -0.5], dtype=torch.bfloat16), "noise": tensor("bfloat16", 300, 300)}
    before = {name: t.clone() for name, t in given.items()}
    wz.save_file(given, tmp_path / "a.wz")
    wz.save(given)
    assert same(given, before) and same(wz.load_file(tmp_path / "a.wz"), before)


def test_broken_bytes_are_an_error():
    for broken in (b"", b"x" * 30, plain.save({"a": torch.zeros(9)})[:-1]):
        with pytest.raises(safetensors.SafetensorError):
            wz.load(broken)
    content = bytearray(wz.save({"a": torch.randn(100_000)}))
    content[len(content) // 2] ^= 1
    with pytest.raises(weightzip.CorruptionError) as caught:
        wz.load(content)
    assert caught.value.tensor == "a"
    with pytest.raises(weightzip.WeightzipError):
        wz.load(content[:-1])


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "meta"])
def test_devices(device, tmp_path, monkeypatch):
    monkeypatch.setattr(wz, "_ON_THE_WAY", 1000)
    weights = {f"{i:03}": torch.full((i,), float(i)) for i in range(50)}
    wz.save_file(weights, tmp_path / "a.wz")
    seen = []
    loaded = wz.load_file(tmp_path / "a.wz", device, progress=lambda *told: seen.append(told))
    assert list(loaded) == list(weights)
    assert all(t.device == torch.device(device) and t.shape == weights[name].shape for name, t in loaded.items())
    assert seen[-1] == (50 * 49 // 2 * 4,) * 2 and seen == sorted(seen)


@pytest.mark.parametrize("at_once", [300, 1 << 30])
def test_tensors_are_decoded_into_pinned_memory(tensors, at_once, tmp_path, monkeypatch):
    empty, pinned = torch.empty, set()

    def without_gpu(*size, pin_memory=False, **kind):
        memory = empty(*size, **kind)
        if pin_memory:
            pinned.add(memory.untyped_storage().data_ptr())
        return memory

    wz.save_file(tensors, tmp_path / "a.wz")
    monkeypatch.setattr(torch, "empty", without_gpu)
    monkeypatch.setattr(wz, "_ON_THE_WAY", at_once)
    loaded = wz.load_file(tmp_path / "a.wz", pin_memory=True)
    monkeypatch.undo()
    assert same(loaded, tensors)
    assert {t.untyped_storage().data_ptr() for t in loaded.values() if t.numel()} == pinned
    assert (len(pinned) > 1) == (at_once == 300)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["cpu", "cuda", 0])
def test_pinned_memory(device, tmp_path, monkeypatch):
    monkeypatch.setattr(wz, "_ON_THE_WAY", 10_000_000)
    weights = {str(i): torch.randn(1000, 1000) for i in range(9)} | {"none": torch.empty(0)}
    for name in ("a.wz", "a.safetensors"):
        wz.save_file(weights, tmp_path / name)
        loaded = wz.load_file(tmp_path / name, device, pin_memory=True)
        assert all(t.is_pinned() or t.is_cuda or not t.numel() for t in loaded.values())
        assert same({k: t.cpu() for k, t in loaded.items()}, weights)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_pinned_memory_needs_a_gpu(tmp_path):
    wz.save_file({"a": torch.ones(3)}, tmp_path / "a.wz")
    with pytest.raises(RuntimeError):
        wz.load_file(tmp_path / "a.wz", pin_memory=True)


def test_a_base(tmp_path):
    model = torch.nn.Linear(300, 200)
    old, new = tmp_path / "base" / "old.safetensors", tmp_path / "new.safetensors.wz"
    old.parent.mkdir()
    plain.save_model(model, old)
    with torch.no_grad():
        model.weight += 1e-4 * torch.randn(200, 300)
    tensors = model.state_dict()
    wz.save_file(tensors, new)
    alone = new.stat().st_size
    wz.save_model(model, new, base=old)
    assert new.stat().st_size < alone * 0.9
    assert weightzip.open(new).info.bases == ("old.safetensors",)
    with pytest.raises(weightzip.InvalidArgumentError, match="base model not found: old.safetensors"):
        wz.load_file(new)
    assert same(wz.load_file(new, base=old), tensors)
    again = torch.nn.Linear(300, 200)
    wz.load_model(again, new, base=old.parent)
    assert same(again.state_dict(), tensors)
    assert same(wz.load(wz.save(tensors, base=old), base=old), tensors)
    with wz.safe_open(new, base=old) as file:
        assert torch.equal(file.get_slice("weight")[3:5], tensors["weight"][3:5])


def without_memory():
    """Tensors whose values aren't in memory of their own."""
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.ones(3)
    freed = torch.ones(3)
    freed.untyped_storage().resize_(0)
    cut = torch.ones(30)
    cut.untyped_storage().resize_(8)
    masked = torch.masked.masked_tensor(torch.ones(3), torch.tensor([True, False, True]))
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    lazy = torch.nn.LazyLinear(3).weight
    return {"fake": fake, "freed": freed, "cut": cut, "masked": masked, "nested": nested, "lazy": lazy}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["fake", "freed", "cut", "masked", "nested", "lazy"])
def test_what_has_no_memory_of_its_own_is_refused_by_name(kind):
    tensor = without_memory()[kind]
    with pytest.raises(weightzip.InvalidArgumentError, match=r"this tensor .*\(tensor 'bad'\)") as caught:
        wz.save({"good": torch.ones(1), "bad": tensor})
    assert caught.value.tensor == "bad"


def test_save_model_takes_what_save_file_does(tmp_path):
    model, seen = torch.nn.Linear(300, 200), []
    wz.save_model(model, tmp_path / "a.wz", level="max", progress=lambda *told: seen.append(told))
    assert weightzip.open(tmp_path / "a.wz").info.level == "max"
    assert same(wz.load_file(tmp_path / "a.wz"), model.state_dict()) and seen[-1][0] == seen[-1][1]
