"""The small model in crates/cli/assets/, and what `wz demo` says about it."""

import json

import ml_dtypes
import numpy as np
import safetensors.numpy
from conftest import ROOT

FP32 = ROOT / "crates/cli/assets/tiny_gpt_fp32.safetensors"
BF16 = ROOT / "crates/cli/assets/tiny_gpt_bf16.safetensors"


def test_the_twins_are_the_same_weights_and_small():
    wide, narrow = (safetensors.numpy.load_file(path) for path in (FP32, BF16))
    assert FP32.stat().st_size <= 2.4e6
    assert BF16.stat().st_size <= 1.2e6
    assert wide.keys() == narrow.keys()
    for name, tensor in wide.items():
        assert tensor.dtype == np.float32
        assert narrow[name].tobytes() == tensor.astype(ml_dtypes.bfloat16).tobytes(), name


def test_demo_reports_both_models(wz):
    report = json.loads(wz("demo", "--json"))
    assert [model["file"] for model in report["models"]] == [BF16.name, FP32.name]
    for model, path in zip(report["models"], (BF16, FP32)):
        assert model["bytes"] == path.stat().st_size == sum(c["before"] for c in model["classes"])
        assert model["compressed"] == sum(c["after"] for c in model["classes"])
        sizes = {codec["name"]: codec["compressed"] for codec in model["codecs"]}
        assert sizes["weightzip"] == model["compressed"] == min(sizes.values())
        assert all(c["compress_gbps"] > 0 and c["decompress_gbps"] > 0 for c in model["codecs"])


def test_demo_says_that_the_bytes_are_identical(wz):
    text = wz("demo").decode()
    assert text.count("byte by byte: identical") == 2
    assert max(map(len, text.splitlines())) <= 80
