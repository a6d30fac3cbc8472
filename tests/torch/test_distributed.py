"""weightzip.distributed, driven by torch.distributed.checkpoint itself."""

import io
import pickle
import re

import pytest
import torch
import torch.distributed.checkpoint as dcp
import weightzip
import weightzip.torch
from stored import EVERY, Part, blank, equal, files, load, save
from test_save_load import bits, same, tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict
from weightzip.distributed import StorageReader, StorageWriter

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]


@pytest.fixture
def trained():
    """A model and its optimizer after some steps, and what is no tensor."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.BatchNorm1d(96), torch.nn.Linear(96, 8))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        model(torch.randn(32, 64)).square().mean().backward()
        optimizer.step()
    weights, moments = get_state_dict(model, optimizer)
    return {
        "model": weights,
        "optimizer": moments,
        "step": 3,
        "loss": 0.25,
        "nested": {"name": "run", "deeper": {"none": None, "bytes": b"\x00\xff", "seen": {1, 2}}, "list": [1, "b"]},
    }


def test_a_model_with_its_optimizer_round_trips(trained, tmp_path):
    save(trained, tmp_path)
    assert equal(load(blank(trained), tmp_path), trained)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".metadata",
        files(tmp_path, "safetensors")[0].name,
        files(tmp_path, "objects")[0].name,
    }


def test_every_dtype_round_trips(tmp_path):
    state = {f"{dtype}.weight": tensor(dtype, 5, 4) for dtype in EVERY}
    state |= {f"{dtype}.none": tensor(dtype, 0, 4) for dtype in EVERY}
    state |= {f"{dtype}.scale": tensor(dtype) for dtype in EVERY}
    save(state, tmp_path)
    assert same(load(blank(state), tmp_path), state)


def test_tensors_of_any_memory_round_trip(tmp_path):
    state = {
        "transposed": torch.randn(30, 40).T,
        "column": torch.randn(30, 40)[:, 3],
        "expanded": torch.randn(1, 7).expand(5, 7),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "conjugate": torch.randn(9, dtype=torch.complex64).conj(),
        "wide conjugate": torch.randn(9, 3, dtype=torch.complex128).T.conj(),
        "negative": torch.randn(9, dtype=torch.complex64).conj().imag,
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    state["shared"] = state["transposed"]
    save(state, tmp_path)
    assert same(load(blank(state), tmp_path), state)
    into = {name: torch.zeros(t.shape[::-1], dtype=t.dtype).T for name, t in state.items() if t.dim() == 2}
    assert same(load(into, tmp_path), {name: state[name] for name in into})


@pytest.mark.parametrize("at_once", [1000, 1 << 30])
def test_tensors_are_converted_to_the_dtype_that_is_loaded_into(at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(weightzip.torch, "_ON_THE_WAY", at_once)
    state = {str(i): torch.randn(i, 30).to(torch.bfloat16) for i in range(1, 30)}
    save(state, tmp_path)
    loaded = load({name: torch.zeros_like(t, dtype=torch.float32) for name, t in state.items()}, tmp_path)
    assert same(loaded, {name: t.float() for name, t in state.items()})


def test_damaged_objects_are_an_error_before_they_are_unpickled(tmp_path):
    save({"a": list(range(50_000))}, tmp_path)
    (file,) = files(tmp_path, "objects")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointException, match="CorruptionError"):
        load({"a": None}, tmp_path)


def test_objects_are_kept_as_torch_pickles_them(tmp_path):
    value, pickled = {"a": torch.randn(999), "b": [1, None]}, io.BytesIO()
    save({"value": value}, tmp_path, dcp.DefaultSavePlanner(flatten_state_dict=False))
    torch.save(value, pickled)
    with weightzip.open(*files(tmp_path, "objects")) as archive:
        assert archive.original() == pickled.getvalue()


def test_the_files_are_ordinary(wz, trained, tmp_path):
    save(trained, tmp_path)
    for file in tmp_path.glob("*.wz"):
        wz("verify", file)
    (file,) = files(tmp_path, "safetensors")
    weight = trained["model"]["0.weight"]
    assert "model.0.weight" in wz("inspect", file).decode()
    assert wz("cat", file, "model.0.weight", "--rows", "3:5") == bits(weight[3:5])
    assert same({"": weightzip.torch.load_file(file)["model.0.weight"]}, {"": weight})


def test_names_that_would_clash_are_told_apart(tmp_path):
    state = {"__metadata__": torch.ones(2), "__metadata__'": torch.zeros(2), "ü\n\"": torch.ones(1), "": torch.ones(3)}
    save(state, tmp_path)
    assert same(load(blank(state), tmp_path), state)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "is sparse.*to_dense"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), "has dtype torch.quint8.*dequantize"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(given, message, tmp_path):
    with pytest.raises(CheckpointException, match=f"this tensor {message}.*tensor 'bad'"):
        save({"good": torch.ones(3), "bad": given(), "object": 1}, tmp_path / "a")
    assert not (tmp_path / "a").exists()


class Twice(torch.Tensor):
    """A tensor made of another one, as those of quantised weights are."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    def __tensor_flatten__(self):
        return ["inner"], None

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return func(*(arg.inner if isinstance(arg, cls) else arg for arg in args), **(kwargs or {}))

    def detach(self):
        return self


