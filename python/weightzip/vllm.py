"""vLLM's load format `weightzip`: models from folders and repositories of `.safetensors.wz`.

An installed package registers it by itself, in every process of vLLM: `vllm serve my-model.wz --load-format weightzip`.
"""

import glob
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from vllm.config import ModelConfig
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

import weightzip
from weightzip._repository import Repository

__all__ = ["ModelLoader", "register"]

WEIGHTS = "model.safetensors"
"""What the weights of a model are called, or their index, with more behind it."""

# What vLLM's own readers of plain files can be told, and this one has no use for.
_OF_OTHERS = ("enable_multithread_load", "num_threads")


@cache
def register() -> None:
    """Makes `weightzip` one of vLLM's load formats."""
    register_model_loader("weightzip")(ModelLoader)


class ModelLoader(DefaultModelLoader):
    """Loads what `DefaultModelLoader` loads, and checks it as that does, of files that may be compressed.

    Tensors are decoded one by one, when vLLM asks for them, each by all cores; there is memory for one of them. What
    `weightzip.transformers` finds is found here: `model.safetensors`, its shards by their index, or the `.wz` of either.
    """

    def __init__(self, load_config: LoadConfig) -> None:
        """Raises `ValueError` for options of vLLM that don't apply."""
        super().__init__(load_config)
        # When reading began: vLLM tells how long it took.
        self.counter_before_loading_weights = 0.0
        unused = [name for name in _OF_OTHERS if name in load_config.model_loader_extra_config]
        if unused:
            raise ValueError(
                f"load format weightzip has no option {', '.join(unused)}: it decodes with all cores; leave it out"
            )

    def download_model(self, model_config: ModelConfig) -> None:
        """Puts the files of a repository into the cache of the hub."""
        self._files(self.Source(model_config.model, model_config.revision))

    def get_all_weights(self, model_config: ModelConfig, model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors of a model by name, and those of others that it is made of.

        vLLM asks for them when it loads a model, and again for `reload_weights`, after a deep sleep. Those that the model says
        it has no use for are left out.
        """
        if self.load_config.safetensors_load_strategy == "torchao":
            raise ValueError("load format weightzip can't put torchao's weights together: use load format safetensors")
        if not self.counter_before_loading_weights:
            self.counter_before_loading_weights = time.perf_counter()
        patterns = getattr(model, "allow_patterns_overrides", None)
        yield from self._weights(
            self.Source(
                model_config.model,
                model_config.revision,
                allow_patterns_overrides=patterns,
                is_unused_weight=getattr(model, "is_unused_checkpoint_weight", None),
            )
        )
        for source in getattr(model, "secondary_weights", ()):
            yield from self._weights(source)

    def _weights(self, source: Any) -> Iterator[tuple[str, torch.Tensor]]:
        for file in self._files(source):
            with weightzip.safe_open(file, "pt") as tensors:
                for name in tensors.offset_keys():
                    if source.is_unused_weight is None or not source.is_unused_weight(name):
                        yield source.prefix + name, tensors.get_tensor(name)

    def _files(self, source: Any) -> list[str]:
        """The files of a source, on this machine."""
        names = source.allow_patterns_overrides or [WEIGHTS]
        other = next((name for name in names if glob.has_magic(name) or not name.endswith(".safetensors")), None)
        if other is not None:
            raise ValueError(f"this model reads {other!r}, which load format weightzip doesn't: use load format auto")
        repository = Repository.open(
            source.model_or_path,
            revision=source.revision,
            cache_dir=self.load_config.download_dir,
            subfolder=source.subfolder,
        )
        return [file for name in names for file in repository.weights(name)]
