"""Saving a model into a folder that has an earlier one: what loads afterwards is the new one."""

import fcntl
import os

import pytest
import tiny
import torch
import weightzip
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from test_diffusers import unet
from transformers import LlamaForCausalLM
from weightzip import _saving, diffusers, transformers

SHARDED = {"max_shard_size": "40KB"}
WHOLE = {}


def changed(model, by):
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(by)
    return model


def stock(model, folder, **options):
    model.save_pretrained(folder, **options)


class Transformers:
    weights = "."
    packed = staticmethod(transformers.save_pretrained)

    @staticmethod
    def model(by):
        return changed(tiny.llama(), by)

    @staticmethod
    def load(folder):
        return transformers.from_pretrained(LlamaForCausalLM, folder)


class Diffusers:
    weights = "unet"
    packed = staticmethod(diffusers.save_pretrained)

    @staticmethod
    def model(by):
        return DDPMPipeline(changed(unet(), by), DDPMScheduler(num_train_timesteps=4))

    @staticmethod
    def load(folder):
        return diffusers.from_pretrained(UNet2DModel, folder, subfolder="unet")


KINDS = [(packed, options) for packed in (True, False) for options in (WHOLE, SHARDED)]
NAMES = ["wz", "sharded wz", "plain", "sharded plain"]


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("new", KINDS[:2], ids=NAMES[:2])
@pytest.mark.parametrize("old", KINDS, ids=NAMES)
@pytest.mark.parametrize("library", [Transformers, Diffusers])
def test_the_new_weights_are_loaded(library, old, new, variant, tmp_path):
    arguments = {"variant": variant} if variant else {}
    for (packed, options), by in ((old, 1.0), (new, 2.0)):
        save = library.packed if packed else stock
        save(library.model(by), tmp_path / "model", **options, **arguments)
    weights = tmp_path / "model" / library.weights
    left = {path.name for path in weights.iterdir() if ".safetensors" in path.name}
    library.packed(library.model(2.0), tmp_path / "alone", **new[1], **arguments)
    alone = tmp_path / "alone" / library.weights
    assert left == {path.name for path in alone.iterdir() if ".safetensors" in path.name}
    if library is Transformers:
        model = transformers.from_pretrained(LlamaForCausalLM, tmp_path / "model", **arguments)
    else:
        model = diffusers.from_pretrained(UNet2DModel, tmp_path / "model", subfolder="unet", **arguments)
    assert all((weight == 2).all() for weight in model.parameters())


@pytest.mark.parametrize("new", KINDS[2:], ids=NAMES[2:])
@pytest.mark.parametrize("old", KINDS[:2], ids=NAMES[:2])
@pytest.mark.parametrize("library", [Transformers, Diffusers])
def test_plain_weights_that_the_library_saved_later_are_loaded(library, old, new, tmp_path):
    library.packed(library.model(1.0), tmp_path / "model", **old[1])
    stock(library.model(2.0), tmp_path / "model", **new[1])
    assert all((weight == 2).all() for weight in library.load(tmp_path / "model").parameters())


def test_weights_of_two_saves_are_refused(tmp_path):
    """Which is newer isn't said by names."""
    folder = tmp_path / "model"
    transformers.save_pretrained(Transformers.model(1.0), folder)
    single = folder / "model.safetensors.wz"
    kept = single.read_bytes()
    transformers.save_pretrained(Transformers.model(2.0), folder, **SHARDED)
    single.write_bytes(kept)
    with pytest.raises(ValueError, match="model.safetensors.index.json and model.safetensors.wz are of two saves"):
        Transformers.load(folder)


@pytest.mark.parametrize("options", [WHOLE, SHARDED], ids=["one file", "sharded"])
@pytest.mark.parametrize("library", [Transformers, Diffusers])
def test_rounded_weights_say_so_in_their_names_and_are_loaded(wz, library, options, tmp_path):
    model = library.model(0.3)
    library.packed(library.model(0.1), tmp_path / "ours", **options)
    library.packed(model, tmp_path / "ours", lossy="abs=2^-6", **options)
    stock(model, tmp_path / "plain", **options)
    wz("compress", "--quiet", "--lossy", "abs=2^-6", tmp_path / "plain", "-o", tmp_path / "by-wz")
    for folder in ("ours", "by-wz"):
        weights = tmp_path / folder / library.weights
        names = {path.name for path in weights.iterdir() if ".safetensors" in path.name and path.suffix != ".json"}
        assert names and all(name.endswith(".safetensors.lossy.wz") for name in names)
        with pytest.warns(weightzip.LossyWarning):
            loaded = library.load(tmp_path / folder)
        matrices = [weight for weight in loaded.parameters() if weight.ndim > 1]
        assert all(((weight - 0.3).abs() <= 2**-7).all() and len(weight.unique()) == 1 for weight in matrices)


def test_nothing_is_written_outside_of_the_target(tmp_path, monkeypatch):
    """The target may be a mount point: its parent is another file system, or can't be written to."""
    folder = tmp_path / "parent" / "model"
    folder.mkdir(parents=True)
    made = []
    monkeypatch.setattr(_saving.tempfile, "mkdtemp", lambda prefix, dir: made.append(dir) or _mkdir(dir, prefix))
    transformers.save_pretrained(tiny.bert(), folder)
    assert made == [folder]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert not list(folder.glob(".*"))


def _mkdir(folder, prefix):
    path = folder / f"{prefix}x"
    path.mkdir()
    return str(path)


def test_what_a_killed_save_left_is_removed_by_the_next_one(tmp_path):
    left, busy = tmp_path / ".wz-saving-left", tmp_path / ".wz-saving-busy"
    for folder in (left, busy):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bytes(100))
        os.utime(folder, (0, 0))
    lock = os.open(busy, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    transformers.save_pretrained(tiny.bert(), tmp_path)
    assert not left.exists() and busy.exists()
    os.close(lock)
    transformers.save_pretrained(tiny.bert(), tmp_path)
    assert not busy.exists()


def test_a_base_around_the_target(tmp_path):
    """Files of the save itself aren't in its base."""
    transformers.save_pretrained(tiny.llama(), tmp_path / "base")
    transformers.save_pretrained(tiny.llama(), tmp_path / "tuned", base=tmp_path)
    opened = weightzip.open(tmp_path / "tuned/model.safetensors.wz", base=tmp_path / "base")
    assert opened.info.bases == ("model.safetensors.wz",)


def test_other_formats_are_refused(tmp_path):
    for arguments in ({"safe_serialization": False}, {"use_flashpack": True}):
        with pytest.raises(ValueError, match="only safetensors files"):
            diffusers.save_pretrained(unet(), tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_index_with_a_byte_order_mark(tmp_path):
    transformers.save_pretrained(Transformers.model(2.0), tmp_path, **SHARDED)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text(), encoding="utf-8-sig")
    assert all((weight == 2).all() for weight in Transformers.load(tmp_path).parameters())
    for content in ("nothing", '{"weight_map": {"a": 3}}'):
        index.write_text(content)
        with pytest.raises(ValueError, match="index.json: not an index of weights"):
            Transformers.load(tmp_path)
