"""Near-lossless files, from Python."""

import math
import warnings

import numpy as np
import pytest
import weightzip
import weightzip.numpy


@pytest.fixture
def arrays():
    random = np.random.default_rng(9)
    weights = (random.standard_normal((300, 200)) * 0.05).astype(np.float32)
    weights[0, :3] = [np.nan, -np.inf, -0.0]
    return {"w": weights, "bias": weights[1].copy()}


@pytest.fixture
def file(arrays, tmp_path):
    path = tmp_path / "m.safetensors.wz"
    weightzip.numpy.save_file(arrays, path, lossy="abs=2^-12")
    return path


def test_numbers_are_rounded_within_the_bound(arrays, file):
    with pytest.warns(weightzip.LossyWarning, match=r"m\.safetensors\.wz.* 1 tensor was .*abs=2\^-12"):
        found = weightzip.numpy.load_file(file)
    old, new = arrays["w"], found["w"]
    assert np.array_equal(found["bias"], arrays["bias"])
    finite = np.isfinite(old)
    errors = np.abs(old[finite].astype(np.float64) - new[finite])
    assert 0 < errors.max() <= 2**-13
    assert np.array_equal(old[~finite], new[~finite], equal_nan=True)
    assert np.array_equal(np.signbit(old), np.signbit(new))
    assert file.stat().st_size < old.nbytes / 2
    with pytest.warns(weightzip.LossyWarning), weightzip.open(file) as archive:
        (loss,) = archive.losses.values()
        assert list(archive.losses) == ["w"]
        assert loss.max_abs == errors.max()
        assert math.isclose(loss.rmse, np.sqrt((errors**2).sum() / old.size), rel_tol=1e-9)
        assert 40 < loss.snr < 70
        assert archive.info.losses.rules == "abs=2^-12"


def test_a_file_is_told_of_once(file):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            weightzip.open(file).close()
    assert [warning.category for warning in caught] == [weightzip.LossyWarning]


def test_who_needs_lossless_files_can_say_so(file, arrays, tmp_path):
    with pytest.raises(weightzip.InvalidArgumentError, match="near-lossless"):
        weightzip.open(file, require_lossless=True)
    plain = tmp_path / "plain.safetensors.wz"
    weightzip.numpy.save_file(arrays, plain)
    with weightzip.open(plain, require_lossless=True) as archive:
        assert archive.info.losses is None
        assert not archive.losses


def test_rules_are_a_text_or_several_or_in_a_file(arrays, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text('default = "rel=2^-9"\n[tensors]\n"bi*" = "abs=2^-3"\n')
    for lossy in (f"@{rules}", ["rel=2^-9", "bi*:abs=2^-3"]):
        wz = weightzip.numpy.save(arrays, lossy=lossy)
        with pytest.warns(weightzip.LossyWarning), weightzip.open(wz) as archive:
            assert {name: loss.bound for name, loss in archive.losses.items()} == {
                "w": "rel=2^-9",
                "bias": "abs=2^-3",
            }
    summary = weightzip.write([b"abc"], tmp_path / "x.wz", lossy="abs=2^-3")
    assert summary.losses.tensors == ()
    assert weightzip.write([b"abc"], tmp_path / "x.wz").losses is None


@pytest.mark.parametrize(
    ("lossy", "words"),
    [("abs=much", "is not one of"), ("snr=60dB", "use abs or rel"), ("@nowhere.toml", "nowhere.toml")],
)
def test_what_is_no_rule_is_refused(arrays, tmp_path, lossy, words):
    path = tmp_path / "m.safetensors.wz"
    with pytest.raises(weightzip.WeightzipError, match=words):
        weightzip.numpy.save_file(arrays, path, lossy=lossy)
    assert not path.exists()
    with pytest.raises(ValueError, match=r"ends in \.wz"):
        weightzip.numpy.save_file(arrays, tmp_path / "m.safetensors", lossy="abs=2^-9")
    with pytest.raises(TypeError):
        weightzip.numpy.save_file(arrays, path, lossy=3)
