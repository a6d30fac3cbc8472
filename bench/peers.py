"""The codecs that bench/compare.py compares, each behind `encode` and `decode`.

A codec is told the dtype where its package has such a thing, and of several ways that its package
offers for a dtype it takes the smallest. Packages are imported when a codec is made, so that one
that is missing is a line in the table and no more.
"""

import importlib.metadata
import itertools
import math
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ITEM_BYTES = {"bf16": 2, "f16": 2, "f32": 4, "f8_e4m3": 1}


class Unfit(Exception):
    """A package can't do this dtype; the text says why."""


class Codec:
    """What every codec has. `sample` in `__init__` is data to choose settings by, outside any timer."""

    package = ""
    # Whether more threads than one do anything.
    threads_encode = threads_decode = False
    # At most so many bytes are timed; None for all.
    limit = None

    def __init__(self, dtype: str, threads: int, sample: np.ndarray):
        pass

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version(cls.package)

    def consists_of(self, tensors: list[tuple[int, list[int]]]):
        """Told bytes and shape of each tensor in the data, in order; the data may repeat them."""

    def before(self):
        """Called before each round trip, outside any timer: for settings of a whole process."""

    def file_percent(self, path: Path) -> float | None:
        """The size of the whole file in the package's own format for model files, if it has one."""
        return None

    def encode(self, data: bytearray | memoryview):
        """The coded form of `data`, which a codec may overwrite."""
        raise NotImplementedError

    def decode(self, coded, out: np.ndarray):
        """Decodes into `out` if the package can, else into memory of its own; returns which."""
        raise NotImplementedError


class Weightzip(Codec):
    package = "weightzip"
    threads_encode = threads_decode = True

    def __init__(self, dtype, threads, sample):
        import weightzip

        self.module, self.dtype, self.threads = weightzip, dtype, threads

    def before(self):
        self.module.set_threads(self.threads)

    def file_percent(self, path):
        whole = np.memmap(path, np.uint8, "r")
        return len(self.module.write_bytes([whole])) / len(whole) * 100

    def encode(self, data):
        return self.module.compress(data, self.dtype)

    def decode(self, coded, out):
        self.module.decompress_into(coded, out)
        return out


class Parts(list):
    """Frames, one behind another."""

    def __len__(self):
        return sum(map(len, self))


class WeightzipMax(Weightzip):
    """Level max, which is told rows: a frame per large tensor, one for small neighbours."""

    SMALL = 32 << 10

    def consists_of(self, tensors):
        self.tensors, joined = [], False
        for size, shape in tensors:
            small = math.prod(shape) < self.SMALL
            if small and joined:
                size += self.tensors.pop()[0]
            self.tensors.append((size, 0 if small or len(shape) < 2 else shape[-1]))
            joined = small

    def file_percent(self, path):
        whole = np.memmap(path, np.uint8, "r")
        return len(self.module.write_bytes([whole], "max")) / len(whole) * 100

    def parts(self, data):
        """The data of each part, and its row."""
        data, at = memoryview(data), 0
        for size, row in itertools.cycle(self.tensors):
            if at >= len(data):
                return
            yield data[at : at + size], row
            at += size

    def encode(self, data):
        compress = self.module.compress
        return Parts(compress(part, self.dtype, "max", row=row) for part, row in self.parts(data))

    def decode(self, coded, out):
        for frame, (part, _) in zip(iter(coded), self.parts(out)):
            self.module.decompress_into(frame, part)
        return out


class ZipNN(Codec):
    package = "zipnn"
    threads_encode = threads_decode = True
    NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32", "f8_e4m3": "float8_e4m3fn"}

    def __init__(self, dtype, threads, sample):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, at import
            import zipnn
        self.zipnn = zipnn.ZipNN(bytearray_dtype=self.NAMES[dtype], threads=threads)

    def encode(self, data):
        return self.zipnn.compress(data)

    def decode(self, coded, out):
        return self.zipnn.decompress(coded)


class Zstd(Codec):
    package = "zstandard"
    threads_encode = True
    level = 0

    def __init__(self, dtype, threads, sample):
        import zstandard

        workers = 0 if threads == 1 else threads
        self.compressor = zstandard.ZstdCompressor(level=self.level, threads=workers)
        self.decompressor = zstandard.ZstdDecompressor()

    def encode(self, data):
        return self.compressor.compress(data)

    def decode(self, coded, out):
        return self.decompressor.decompress(coded)


class Zstd1(Zstd):
    level = 1


class Zstd3(Zstd):
    level = 3


class Blosc2(Codec):
    """A filter over blocks that fit a cache, then a codec."""

    package = "blosc2"
    threads_encode = threads_decode = True
    filter = "SHUFFLE"

    def __init__(self, dtype, threads, sample):
        import blosc2

        self.blosc2, self.threads = blosc2, threads
        self.settings = {
            "codec": blosc2.Codec.ZSTD,
            "clevel": 1,
            "typesize": ITEM_BYTES[dtype],
            "filters": [blosc2.Filter[self.filter]],
            "filters_meta": [0],
            "nthreads": threads,
        }

    def encode(self, data):
        return self.blosc2.compress2(data, **self.settings)

    def decode(self, coded, out):
        self.blosc2.decompress2(coded, dst=out, nthreads=self.threads)
        return out


class Blosc2Bit(Blosc2):
    filter = "BITSHUFFLE"


