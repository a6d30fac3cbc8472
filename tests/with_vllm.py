"""Loads a model by weightzip.vllm with vLLM itself, beside its own reader of safetensors. A development tool.

    python tests/with_vllm.py

Needs vllm (0.33.0 was tried) and weightzip in an environment of their own, 9 GB, and no GPU: vLLM's CPU platform is chosen, whose kernels
only inference needs. The tests themselves use tests/torch/vllm_stub.py instead.
"""

import shutil
import tempfile
from pathlib import Path

import torch
import vllm.platforms
import weightzip
from transformers import LlamaConfig, LlamaForCausalLM
from vllm.platforms.cpu import CpuPlatform
from weightzip import sync

vllm.platforms._current_platform = CpuPlatform()

from vllm.config import set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader import get_model, get_model_loader
from vllm.model_executor.model_loader.reload.inplace import reload_weights


def main():
    with tempfile.TemporaryDirectory() as folder:
        plain, compressed = Path(folder, "plain"), Path(folder, "compressed")
        model = save(plain)
        compress(plain, compressed)
        rendezvous = Path(folder, "rendezvous").as_uri()
        config = engine(compressed, "weightzip")
        with set_current_vllm_config(config):
            init_distributed_environment(1, 0, rendezvous, 0, "gloo")
            initialize_model_parallel(1, 1)
        ours, theirs = load(config), load(engine(plain, "safetensors"))
        check("loaded as from safetensors", ours, theirs)

        zero(ours)
        with set_current_vllm_config(config):
            reload_weights(config, ours, None, None, True)
        check("loaded again", ours, theirs)

        loader = get_model_loader(config.load_config)
        held = dict(loader.get_all_weights(config.model_config, ours))
        with torch.no_grad():
            model.lm_head.weight[::7] *= 1.01
            model.model.layers[0].self_attn.q_proj.weight[::3] *= 1.01
        sync.apply_in_place(held, sync.diff(held, model.state_dict()))
        model.save_pretrained(Path(folder, "updated"))
        theirs = load(engine(Path(folder, "updated"), "safetensors"))
        with set_current_vllm_config(config):
            reload_weights(config, ours, held.items(), None, True)
        check("updated", ours, theirs)


def save(folder):
    """A small model in several shards."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 512, "head_dim": 32}
    model = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)).bfloat16()
    model.save_pretrained(folder, max_shard_size="200kB")
    return model


def compress(plain, folder):
    folder.mkdir()
    for file in plain.iterdir():
        if file.suffix == ".safetensors":
            weightzip.write([file.read_bytes()], folder / f"{file.name}.wz")
        else:
            shutil.copy(file, folder)


def engine(folder, load_format):
    options = {"skip_tokenizer_init": True, "enforce_eager": True, "dtype": "bfloat16"}
    return EngineArgs(model=str(folder), load_format=load_format, **options).create_engine_config()


def load(config):
    with set_current_vllm_config(config):
        return get_model(vllm_config=config)


def zero(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()


def check(what, ours, theirs):
    got, expected = ours.state_dict(), theirs.state_dict()
    assert got.keys() == expected.keys(), what
    different = [name for name, tensor in expected.items() if not torch.equal(got[name], tensor)]
    assert not different, f"{what}: {different}"
    print(f"{what}: {len(got)} tensors are the same", flush=True)


if __name__ == "__main__":
    main()
