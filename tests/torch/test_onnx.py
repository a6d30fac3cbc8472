"""Files that the onnx package writes."""

import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors.numpy
import weightzip
from archives import archive_of, listed
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(0)


def model(initializers, nodes=()) -> onnx.ModelProto:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    return helper.make_model(helper.make_graph(list(nodes), "graph", [value], [value], list(initializers)))


DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "uint8": "U8",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
}


@pytest.mark.parametrize(("dtype", "name"), DTYPES.items())
def test_initializers_of_each_dtype(dtype, name):
    array = RNG.normal(0, 3, (12, 20)).astype(getattr(ml_dtypes, dtype, dtype))
    archive = archive_of(model([numpy_helper.from_array(array, "w")]).SerializeToString())
    assert (archive.info.format, listed(archive)) == ("onnx", {"w": (name, (12, 20))})
    assert archive.read("w") == array.tobytes()


def test_tensors_that_are_not_raw_and_those_in_nodes():
    numbers = RNG.normal(size=40)
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones((4, 9), "f4")))
    branch = helper.make_graph([constant], "branch", [], [], [numpy_helper.from_array(np.ones((5, 8)), "inner")])
    condition = helper.make_node("If", ["x"], ["y"], then_branch=branch)
    proto = model(
        [
            helper.make_tensor("floats", TensorProto.FLOAT, [40], numbers),
            helper.make_tensor("doubles", TensorProto.DOUBLE, [8, 5], numbers),
            helper.make_tensor("ints", TensorProto.INT64, [40], range(40)),  # packed one by one
            numpy_helper.from_array(np.ones(3, "f4"), "few"),
        ],
        [condition],
    )
    archive = archive_of(proto.SerializeToString())
    assert listed(archive) == {
        "floats": ("F32", (40,)),
        "doubles": ("F64", (8, 5)),
        "constant": ("F32", (4, 9)),
        "inner": ("F64", (5, 8)),
    }
    assert archive.read("floats") == numbers.astype("f4").tobytes()


def test_external_data(tmp_path):
    proto = model([numpy_helper.from_array(RNG.normal(size=(64, 64)).astype("f4"), "w")])
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    assert len(archive_of((tmp_path / "m.onnx").read_bytes())) == 0
    assert archive_of((tmp_path / "m.onnx.data").read_bytes()).info.format == "opaque"


def test_as_small_as_safetensors():
    arrays = {f"w.{i}": RNG.normal(0, 0.02, (300, 256)).astype("f4") for i in range(3)}
    proto = model(numpy_helper.from_array(array, name) for name, array in arrays.items())
    infos = [archive_of(content).info for content in (proto.SerializeToString(), safetensors.numpy.save(arrays))]
    ours, theirs = (info.compressed_bytes / info.original_bytes for info in infos)
    assert abs(ours - theirs) < 0.005


def test_what_is_cut_short_is_opaque():
    content = model([numpy_helper.from_array(np.ones((9, 9)), "w")]).SerializeToString()
    for file in (content[:-1], content + b"\0"):
        assert archive_of(file).info.format == "opaque"
