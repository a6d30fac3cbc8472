"""GGUF files to measure with: the matrices of the MiniLM sentence model, quantised. A development tool.

    python bench/gguf_files.py FOLDER [--ggml LIBRARY]

Writes minilm_TYPE.gguf for each type that the gguf package can quantise to. With --ggml, also for the
types whose quantiser only the library of ggml has (K-quants and others); LIBRARY is libggml's shared object.

needs: gguf==0.19.0, and what bench/minilm.py needs (versions in tests/requirements.txt)
"""

import argparse
import ctypes
from pathlib import Path

import gguf
import minilm
import numpy as np
import safetensors.numpy
from gguf import GGMLQuantizationType as Type

OF_PACKAGE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4", "BF16", "F16"]
OF_LIBRARY = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S"]


def matrices(kind: Type) -> dict[str, np.ndarray]:
    """Its matrices; where rows are no whole blocks of this type, two are one."""
    block, _ = gguf.constants.GGML_QUANT_SIZES[kind]
    found = {}
    for name, array in safetensors.numpy.load(minilm.read_model()).items():
        if array.ndim == 2 and array.size > 1 << 16:
            width = array.shape[1] if array.shape[1] % block == 0 else 2 * array.shape[1]
            found[name] = np.ascontiguousarray(array.reshape(-1, width), np.float32)
    return found


def by_package(array: np.ndarray, kind: Type) -> np.ndarray:
    return gguf.quants.quantize(array, kind)


def by_library(library: ctypes.CDLL, array: np.ndarray, kind: Type) -> np.ndarray:
    rows, width = array.shape
    block, size = gguf.constants.GGML_QUANT_SIZES[kind]
    out = np.zeros((rows, width // block * size), np.uint8)
    weights = np.ones(width, np.float32)
    quantize = library.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    done = quantize(kind.value, array.ctypes.data, out.ctypes.data, 0, rows, width, weights.ctypes.data)
    assert done == out.nbytes, kind
    return out


def write(path: Path, arrays: dict[str, np.ndarray], kind: Type) -> Path:
    """A file of arrays whose bytes are of this type already."""
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_string("general.name", "MiniLM")
    writer.add_array("tokenizer.ggml.tokens", ["[PAD]", "[UNK]", "[CLS]"])
    writer.add_float32("bert.attention.layer_norm_epsilon", 1e-12)
    for name, array in arrays.items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ggml", metavar="LIBRARY")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in OF_PACKAGE:
        kind = Type[name]
        quantised = {key: by_package(array, kind) for key, array in matrices(kind).items()}
        print(write(given.folder / f"minilm_{name.lower()}.gguf", quantised, kind))
    if given.ggml:
        library = ctypes.CDLL(given.ggml)
        for name in OF_LIBRARY:
            kind = Type[name]
            quantised = {key: by_library(library, array, kind) for key, array in matrices(kind).items()}
            print(write(given.folder / f"minilm_{name.lower()}.gguf", quantised, kind))


if __name__ == "__main__":
    main()
