"""Files of formats without a finder: their floats are found by what they look like."""

import io

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.torch
import torch
import weightzip


@pytest.fixture(scope="module", params=["minilm_bf16", "minilm_fp16", "minilm_fp32"])
def model(request, minilm_files):
    """The real model: a safetensors file of it."""
    return minilm_files[request.param].read_bytes()


def array_of(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)


def hdf5(tensors) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as out:
        for name, tensor in tensors.items():
            array = array_of(tensor)
            # HDF5 has no BF16: its bits are what is stored.
            out[name.replace(".", "/")] = array.view("u2") if array.dtype == ml_dtypes.bfloat16 else array
    return file.getvalue()


def old_torch(tensors) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


# How far the share of the file may be from that of safetensors. Old torch.save orders tensors by their address in
# memory, which decides what shares a block: 0.5 to 0.8 points for one model.
APART = [(hdf5, 0.007), (old_torch, 0.01)]


@pytest.mark.parametrize(("save", "apart"), APART)
def test_real_weights_come_back_and_are_nearly_as_small_as_safetensors(model, save, apart):
    content = save(dict(sorted(safetensors.torch.load(model).items())))
    compressed = weightzip.write_bytes([content])
    archive = weightzip.open(compressed)
    assert (archive.info.format, len(archive)) == ("opaque", 0)
    assert archive.original() == content
    best = len(weightzip.write_bytes([model])) / len(model)
    assert len(compressed) / len(content) < best + apart
