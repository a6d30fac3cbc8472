"""Models of transformers from compressed weights, and back: `from_pretrained` and `save_pretrained`."""

import inspect
import os
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import SAFE_WEIGHTS_NAME

from weightzip._lazy import StateDict
from weightzip._repository import Repository
from weightzip._saving import NO_PUSH, save_compressed
from weightzip.archive import Base, Lossy

__all__ = ["from_pretrained", "save_pretrained", "state_dict"]

FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
"""Types that a model as a whole can have."""


def from_pretrained(
    cls: type,
    pretrained_model_name_or_path: str | os.PathLike[str],
    *model_args: Any,
    config: PreTrainedConfig | str | os.PathLike[str] | None = None,
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
    variant: str | None = None,
    trust_remote_code: bool | None = None,
    base: Base = None,
    **kwargs: Any,
) -> Any:
    """What `cls.from_pretrained(pretrained_model_name_or_path, ...)` gives, where weights may be .safetensors.wz.

    `cls` is a model class or an auto class, such as `AutoModelForCausalLM`; all other arguments are
    those of its own `from_pretrained`. Each tensor is decoded when transformers asks for it. `base` is
    where files find what they are coded against (see `weightzip.open`).
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
    if dtype is None:
        dtype = kwargs.pop("torch_dtype", None)
    if not isinstance(config, PreTrainedConfig):
        config, kwargs = _config(cls, config, repository, trust_remote_code, kwargs)
    generation_config = kwargs.pop("generation_config", None)
    output_loading_info = kwargs.pop("output_loading_info", False)
    weights = repository.weights(*_weights_name(config, variant))
    model_class, config = _model_class(cls, config, repository, trust_remote_code)
    with StateDict(weights, base) as tensors:
        model, info = model_class.from_pretrained(
            None,
            *model_args,
            config=config,
            state_dict=tensors,
            dtype=_dtype(dtype, config, tensors),
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **kwargs,
        )
    model.name_or_path = model.config.name_or_path = repository.place
    if model.can_generate():
        model.generation_config = generation_config or _generation_config(model, repository)
    return (model, info) if output_loading_info else model


def save_pretrained(
    model: PreTrainedModel,
    save_directory: str | os.PathLike[str],
    *arguments: Any,
    level: str = "default",
    base: Base = None,
    lossy: Lossy = None,
    **kwargs: Any,
) -> None:
    """What `model.save_pretrained(save_directory, ...)` writes, with weights as .safetensors.wz.

    Takes the same arguments, but those that write elsewhere. `level`, `base` and `lossy` are those of `weightzip.write`;
    rounded weights are .safetensors.lossy.wz. The plain weights are in a folder of `save_directory` for a while.
    """
    given = inspect.signature(model.save_pretrained).bind(save_directory, *arguments, **kwargs).arguments
    if given.get("push_to_hub"):
        raise ValueError(NO_PUSH.format(save_directory))
    if given.get("distributed_checkpoint"):
        raise ValueError(
            "distributed_checkpoint isn't taken here: its files are for training alone"
        )
    save_compressed(
        lambda plain: model.save_pretrained(plain, *arguments, **kwargs),
        save_directory,
        level,
        base,
        lossy,
    )


def state_dict(
    path_or_repo_id: str | os.PathLike[str],
    *,
    variant: str | None = None,
    weights_name: str = SAFE_WEIGHTS_NAME,
    base: Base = None,
    **place: Any,
) -> StateDict:
    """The tensors of a folder, a repository or a single file by name, each read when it is indexed.

    `place` is what `from_pretrained` takes to find files: revision, token, cache_dir,
    local_files_only, force_download, subfolder. `base` is that of `weightzip.open`.
    """
    repository = Repository.open(path_or_repo_id, **place)
    return StateDict(repository.weights(weights_name, variant), base)


def _config(
    cls: Any,
    path: str | os.PathLike[str] | None,
    repository: Repository,
    trust_remote_code: bool | None,
    kwargs: dict[str, Any],
) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """The model's config with what the caller changes of it, and the arguments that are for the model."""
    config_class = cls.config_class if issubclass(cls, PreTrainedModel) else AutoConfig
    # An argument of the model, which a config would take as its own.
    quantization = {k: kwargs[k] for k in ("quantization_config",) if k in kwargs}
    config, rest = config_class.from_pretrained(
        path or repository.place,
        return_unused_kwargs=True,
        trust_remote_code=trust_remote_code,
        **repository.hub_arguments(),
        **{k: v for k, v in kwargs.items() if k not in quantization},
    )
    rest.pop("trust_remote_code", None)
    return config, rest | quantization


def _weights_name(config: PreTrainedConfig, variant: str | None) -> tuple[str, str | None]:
    """What the weights are called, and which variant of them is meant."""
    own = getattr(config, "transformers_weights", None)
    return (own, None) if own else (SAFE_WEIGHTS_NAME, variant)


def _model_class(
    cls: Any, config: PreTrainedConfig, repository: Repository, trust_remote_code: bool | None
) -> tuple[Any, PreTrainedConfig]:
    """The class that an auto class stands for, and its part of the config."""
    if issubclass(cls, PreTrainedModel):
        return cls, config
    in_repository = (getattr(config, "auto_map", None) or {}).get(cls.__name__)
    if trust_remote_code and in_repository:
        arguments = repository.hub_arguments()
        return get_class_from_dynamic_module(in_repository, repository.place, **arguments), config
    # An auto class takes no tensors. It tells what it stands for by a model without memory.
    with torch.device("meta"):
        model = cls.from_config(config)
    same = isinstance(config, type(model.config))
    return type(model), config if same else model.config


def _dtype(
    dtype: str | torch.dtype | None, config: PreTrainedConfig, tensors: StateDict
) -> str | torch.dtype:
    """The type to load as: as asked for, else the config's, else that of the first tensor that has one."""
    if dtype not in (None, "auto") or config.dtype is not None:
        return dtype or "auto"
    found = (FLOATS.get(tensor.get_dtype()) for tensor in tensors.values())
    return next((float_type for float_type in found if float_type), torch.float32)


def _generation_config(model: PreTrainedModel, repository: Repository) -> GenerationConfig:
    arguments = repository.hub_arguments()
    try:
        return GenerationConfig.from_pretrained(repository.place, **arguments)
    except OSError:
        # Older models have it in their config, which drops it when it is read.
        config, _ = type(model.config).get_config_dict(repository.place, **arguments)
        return GenerationConfig.from_model_config(config)
