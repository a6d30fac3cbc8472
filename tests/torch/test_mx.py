"""Weights as compressed-tensors quantises them to MX's and NVIDIA's small floats: numbers, and beside them their scales."""

import json

import pytest
import torch
from compressed_tensors.compressors.mxfp4 import MXFP4PackedCompressor
from compressed_tensors.compressors.mxfp8 import MXFP8QuantizationCompressor
from compressed_tensors.compressors.nvfp4 import NVFP4PackedCompressor
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import load_file, save_file

SHAPE = (1024, 1024)


def weight(seed: int) -> torch.Tensor:
    """Weights whose rows differ in size."""
    random = torch.Generator().manual_seed(seed)
    sizes = torch.exp(0.5 * torch.randn(SHAPE[0], 1, generator=random))
    return 0.02 * sizes * torch.randn(SHAPE, generator=random)


def quantised(compressor, scheme, tensor) -> dict[str, torch.Tensor]:
    groups = tensor.reshape(SHAPE[0], -1, scheme.weights.group_size)
    least, most = groups.amin(2), groups.amax(2)
    gparam = generate_gparam(least.amin(), most.amax()) if scheme.weights.group_size == 16 else None
    scale, _ = calculate_qparams(least, most, scheme.weights, global_scale=gparam)
    state = {"weight": tensor, "weight_scale": scale}
    if gparam is not None:
        state["weight_global_scale"] = gparam
    return compressor.compress(state, scheme)


def tensors(wz, file) -> dict[str, dict]:
    return {tensor["name"]: tensor for tensor in json.loads(wz("inspect", "--json", file))["tensors"]}


@pytest.mark.parametrize(
    ("compressor", "preset", "numbers", "coding"),
    [
        (NVFP4PackedCompressor, "NVFP4A16", "weight_packed", "scaled"),
        (MXFP4PackedCompressor, "MXFP4A16", "weight_packed", "scaled"),
        # Numbers of eight bits say enough of one another.
        (MXFP8QuantizationCompressor, "MXFP8A16", "weight", "ranges"),
    ],
)
def test_numbers_know_their_scales(wz, tmp_path, compressor, preset, numbers, coding):
    scheme = preset_name_to_scheme(preset, ["Linear"])
    path, target = tmp_path / "model.safetensors", tmp_path / "model.safetensors.wz"
    layers = {f"layers.{i}.down_proj": quantised(compressor, scheme, weight(i)) for i in range(2)}
    save_file({f"{layer}.{name}": t for layer, state in layers.items() for name, t in state.items()}, path)
    wz("compress", "--level", "max", path)
    assert wz("decompress", target, "-o", "-") == path.read_bytes()
    piped = tmp_path / "piped.wz"
    piped.write_bytes(wz("compress", "--level", "max", "-", "-o", "-", stdin=path.read_bytes()))
    beside, alone = (tensors(wz, file) for file in (target, piped))
    for layer in layers:
        name = f"{layer}.{numbers}"
        assert beside[name]["codings"] == [coding]
        if coding == "scaled":
            assert beside[name]["compressed"] < 0.997 * alone[name]["compressed"]

    # What the package makes of it is what it would have made of the file.
    path.unlink()
    wz("decompress", target)
    for layer, state in layers.items():
        loaded = {name: load_file(path)[f"{layer}.{name}"] for name in state}
        assert torch.equal(
            compressor.decompress(loaded, scheme)["weight"], compressor.decompress(state, scheme)["weight"]
        )
