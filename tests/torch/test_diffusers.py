"""weightzip.diffusers beside diffusers itself."""

import numpy as np
import pytest
import safetensors.torch
import tiny
import torch
import weightzip
from diffusers import AutoencoderKL, DDPMPipeline, DDPMScheduler, Transformer2DModel, UNet2DModel
from weightzip.diffusers import from_pretrained, save_pretrained


def unet() -> UNet2DModel:
    torch.manual_seed(1)
    blocks = {
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DModel(
        sample_size=8, block_out_channels=(32, 32), norm_num_groups=8, layers_per_block=1, **blocks
    ).eval()


def vae() -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(block_out_channels=(32,), norm_num_groups=8, sample_size=8).eval()


def transformer() -> Transformer2DModel:
    torch.manual_seed(3)
    return Transformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=32, norm_num_groups=8
    ).eval()


MODELS = {"unet": unet, "vae": vae, "transformer": transformer}


def output(model: torch.nn.Module) -> torch.Tensor:
    torch.manual_seed(4)
    with torch.no_grad():
        if isinstance(model, AutoencoderKL):
            return model(torch.randn(1, 3, 8, 8).to(model.dtype)).sample
        if isinstance(model, Transformer2DModel):
            return model(torch.randn(1, 32, 4, 4).to(model.dtype)).sample
        return model(torch.randn(1, 3, 8, 8).to(model.dtype), timestep=3).sample


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shards", ["one file", "sharded"])
@pytest.mark.parametrize("name", MODELS)
def test_loads_as_diffusers_does(wz, tmp_path, name, shards, dtype):
    model = MODELS[name]().to(torch.bfloat16)
    plain, folder = tmp_path / "plain", tmp_path / "plain.wz"
    model.save_pretrained(plain, **({"max_shard_size": "8KB"} if shards == "sharded" else {}))
    wz("compress", "--quiet", plain)
    assert len(list(folder.glob("*.safetensors.wz"))) > 1 or shards == "one file"

    stock = type(model).from_pretrained(plain, torch_dtype=dtype)
    ours = from_pretrained(type(model), folder, torch_dtype=dtype)
    tiny.assert_same_weights(ours, stock)
    assert torch.equal(output(ours), output(stock))
    assert not ours.training
    assert ours.config == stock.config | {"_name_or_path": str(folder)}
    assert all(
        a.requires_grad == b.requires_grad
        for a, b in zip(ours.parameters(), stock.parameters(), strict=True)
    )


def test_attention_under_its_old_names(wz, tmp_path):
    model = vae()
    plain, folder = tmp_path / "plain", tmp_path / "plain.wz"
    model.save_pretrained(plain)
    file = plain / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = safetensors.torch.load_file(file)
    for new_name, old_name in old.items():
        tensors = {k.replace(new_name, old_name): v for k, v in tensors.items()}
    assert any("proj_attn" in name for name in tensors)
    safetensors.torch.save_file(tensors, file)
    wz("compress", "--quiet", plain)
    tiny.assert_same_weights(from_pretrained(AutoencoderKL, folder), model)


def test_a_pipeline_takes_the_models(tmp_path):
    pipeline = DDPMPipeline(unet(), DDPMScheduler(num_train_timesteps=4))
    pipeline.save_pretrained(tmp_path / "plain")
    save_pretrained(pipeline, tmp_path / "packed")
    assert not list((tmp_path / "packed").rglob("*.safetensors"))
    ours = DDPMPipeline.from_pretrained(
        tmp_path / "packed",
        unet=from_pretrained(UNet2DModel, tmp_path / "packed", subfolder="unet"),
    )
    stock = DDPMPipeline.from_pretrained(tmp_path / "plain")
    tiny.assert_same_weights(ours.unet, stock.unet)
    images = [
        p(
            num_inference_steps=2, generator=torch.Generator().manual_seed(5), output_type="np"
        ).images
        for p in (ours, stock)
    ]
    # Where weights lie in memory decides how a convolution is summed up.
    np.testing.assert_allclose(*images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"max_shard_size": "40KB"}, {"variant": "fp16"}])
def test_save_writes_what_diffusers_writes(wz, tmp_path, arguments):
    model = unet()
    model.save_pretrained(tmp_path / "stock", **arguments)
    save_pretrained(model, tmp_path / "ours", **arguments)
    wz("decompress", "--quiet", tmp_path / "ours", "-o", tmp_path / "back")
    for path in (tmp_path / "stock").iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes(), path.name
    ours = from_pretrained(UNet2DModel, tmp_path / "ours", variant=arguments.get("variant"))
    tiny.assert_same_weights(ours, model)
    with pytest.raises(ValueError, match="hf upload"):
        save_pretrained(model, tmp_path / "ours", push_to_hub=True)


def test_weights_of_another_model(tmp_path):
    save_pretrained(unet(), tmp_path)
    vae().save_config(tmp_path)
    with pytest.raises(ValueError, match="the weights lack decoder.* of AutoencoderKL"):
        from_pretrained(AutoencoderKL, tmp_path)


def test_weights_without_use_are_told(tmp_path):
    model = vae()
    model.register_parameter("extra", torch.nn.Parameter(torch.zeros(3)))
    save_pretrained(model, tmp_path)
    with pytest.warns(UserWarning, match="no use for extra"):
        from_pretrained(AutoencoderKL, tmp_path)


def test_quantized_models_are_refused(tmp_path):
    save_pretrained(vae(), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text().replace("{", '{"quantization_config": {"quant_method": "x"},', 1)
    )
    with pytest.raises(ValueError, match="wz decompress"):
        from_pretrained(AutoencoderKL, tmp_path)


def test_a_fine_tune_next_to_its_base(tmp_path):
    model = unet()
    save_pretrained(model, tmp_path / "base")
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 1 + 1e-3
    save_pretrained(model, tmp_path / "tuned", base=tmp_path / "base")
    with pytest.raises(weightzip.InvalidArgumentError, match="base model not found"):
        from_pretrained(UNet2DModel, tmp_path / "tuned")
    again = from_pretrained(UNet2DModel, tmp_path / "tuned", base=tmp_path / "base")
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in model.state_dict().items())
