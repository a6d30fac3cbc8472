"""Small random models, and how two of them are compared."""

import hashlib

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)


def llama(tied: bool = False) -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16).eval()


def bert() -> BertForMaskedLM:
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    return BertForMaskedLM(config).to(torch.bfloat16).eval()


def vit() -> ViTForImageClassification:
    torch.manual_seed(3)
    config = ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    return ViTForImageClassification(config).to(torch.bfloat16).eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    """What a model of this file says to a fixed input."""
    with torch.no_grad():
        if isinstance(model, ViTForImageClassification):
            torch.manual_seed(4)
            return model(torch.randn(2, 3, 32, 32).to(model.dtype)).logits
        return model(torch.arange(40).reshape(2, 20)).logits


def assert_same_weights(a: torch.nn.Module, b: torch.nn.Module) -> None:
    """Same names, types, shapes and bits."""
    left, right = a.state_dict(), b.state_dict()
    assert list(left) == list(right)
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        assert tensor.shape == right[name].shape, name
        assert bits(tensor) == bits(right[name]), name


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def digest(model: torch.nn.Module) -> str:
    """A hash of all names, types and bits."""
    told = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + bits(tensor))
    return told.hexdigest()