class Halving(dcp.DefaultSavePlanner):
    """Plans something else than it resolves to."""

    def resolve_data(self, write_item):
        return super().resolve_data(write_item).half()


@pytest.mark.parametrize(
    ("given", "planner", "message"),
    [
        (torch.ones(3, device="meta"), None, "this tensor is on device meta"),
        (Twice(torch.ones(3)), None, "this tensor is a Twice, made of other tensors"),
        (torch.ones(3), Halving(), r"this tensor is \[3\] of torch.float16 and was planned as \[3\] of torch.float32"),
    ],
)
def test_what_turns_out_to_have_no_plain_bytes_is_refused(given, planner, message, tmp_path):
    with pytest.raises(CheckpointException, match=f"{message}.*tensor 'bad'"):
        save({"bad": given}, tmp_path, planner)
    assert list(tmp_path.iterdir()) == []


def test_saving_in_the_background(tmp_path):
    state = {"w": torch.randn(300, 300), "step": 1}
    before = {"w": state["w"].clone(), "step": 1}
    saved = dcp.async_save(state, storage_writer=StorageWriter(tmp_path))
    state["w"].zero_()
    saved.result()
    assert equal(load(blank(before), tmp_path), before)


def test_a_checkpoint_without_metadata_is_refused(tmp_path):
    save({"w": torch.ones(3)}, tmp_path)
    (tmp_path / ".metadata").unlink()
    for folder in (tmp_path, tmp_path / "nowhere"):
        message = f"this folder has no .metadata: .*save didn't finish.*{re.escape(str(folder))}"
        with pytest.raises(CheckpointException, match=message):
            load({"w": torch.zeros(3)}, folder)


class Failing(dcp.DefaultSavePlanner):
    """Fails at the last tensor, as a full disk does."""

    def resolve_data(self, write_item):
        if write_item.index.fqn == "b":
            raise OSError("no more")
        return super().resolve_data(write_item)


def test_a_checkpoint_stays_until_another_one_is_complete(tmp_path):
    old = {"a": torch.randn(100), "b": torch.randn(100), "step": 1}
    new = {"a": torch.randn(100), "b": torch.randn(100), "step": 2}
    save(old, tmp_path)
    with pytest.raises(CheckpointException, match="no more"):
        save(new, tmp_path, Failing())
    assert equal(load(blank(old), tmp_path), old)
    save(new, tmp_path)
    assert equal(load(blank(old), tmp_path), new)
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(CheckpointException, match="this folder has a checkpoint: .*overwrite=True"):
        save(old, tmp_path, overwrite=False)
    assert equal(load(blank(old), tmp_path), new)


def test_what_a_crash_left_is_ignored_and_goes_with_the_next_save(tmp_path):
    state = {"a": torch.randn(100), "step": 1}
    save(state, tmp_path)
    stay = {".wz-Ab3xYz.part", "notes.txt", "other.safetensors.wz"}
    for name in ("rank0-0123abcd.safetensors.wz", "rank7-0123abcd.objects.wz", ".metadata.tmp", *stay):
        (tmp_path / name).write_bytes(b"half")
    assert equal(load(blank(state), tmp_path), state)
    save(state, tmp_path)
    assert equal(load(blank(state), tmp_path), state)
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes() == b"half"} == stay


