"""weightzip.vllm against the interface of vLLM, as tests/torch/vllm_stub.py has it."""

import gc
import os
import subprocess
import sys
import tomllib
import weakref
from pathlib import Path

import pytest
import tiny
import torch
import vllm_stub
import weightzip.torch
from hub_stub import REPO, Hub
from vllm_stub import LoadConfig, ModelConfig
from weightzip.transformers import save_pretrained


@pytest.fixture(scope="module")
def module():
    """weightzip.vllm, registered as vLLM does that: by the entry point, and more than once."""
    project = tomllib.loads((Path(__file__).parents[2] / "python/pyproject.toml").read_text())["project"]
    ((_, value),) = project["entry-points"]["vllm.general_plugins"].items()
    name, function = value.split(":")
    with vllm_stub.installed():
        module = __import__(name, fromlist=[function])
        getattr(module, function)()
        getattr(module, function)()
        yield module


@pytest.fixture
def loader(module):
    return vllm_stub.get_model_loader(LoadConfig("weightzip"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model in several shards."""
    folder = tmp_path_factory.mktemp("model") / "llama"
    save_pretrained(tiny.llama(), folder, max_shard_size="50KB")
    assert len(list(folder.glob("*.wz"))) > 2
    return folder


class Model(torch.nn.Module):
    """Takes weights as models of vLLM do."""

    def __init__(self, weights):
        super().__init__()
        self.names = {name.replace(".", "_"): name for name in weights}
        for name in self.names:
            self.register_parameter(name, torch.nn.Parameter(torch.zeros_like(weights[self.names[name]])))

    def load_weights(self, weights):
        loaded = set()
        for name, tensor in weights:
            self.get_parameter(name.replace(".", "_")).data.copy_(tensor)
            loaded.add(name.replace(".", "_"))
        return loaded

    def has(self, weights):
        return all(torch.equal(self.get_parameter(name), weights[full]) for name, full in self.names.items())


def test_loads_a_model_and_loads_it_again(loader, folder):
    weights = tiny.llama().state_dict()
    model, config = Model(weights), ModelConfig(str(folder))
    loader.download_model(config)
    loader.load_weights(model, config)
    assert model.has(weights)
    for parameter in model.parameters():
        parameter.data.zero_()
    model.load_weights(loader.get_all_weights(config, model))
    assert model.has(weights)
    assert loader.counter_before_loading_weights > 0


def test_a_plain_folder_loads_too(loader, tmp_path):
    tiny.llama().save_pretrained(tmp_path)
    weights = tiny.llama().state_dict()
    model = Model(weights)
    loader.load_weights(model, ModelConfig(str(tmp_path)))
    assert model.has(weights)


# In a process of its own: huggingface_hub reads its settings when it is imported.
FROM_HUB = """
import sys
import vllm_stub
with vllm_stub.installed():
    import weightzip.vllm
    loader = weightzip.vllm.ModelLoader(vllm_stub.LoadConfig("weightzip", download_dir=sys.argv[1]))
    config = vllm_stub.ModelConfig(sys.argv[2], revision="v1")
    if sys.argv[3] == "download":
        loader.download_model(config)
    else:
        print(*sorted(name for name, _ in loader.get_all_weights(config, None)))
"""


def test_loads_from_the_hub(folder, tmp_path):
    with Hub({"main": tmp_path, "v1": folder}) as hub:
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | hub.environment(tmp_path) | {"PYTHONPATH": path}
        command = [sys.executable, "-c", FROM_HUB, str(tmp_path / "cache"), REPO]
        subprocess.run([*command, "download"], env=environment, check=True)
        downloaded = hub.downloaded()
        assert {path.name for path in folder.glob("*.wz")} <= set(downloaded)
        names = subprocess.run([*command, "read"], env=environment, check=True, capture_output=True, text=True).stdout
        assert names.split() == sorted(tiny.llama().state_dict())
        assert hub.downloaded() == downloaded
    assert list((tmp_path / "cache").rglob("*.wz"))


def test_tensors_are_there_one_by_one(loader, folder):
    alive, most = [], 0
    for _, tensor in loader.get_all_weights(ModelConfig(str(folder)), Model({})):
        alive.append(weakref.ref(tensor))
        del tensor
        gc.collect()
        most = max(most, sum(ref() is not None for ref in alive))
    assert len(alive) > 10
    assert most <= 1


def test_weights_that_are_missing_are_told_of(loader, folder, tmp_path):
    weights = tiny.llama().state_dict()
    save_pretrained(tiny.llama(), tmp_path)
    with pytest.raises(ValueError, match="not initialized from checkpoint: {'more'}"):
        loader.load_weights(Model(weights | {"more": torch.ones(1)}), ModelConfig(str(tmp_path)))
    os.remove(tmp_path / "model.safetensors.wz")
    with pytest.raises(FileNotFoundError, match=r"found no weights; looked for model.safetensors"):
        loader.download_model(ModelConfig(str(tmp_path)))


def test_a_damaged_file_is_an_error(loader, tmp_path):
    save_pretrained(tiny.llama(), tmp_path)
    content = bytearray((tmp_path / "model.safetensors.wz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.safetensors.wz").write_bytes(content)
    with pytest.raises(weightzip.CorruptionError):
        loader.load_weights(Model(tiny.llama().state_dict()), ModelConfig(str(tmp_path)))


def test_other_sources_and_weights_without_use(loader, folder, tmp_path):
    more = {"readout": torch.randn(8, 8), "unused": torch.randn(3)}
    weightzip.torch.save_file(more, tmp_path / "readout.safetensors.wz")
    weights = tiny.llama().state_dict()
    unused = next(name for name in weights if "norm" in name)
    model = Model(
        {name: tensor for name, tensor in weights.items() if name != unused} | {"head.readout": more["readout"]}
    )
    model.is_unused_checkpoint_weight = lambda name: name == unused
    model.secondary_weights = [
        loader.Source(
            str(tmp_path.parent),
            None,
            subfolder=tmp_path.name,
            prefix="head.",
            allow_patterns_overrides=["readout.safetensors"],
            is_unused_weight=lambda name: name == "unused",
        )
    ]
    loader.load_weights(model, ModelConfig(str(folder)))
    assert model.has(weights | {"head.readout": more["readout"]})


@pytest.mark.parametrize("pattern", ["sparse_linear.pt", "*/*.safetensors"])
def test_files_that_only_vllm_reads(loader, folder, pattern):
    model = Model({})
    model.allow_patterns_overrides = [pattern]
    with pytest.raises(ValueError, match="use load format auto"):
        loader.load_weights(model, ModelConfig(str(folder)))


def test_options_that_do_not_apply_are_refused(module, folder):
    for options in ({"num_threads": 2}, {"enable_multithread_load": True}):
        with pytest.raises(ValueError, match=f"has no option {next(iter(options))}"):
            vllm_stub.get_model_loader(LoadConfig("weightzip", model_loader_extra_config=options))
    with pytest.raises(ValueError, match="Unexpected"):
        vllm_stub.get_model_loader(LoadConfig("weightzip", model_loader_extra_config={"other": 1}))
    loader = vllm_stub.get_model_loader(LoadConfig("weightzip", safetensors_load_strategy="torchao"))
    with pytest.raises(ValueError, match="use load format safetensors"):
        loader.load_weights(Model({}), ModelConfig(str(folder)))


def test_a_model_next_to_its_base(loader, folder, tmp_path, monkeypatch):
    tuned = tiny.llama()
    with torch.no_grad():
        tuned.lm_head.weight[3] *= 1.5
    save_pretrained(tuned, tmp_path / "tuned", base=folder)
    model, config = Model(tuned.state_dict()), ModelConfig(str(tmp_path / "tuned"))
    with pytest.raises(weightzip.InvalidArgumentError, match="base model not found"):
        loader.load_weights(model, config)
    monkeypatch.setenv("WEIGHTZIP_BASE_PATH", str(folder))
    loader.load_weights(model, config)
    assert model.has(tuned.state_dict())
