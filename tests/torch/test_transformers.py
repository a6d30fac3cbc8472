"""weightzip.transformers beside transformers itself."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
import weightzip
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    BertForMaskedLM,
    LlamaForCausalLM,
)
from weightzip.transformers import from_pretrained, save_pretrained, state_dict

MODELS = {
    "llama": (tiny.llama, AutoModelForCausalLM),
    "tied llama": (lambda: tiny.llama(tied=True), AutoModelForCausalLM),
    "bert": (tiny.bert, AutoModelForMaskedLM),
    "vit": (tiny.vit, AutoModelForImageClassification),
}


@pytest.fixture
def packed(wz, tmp_path):
    """Saves a model as transformers does, and compresses the folder: (plain, compressed)."""

    def pack(model, **kwargs) -> tuple[Path, Path]:
        plain = tmp_path / "plain"
        model.save_pretrained(plain, **kwargs)
        wz("compress", "--quiet", plain)
        return plain, tmp_path / "plain.wz"

    return pack


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("shards", ["one file", "sharded"])
@pytest.mark.parametrize("name", MODELS)
def test_loads_as_transformers_does(packed, name, shards):
    make, auto = MODELS[name]
    model = make()
    plain, folder = packed(model, **({"max_shard_size": "40KB"} if shards == "sharded" else {}))
    assert not list(folder.glob("*.safetensors"))
    assert len(list(folder.glob("*.safetensors.wz"))) > 1 or shards == "one file"

    stock, ours = auto.from_pretrained(plain), from_pretrained(auto, folder)
    assert type(ours) is type(stock) is type(model)
    assert not ours.training
    tiny.assert_same_weights(ours, stock)
    tiny.assert_same_weights(ours, model)
    assert torch.equal(tiny.logits(ours), tiny.logits(stock))
    assert ours.config.to_diff_dict() == stock.config.to_diff_dict()
    assert ours.name_or_path == str(folder)
    assert all(
        a.requires_grad == b.requires_grad
        for a, b in zip(ours.parameters(), stock.parameters(), strict=True)
    )


def test_plain_folders_load_too(packed):
    model = tiny.llama()
    plain, _ = packed(model, max_shard_size="40KB")
    tiny.assert_same_weights(from_pretrained(LlamaForCausalLM, plain), model)


def test_tied_weights_are_one(packed):
    _, folder = packed(tiny.llama(tied=True))
    ours = from_pretrained(LlamaForCausalLM, folder)
    assert ours.lm_head.weight is ours.model.embed_tokens.weight
    assert "lm_head.weight" not in state_dict(folder)


def test_index_may_name_compressed_shards(packed):
    model = tiny.llama()
    _, folder = packed(model, max_shard_size="40KB")
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = {k: f"{v}.wz" for k, v in content["weight_map"].items()}
    index.write_text(json.dumps(content))
    tiny.assert_same_weights(from_pretrained(LlamaForCausalLM, folder), model)


def test_plain_file_wins(packed):
    _, folder = packed(tiny.llama())
    newer = tiny.llama()
    newer.model.norm.weight.data.fill_(3)
    newer.save_pretrained(folder)
    assert (folder / "model.safetensors").exists()
    assert (folder / "model.safetensors.wz").exists()
    tiny.assert_same_weights(from_pretrained(LlamaForCausalLM, folder), newer)


@pytest.mark.parametrize("dtype", ["auto", "float32", torch.float16, None])
def test_dtype(packed, dtype):
    plain, folder = packed(tiny.bert())
    ours = from_pretrained(BertForMaskedLM, folder, dtype=dtype)
    stock = BertForMaskedLM.from_pretrained(plain, dtype=dtype)
    assert ours.dtype == stock.dtype
    assert ours.dtype == {"float32": torch.float32, torch.float16: torch.float16}.get(
        dtype, torch.bfloat16
    )
    tiny.assert_same_weights(ours, stock)


def test_dtype_of_the_weights_where_the_config_has_none(packed):
    plain, folder = packed(tiny.bert())
    for config in (plain / "config.json", folder / "config.json"):
        content = json.loads(config.read_text())
        del content["dtype"]
        config.write_text(json.dumps(content))
    assert BertForMaskedLM.from_pretrained(plain).dtype == torch.bfloat16
    assert from_pretrained(BertForMaskedLM, folder).dtype == torch.bfloat16


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_device_map(packed, device_map):
    model = tiny.llama()
    plain, folder = packed(model, max_shard_size="40KB")
    ours = from_pretrained(AutoModelForCausalLM, folder, device_map=device_map)
    stock = AutoModelForCausalLM.from_pretrained(plain, device_map=device_map)
    assert ours.device == stock.device
    tiny.assert_same_weights(ours, stock)


def test_weights_that_stay_on_disk(packed, tmp_path):
    plain, folder = packed(tiny.llama())
    layers = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk"}
    rest = {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    arguments = {"device_map": layers | rest, "offload_folder": tmp_path / "offload"}
    stock = LlamaForCausalLM.from_pretrained(plain, **arguments)
    ours = from_pretrained(LlamaForCausalLM, folder, **arguments)
    assert ours.model.layers[1].mlp.up_proj.weight.device.type == "meta"
    assert torch.equal(tiny.logits(ours), tiny.logits(stock))


def test_arguments_for_config_and_model(packed):
    model = tiny.llama()
    model.generation_config.max_new_tokens = 7
    plain, folder = packed(model)
    ours, info = from_pretrained(
        AutoModelForCausalLM,
        folder,
        attn_implementation="eager",
        rms_norm_eps=0.5,
        output_loading_info=True,
    )
    assert ours.config._attn_implementation == "eager"
    assert ours.config.rms_norm_eps == 0.5
    assert not info["missing_keys"] and not info["unexpected_keys"]
    stock = AutoModelForCausalLM.from_pretrained(plain)
    assert ours.generation_config.max_new_tokens == 7
    assert ours.generation_config.to_dict() == stock.generation_config.to_dict()
    (folder / "generation_config.json").unlink()
    (plain / "generation_config.json").unlink()
    ours, stock = (
        from_pretrained(AutoModelForCausalLM, folder),
        AutoModelForCausalLM.from_pretrained(plain),
    )
    assert ours.generation_config.to_dict() == stock.generation_config.to_dict()


def test_another_head_is_new(packed):
    _, folder = packed(tiny.bert())
    ours, info = from_pretrained(AutoModel, folder, output_loading_info=True)
    assert any("cls.predictions" in key for key in info["unexpected_keys"])
    tiny.assert_same_weights(ours.encoder, tiny.bert().bert.encoder)


def test_subfolder_and_variant(packed, tmp_path):
    model = tiny.vit()
    _, folder = packed(model, variant="fp16")
    assert (folder / "model.fp16.safetensors.wz").exists()
    outer = tmp_path / "outer"
    shutil.copytree(folder, outer / "inner")
    ours = from_pretrained(
        AutoModelForImageClassification, outer, subfolder="inner", variant="fp16"
    )
    tiny.assert_same_weights(ours, model)


def test_code_in_the_repository(packed):
    model = tiny.llama()
    _, folder = packed(model)
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "own"
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    ours = from_pretrained(AutoModelForCausalLM, folder, trust_remote_code=True)
    assert type(ours).__name__ == "OwnModel"
    tiny.assert_same_weights(ours, model)


def test_state_dict_reads_what_is_asked_for(packed):
    model = tiny.llama()
    _, folder = packed(model, max_shard_size="40KB")
    with state_dict(folder) as tensors:
        assert tensors.keys() == model.state_dict().keys()
        embedding = tensors["model.embed_tokens.weight"]
        assert (embedding.get_shape(), embedding.get_dtype()) == ([256, 64], "BF16")
        assert torch.equal(embedding[3:5, 1::2], model.model.embed_tokens.weight[3:5, 1::2])
    single = next(folder.glob("*.safetensors.wz"))
    assert state_dict(single).keys() < model.state_dict().keys()


def test_no_weights(tmp_path):
    tiny.bert().config.save_pretrained(tmp_path)
    (tmp_path / "notes.txt").touch()
    names = ["", ".wz", ".lossy.wz", ".index.json"]
    looked = f"looked for {', '.join(f'model.safetensors{name}' for name in names)}"
    with pytest.raises(FileNotFoundError, match=looked) as raised:
        from_pretrained(AutoModelForMaskedLM, tmp_path)
    assert "there is config.json, notes.txt" in str(raised.value)
    assert "subfolder=" in str(raised.value)


@pytest.mark.parametrize("place", ["./missing", "/missing/model", "a/b/c", Path("a/b")])
def test_no_folder(place):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        from_pretrained(AutoModelForMaskedLM, place)


def test_shard_is_missing(packed):
    _, folder = packed(tiny.llama(), max_shard_size="40KB")
    gone = next(folder.glob("*.safetensors.wz"))
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=gone.stem):
        from_pretrained(AutoModelForCausalLM, folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "..\\model.safetensors"])
def test_index_can_not_lead_elsewhere(tmp_path, name):
    tiny.bert().config.save_pretrained(tmp_path)
    index = {"weight_map": {"x": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="outside of its folder"):
        from_pretrained(AutoModelForMaskedLM, tmp_path)


def test_broken_index(tmp_path):
    tiny.bert().config.save_pretrained(tmp_path)
    for content in ("[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}'):
        (tmp_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(ValueError, match="weight_map"):
            from_pretrained(AutoModelForMaskedLM, tmp_path)
    for content in (b"\xef\xbb\xbf{}", b"{", b"\xff"):
        (tmp_path / "model.safetensors.index.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json: not an index of weights: "):
            from_pretrained(AutoModelForMaskedLM, tmp_path)


@pytest.mark.parametrize("shard_size", ["40KB", "1GB"])
def test_save_writes_what_transformers_writes(wz, tmp_path, shard_size):
    model = tiny.llama(tied=True)
    model.save_pretrained(tmp_path / "stock", max_shard_size=shard_size)
    save_pretrained(model, tmp_path / "ours", max_shard_size=shard_size)
    stock = [f"{n}.wz" if n.endswith(".safetensors") else n for n in names(tmp_path / "stock")]
    assert names(tmp_path / "ours") == stock
    wz("decompress", "--quiet", tmp_path / "ours", "-o", tmp_path / "back")
    for name in names(tmp_path / "stock"):
        assert (tmp_path / "back" / name).read_bytes() == (
            tmp_path / "stock" / name
        ).read_bytes(), name
    tiny.assert_same_weights(from_pretrained(AutoModelForCausalLM, tmp_path / "ours"), model)


def test_save_replaces_an_earlier_one(tmp_path):
    folder = tmp_path / "model"
    tiny.llama().save_pretrained(folder, max_shard_size="40KB")
    (folder / "modelling.md").touch()
    (folder / "other.safetensors").touch()
    model = tiny.bert()
    save_pretrained(model, folder)
    kept = ["modelling.md", "other.safetensors", "generation_config.json"]
    assert names(folder) == sorted(["config.json", "model.safetensors.wz", *kept])
    tiny.assert_same_weights(from_pretrained(AutoModelForMaskedLM, folder), model)
    assert names(tmp_path) == ["model"]


def test_save_that_fails_changes_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    save_pretrained(tiny.bert(), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError):
        save_pretrained(tiny.llama(), folder, level="no such level")
    with pytest.raises(ValueError, match="hf upload"):
        save_pretrained(tiny.llama(), folder, push_to_hub=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names(tmp_path) == ["model"]


def test_a_fine_tune_next_to_its_base(tmp_path):
    model = tiny.llama()
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    save_pretrained(model, base, max_shard_size="40KB")
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1 + 1e-3
    save_pretrained(model, tuned, base=base)
    assert weightzip.open(tuned / "model.safetensors.wz").info.bases
    with pytest.raises(weightzip.InvalidArgumentError, match="base model not found"):
        from_pretrained(AutoModelForCausalLM, tuned)
    again = from_pretrained(AutoModelForCausalLM, tuned, base=base)
    tiny.assert_same_weights(again, model)
    with state_dict(tuned, base=base) as tensors:
        assert torch.equal(tensors["lm_head.weight"][...], model.lm_head.weight)


def test_a_save_does_not_replace_its_base(tmp_path):
    model = tiny.llama()
    save_pretrained(model, tmp_path / "base", max_shard_size="40KB")
    before = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    model.config.use_cache = False
    # As one file, which would remove the shards; and as other shards in their places.
    for size in ("50GB", "40KB"):
        with pytest.raises(weightzip.InvalidArgumentError, match="save into another folder"):
            save_pretrained(model, tmp_path / "base", max_shard_size=size, base=tmp_path / "base")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    assert names(tmp_path) == ["base"]