class XetLz4(Blosc2):
    """What the Hub's storage does to a chunk: bytes grouped by four, then LZ4, over 64 KiB.

    Its own code can't be called from Python. Blosc2's shuffle is the same grouping, with SIMD.
    """

    def __init__(self, dtype, threads, sample):
        super().__init__(dtype, threads, sample)
        self.settings |= {
            "codec": self.blosc2.Codec.LZ4,
            "clevel": 9,  # of Blosc2; LZ4's own default
            "typesize": 4,
            "blocksize": 64 << 10,
            "splitmode": self.blosc2.SplitMode.NEVER_SPLIT,
        }


class Pcodec(Codec):
    package = "pcodec"
    VIEWS = {
        "bf16": (np.uint16,),
        "f16": (np.uint16, np.float16),
        "f32": (np.uint32, np.float32),
        "f8_e4m3": (np.uint8,),
    }

    def __init__(self, dtype, threads, sample):
        from pcodec import ChunkConfig, standalone

        self.pcodec, self.config = standalone, ChunkConfig(enable_8_bit=ITEM_BYTES[dtype] == 1)
        self.view = smallest(self.VIEWS[dtype], lambda view: self.compress(sample, view))

    def compress(self, data, view):
        return self.pcodec.simple_compress(np.frombuffer(data, view), self.config)

    def encode(self, data):
        return self.compress(data, self.view)

    def decode(self, coded, out):
        self.pcodec.simple_decompress_into(coded, out.view(self.view))
        return out


class OpenZL(Codec):
    """Exponents entropy-coded apart; the rest as it is or by byte lanes, or byte lanes alone."""

    package = "openzl"
    entropy = ""
    DECONSTRUCT = {"bf16": "BFloat16Deconstruct", "f16": "Float16Deconstruct", "f32": "Float32Deconstruct"}

    def __init__(self, dtype, threads, sample):
        from openzl import ext

        self.ext, self.dtype = ext, dtype
        self.context, self.decoder = ext.CCtx(), ext.DCtx()
        ways = ("plain",) if dtype not in self.DECONSTRUCT else ("store", "lanes", "bytes")
        self.select(smallest(ways, lambda way: (self.select(way), self.encode(sample))[1]))

    def select(self, way):
        compressor = self.ext.Compressor()
        compressor.set_parameter(self.ext.CParam.FormatVersion, self.ext.MAX_FORMAT_VERSION)
        compressor.select_starting_graph(self.graph(compressor, way))
        self.compressor = compressor

    def graph(self, compressor, way):
        nodes, graphs = self.ext.nodes, self.ext.graphs
        entropy = getattr(graphs, self.entropy)
        if way == "plain":
            return entropy()(compressor)
        if way == "store":
            rest = graphs.Store()
        else:
            rest = nodes.TransposeSplit()(compressor, entropy())
        if way == "bytes":
            return nodes.ConvertNumToStructLE()(compressor, rest)
        return getattr(nodes, self.DECONSTRUCT[self.dtype])()(compressor, rest, entropy())

    def encode(self, data):
        numbers = np.frombuffer(data, f"<u{ITEM_BYTES[self.dtype]}")
        self.context.ref_compressor(self.compressor)
        return self.context.compress([self.ext.Input(self.ext.Type.Numeric, numbers)])

    def decode(self, coded, out):
        (decoded,) = self.decoder.decompress(coded)
        return decoded.content.as_nparray()


class OpenZLHuffman(OpenZL):
    entropy = "Huffman"


class OpenZLFse(OpenZL):
    entropy = "Fse"


class Lz4(Codec):
    package = "lz4"

    def __init__(self, dtype, threads, sample):
        import lz4.frame

        self.lz4 = lz4.frame

    def encode(self, data):
        return self.lz4.compress(data)

    def decode(self, coded, out):
        return self.lz4.decompress(coded)


class Zlib(Codec):
    package = "zlib"
    limit = 64 << 20

    @classmethod
    def version(cls):
        return zlib.ZLIB_RUNTIME_VERSION

    def encode(self, data):
        return zlib.compress(data)

    def decode(self, coded, out):
        return zlib.decompress(coded)


class Memcpy(Codec):
    """The yardstick: "decodes" by copying, between the same buffers as the others."""

    package = "numpy"
    threads_decode = True

    def __init__(self, dtype, threads, sample):
        self.threads, self.pool = threads, ThreadPoolExecutor(threads)

    def encode(self, data):
        return data

    def decode(self, coded, out):
        data = np.frombuffer(coded, np.uint8)
        if self.threads == 1:
            np.copyto(out, data)
        else:
            cuts = [len(data) * part // self.threads for part in range(self.threads + 1)]
            slices = [slice(*pair) for pair in zip(cuts, cuts[1:])]
            list(self.pool.map(lambda part: np.copyto(out[part], data[part]), slices))
        return out


def smallest(ways, compress):
    """The way that compresses best; ways that fail are left out, unless all do."""
    sizes, reason = {}, None
    for way in ways:
        try:
            sizes[way] = len(compress(way))
        except Exception as error:  # whatever a package raises
            reason = error
    if not sizes:
        raise Unfit(reason)
    return min(sizes, key=sizes.get)


# In the order of the tables.
CODECS = {
    "memcpy": Memcpy,
    "weightzip": Weightzip,
    "weightzip max": WeightzipMax,
    "ZipNN": ZipNN,
    "OpenZL huffman": OpenZLHuffman,
    "OpenZL fse": OpenZLFse,
    "pcodec": Pcodec,
    "Blosc2 shuffle + zstd 1": Blosc2,
    "Blosc2 bitshuffle + zstd 1": Blosc2Bit,
    "zstd -1": Zstd1,
    "zstd -3": Zstd3,
    "Xet grouping + lz4": XetLz4,
    "lz4": Lz4,
    "zlib": Zlib,
}
