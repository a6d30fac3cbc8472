"""Models of diffusers from compressed weights, and back: `from_pretrained` and `save_pretrained`."""

import inspect
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME

from weightzip._lazy import StateDict
from weightzip._repository import Repository
from weightzip._saving import NO_PUSH, save_compressed
from weightzip.archive import Base, Lossy

__all__ = ["from_pretrained", "save_pretrained"]


def from_pretrained(
    cls: type,
    pretrained_model_name_or_path: str | os.PathLike[str],
    *,
    torch_dtype: torch.dtype | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str | None = None,
    variant: str | None = None,
    base: Base = None,
    **kwargs: Any,
) -> Any:
    """What `cls.from_pretrained(pretrained_model_name_or_path, ...)` gives, where weights may be .safetensors.wz.

    `cls` is a model class, such as `UNet2DConditionModel`; a pipeline takes the models that this loads
    as arguments. `base` is where files find what they are coded against (see `weightzip.open`). Further
    arguments change the model's config. The model is on the CPU.
    """
    repository = Repository.open(
        pretrained_model_name_or_path,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        force_download=force_download,
        subfolder=subfolder,
    )
    config, rest = cls.load_config(  # type: ignore[attr-defined]
        repository.place, return_unused_kwargs=True, **repository.hub_arguments(), **kwargs
    )
    if config.get("quantization_config"):
        raise ValueError(
            f"{repository}: quantized models aren't loaded from .wz; restore the files with "
            f"wz decompress, then load them with {cls.__name__}.from_pretrained"
        )
    with torch.device("cpu"), _default_dtype(torch_dtype), init_empty_weights():
        model = cls.from_config(config, **rest)  # type: ignore[attr-defined]
    weights = repository.weights(SAFETENSORS_WEIGHTS_NAME, variant)
    with StateDict(weights, base) as tensors:
        _fill(model, tensors, str(repository))
    model.register_to_config(_name_or_path=repository.place)
    return model.eval()


def save_pretrained(
    model: Any,
    save_directory: str | os.PathLike[str],
    *arguments: Any,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    **kwargs: Any,
) -> None:
    """What `model.save_pretrained(save_directory, ...)` writes, with weights as .safetensors.wz.

    Takes a model or a whole pipeline, and the same arguments, but those that write elsewhere or weights of another format.
    `level`, `base` and `lossy` are those of `weightzip.write`; rounded weights are .safetensors.lossy.wz. The plain
    weights are in a folder of `save_directory` for a while.
    """
    given = inspect.signature(model.save_pretrained).bind(save_directory, *arguments, **kwargs).arguments
    if given.get("push_to_hub"):
        raise ValueError(NO_PUSH.format(save_directory))
    if not given.get("safe_serialization", True) or given.get("use_flashpack"):
        raise ValueError("only safetensors files are compressed here: leave out safe_serialization and use_flashpack")
    save_compressed(
        lambda plain: model.save_pretrained(plain, *arguments, **kwargs), save_directory, level, base, lossy
    )


def _fill(model: Any, tensors: StateDict, place: str) -> None:
    """Puts tensors where the model has none yet, in the types that the model wants."""
    # Its name is private, but without it old models don't load: they have other names for attention.
    model._fix_state_dict_keys_on_load(tensors)
    expected = model.state_dict()
    kept_in_fp32 = set(model._keep_in_fp32_modules or ())

    def load(name: str) -> torch.Tensor:
        tensor = tensors[name][...]
        if kept_in_fp32.intersection(name.split(".")):
            return tensor.to(torch.float32)
        return tensor.to(expected[name].dtype)

    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise ValueError(
            f"{place}: the weights lack {', '.join(missing[:5])} ({len(missing)} in all) of "
            f"{type(model).__name__}; is it the class that they were saved from?"
        )
    unused = sorted(tensors.keys() - expected.keys())
    if unused:
        warnings.warn(
            f"{place}: {type(model).__name__} has no use for {', '.join(unused[:5])} "
            f"({len(unused)} in all)",
            stacklevel=3,
        )
    model.load_state_dict({name: load(name) for name in expected}, assign=True)


@contextmanager
def _default_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Makes new parameters and buffers of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
