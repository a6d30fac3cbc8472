"""As much of vLLM as weightzip.vllm uses, with the names and signatures of vLLM 0.33.0.

Mirrored: `config.ModelConfig` and `config.load.LoadConfig` (fields that a loader reads), `model_executor.model_loader`'s
`register_model_loader` and `get_model_loader`, and `DefaultModelLoader` of `default_loader`: its `Source`, options, and the check
for weights that weren't loaded. tests/with_vllm.py does the same with vLLM itself.
"""

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@dataclass
class ModelConfig:
    model: str
    revision: str | None = None
    quantization: str | None = None


@dataclass
class LoadConfig:
    load_format: str = "auto"
    download_dir: str | None = None
    safetensors_load_strategy: str | None = None
    model_loader_extra_config: dict = field(default_factory=dict)


class DefaultModelLoader:
    @dataclass
    class Source:
        model_or_path: str
        revision: str | None
        subfolder: str | None = None
        prefix: str = ""
        fall_back_to_pt: bool = True
        allow_patterns_overrides: list[str] | None = None
        is_unused_weight: Any = None

    counter_before_loading_weights: float = 0.0

    def __init__(self, load_config):
        self.load_config = load_config
        known = {"enable_multithread_load", "num_threads", "enable_weights_track"}
        if unexpected := set(load_config.model_loader_extra_config) - known:
            raise ValueError(f"Unexpected extra config keys: {unexpected}")

    def load_weights(self, model, model_config):
        loaded = model.load_weights(self.get_all_weights(model_config, model))
        if missing := {name for name, _ in model.named_parameters()} - loaded:
            raise ValueError(f"Following weights were not initialized from checkpoint: {missing}")


LOADERS: dict[str, type] = {}


def register_model_loader(load_format):
    def register(loader):
        assert load_format not in LOADERS, "vLLM warns of that"
        LOADERS[load_format] = loader
        return loader

    return register


def get_model_loader(load_config):
    return LOADERS[load_config.load_format](load_config)


MODULES = {
    "vllm": {},
    "vllm.config": {"ModelConfig": ModelConfig},
    "vllm.config.load": {"LoadConfig": LoadConfig},
    "vllm.model_executor": {},
    "vllm.model_executor.model_loader": {"register_model_loader": register_model_loader},
    "vllm.model_executor.model_loader.default_loader": {"DefaultModelLoader": DefaultModelLoader},
}


@contextmanager
def installed():
    """Lets `weightzip.vllm` be imported, and forgets it afterwards."""
    before = {name: sys.modules.pop(name, None) for name in [*MODULES, "weightzip.vllm"]}
    for name, content in MODULES.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(content)
        sys.modules[name] = module
    LOADERS.clear()
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