def test_the_folder_may_be_named_later(tmp_path):
    states = {name: {"w": torch.randn(10)} for name in "ab"}
    writer, reader = StorageWriter(tmp_path / "a"), StorageReader(tmp_path / "a")
    for name, state in states.items():
        dcp.save(state, storage_writer=writer, checkpoint_id=tmp_path / name)
    for name in reversed(states):
        loaded = blank(states[name])
        dcp.load(loaded, storage_reader=reader, checkpoint_id=tmp_path / name)
        assert same(loaded, states[name])


def test_urls_are_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(weightzip.InvalidArgumentError, match="is a URL, and this is for local folders"):
        StorageWriter("s3://bucket/run")
    assert not list(tmp_path.iterdir())


def test_plans_may_be_kept_from_save_to_save(tmp_path):
    planner = dcp.DefaultSavePlanner(enable_plan_caching=True)
    for step in range(3):
        state = {"a": torch.full((10,), float(step)), "step": step}
        save(state, tmp_path, planner)
        assert equal(load(blank(state), tmp_path), state)


def test_ranks_that_know_nothing_of_one_another_are_refused(tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match="use_collectives=False"):
        dcp.save({"a": torch.ones(1)}, storage_writer=StorageWriter(tmp_path), use_collectives=False)


def test_plain_checkpoints_are_read_too(trained, tmp_path):
    dcp.save(trained, storage_writer=dcp.FileSystemWriter(tmp_path))
    assert equal(load(blank(trained), tmp_path), trained)


@pytest.fixture
def steps(tmp_path):
    """Three checkpoints of a run, each a little further, and their folders."""
    torch.manual_seed(0)
    states, weight = [], torch.randn(300, 200)
    for step in range(3):
        states.append({"w": weight.to(torch.bfloat16), "step": step})
        weight = weight + 1e-4 * torch.randn(300, 200)
    return states, [tmp_path / f"step-{step}" for step in range(3)]


def test_a_base(steps, tmp_path, monkeypatch):
    (old, new, _), (first, second, _) = steps
    save(old, first)
    save(new, second)
    alone = files(second, "safetensors")[0].stat().st_size
    save(new, second, base=first)
    (file,) = files(second, "safetensors")
    assert file.stat().st_size < alone * 0.7
    assert weightzip.open(file).info.bases == (files(first, "safetensors")[0].name,)
    assert equal(load(blank(new), second, base=first), new)
    rows = {"w": torch.zeros(100, 200, dtype=torch.bfloat16)}
    assert torch.equal(load(rows, second, Part({"w": (50, 0)}), base=first)["w"], new["w"][50:150])
    with pytest.raises(CheckpointException, match="base model not found: rank0-.*safetensors"):
        load(blank(new), second)
    monkeypatch.setenv("WEIGHTZIP_BASE_PATH", str(first))
    assert equal(load(blank(new), second), new)


def test_bases_in_a_row(steps, tmp_path):
    states, folders = steps
    for step, state in enumerate(states):
        save(state, folders[step], base=iter(folders[:step]) if step else None)
        assert bool(weightzip.open(*files(folders[step], "safetensors")).info.bases) == (step > 0)
    for base in (folders[:2], tmp_path):
        assert equal(load(blank(states[2]), folders[2], base=base), states[2])


def test_a_base_is_not_replaced(steps):
    (old, new, _), (first, second, _) = steps
    save(old, first)
    save(new, second, base=first)
    for folder, base in [(first, first), (first, [first, second]), (second, [first, second])]:
        with pytest.raises(CheckpointException, match="this file is the base, or the base needs it"):
            save(new, folder, base=base)
    assert equal(load(blank(new), second, base=first), new)


@pytest.mark.parametrize("kind", weightzip.WeightzipError.__subclasses__())
def test_errors_go_from_rank_to_rank(kind):
    error = kind("why", file="f", offset=3, tensor="t")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and vars(again) == vars(error)
