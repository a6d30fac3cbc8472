"""A program that uses the package with types: checked by mypy, never run."""

import io
from pathlib import Path

import weightzip
from weightzip import sync
from weightzip.checkpoint import CheckpointStore


def frames(data: bytearray) -> bytes:
    frame: bytes = weightzip.compress(data, "bf16", progress=lambda done, total: print(done / total))
    out = bytearray(weightzip.frame_len(frame))
    weightzip.decompress_into(frame, out)
    whole: memoryview = weightzip.decompress(memoryview(frame))
    return bytes(whole)


def archives(path: Path, data: bytes) -> dict[str, tuple[int, ...]]:
    summary = weightzip.write([data, memoryview(data)], path)
    weightzip.write((data for _ in range(2)), io.BytesIO(), base=path)
    print(summary.blake3, summary.compressed_bytes, ", ".join(summary.bases))
    try:
        with weightzip.open(path, base=[path, "old"]) as archive, weightzip.open(io.BytesIO(path.read_bytes())) as other:
            sha256: str | None = archive.info.sha256
            print(sha256, len(other), "w" in archive)
            rows: memoryview = archive.rows("w", 0, 4)
            archive.read_many_into({"w": bytearray(rows.nbytes)})
            archive.read_many_into([("w", bytearray(rows.nbytes))])
            return {name: tensor.shape for name, tensor in archive.tensors.items()}
    except weightzip.CorruptionError as error:
        print(error.file, error.offset, error.tensor)
        raise


def tuned(path: Path) -> str:
    result = weightzip.tune(path, lambda model: float(len(model)), 0.001, log=path, max_evaluations=9)
    trial: weightzip.Trial = result.best
    print(trial.rules, trial.ratio, [trial.score for trial in result.trials])
    return result.rules_toml


def updates(old: dict[str, object], new: dict[str, object], path: Path) -> dict[str, object]:
    update: bytes = sync.diff(old, new, level="max")
    sync.write_diff(old, new, path)
    sync.apply_in_place(old, path, names=["w"])
    return sync.apply(old, io.BytesIO(update))


def steps(folder: Path) -> object:
    with CheckpointStore(folder, level="max", keep=3, max_host_bytes=1 << 30) as store:
        store.save(1, {"loss": [0.5, None]})
        number: int = store.steps()[-1].number
        return store.load(number, device="cpu")
