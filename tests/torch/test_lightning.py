"""weightzip.lightning, in trainings of Lightning itself."""

import io

import fsspec
import pytest
import torch
import weightzip
import weightzip.torch
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from stored import equal
from torch.utils.data import DataLoader
from weightzip.lightning import WeightzipCheckpointIO

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of few workers and short trainings


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(32, 8)

    def training_step(self, batch, index):
        return self.layer(batch).square().mean()

    def test_step(self, batch, index):
        self.log("sum", self.layer.weight.sum())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


def data():
    return DataLoader(torch.randn(24, 32, generator=torch.manual_seed(1)), batch_size=4)


def trainer(folder, plugin, epochs, **options):
    callback = ModelCheckpoint(folder, filename="{epoch}", save_last=True, **options)
    return Trainer(
        plugins=[plugin],
        callbacks=[callback],
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def result(model):
    """What a training leaves."""
    return model.state_dict(), model.trainer.optimizers[0].state_dict(), model.trainer.global_step


def is_compressed(path) -> bool:
    with weightzip.open(path) as archive:
        return archive.info.format == "pytorch"


@pytest.fixture
def straight(tmp_path):
    """What four epochs without a break leave."""
    model = Module()
    trainer(tmp_path / "straight", WeightzipCheckpointIO(), 4).fit(model, data())
    return result(model)


@pytest.mark.parametrize("wrap", [lambda io: io, AsyncCheckpointIO])
def test_a_training_goes_on_bit_by_bit(wrap, straight, tmp_path):
    trainer(tmp_path / "run", wrap(WeightzipCheckpointIO(level="max")), 2).fit(Module(), data())
    names = {path.name for path in (tmp_path / "run").iterdir()}
    # Lightning's wrapper removes at once, even what is still to be saved; that stays.
    assert names - ({"epoch=0.ckpt"} if wrap is AsyncCheckpointIO else set()) == {"epoch=1.ckpt", "last.ckpt"}
    assert all(is_compressed(path) for path in (tmp_path / "run").iterdir())
    for resumed, folder in [(tmp_path / "run" / "epoch=1.ckpt", "again"), ("last", "run")]:
        model = Module()
        trainer(tmp_path / folder, wrap(WeightzipCheckpointIO()), 4).fit(model, data(), ckpt_path=resumed)
        assert equal(result(model), straight)


def test_the_best_one_is_tested(tmp_path):
    model = Module()
    training = trainer(tmp_path, WeightzipCheckpointIO(), 2)
    training.fit(model, data())
    expected = model.layer.weight.sum().item()
    model.layer.weight.data.zero_()
    assert training.test(model, data(), ckpt_path="best") == [{"sum": pytest.approx(expected)}]


def test_the_file_is_that_of_torch(tmp_path):
    trainer(tmp_path, WeightzipCheckpointIO(), 1).fit(Module(), data())
    path = tmp_path / "last.ckpt"
    ours = weightzip.torch.load(path)
    with weightzip.open(path) as archive:
        assert equal(ours["state_dict"], torch.load(io.BytesIO(archive.original()))["state_dict"])
        assert "state_dict.layer.weight" in archive
    plain = tmp_path / "plain.ckpt"
    torch.save(ours, plain)
    assert equal(WeightzipCheckpointIO().load_checkpoint(plain)["state_dict"], ours["state_dict"])


def test_early_ones_are_removed(tmp_path):
    trainer(tmp_path, WeightzipCheckpointIO(), 3, save_top_k=-1).fit(Module(), data())
    assert len(list(tmp_path.iterdir())) == 4
    WeightzipCheckpointIO().remove_checkpoint(tmp_path / "epoch=0.ckpt")
    WeightzipCheckpointIO().remove_checkpoint(tmp_path / "epoch=0.ckpt")
    assert {path.name for path in tmp_path.iterdir()} == {"epoch=1.ckpt", "epoch=2.ckpt", "last.ckpt"}


def test_other_file_systems(straight, tmp_path):
    folder = "memory://weightzip/run"
    trainer(folder, WeightzipCheckpointIO(), 2).fit(Module(), data())
    with fsspec.open(f"{folder}/last.ckpt", "rb") as file:
        assert is_compressed(file)
    model = Module()
    trainer(folder, WeightzipCheckpointIO(), 4).fit(model, data(), ckpt_path=f"{folder}/last.ckpt")
    assert equal(result(model), straight)
    WeightzipCheckpointIO().remove_checkpoint(f"{folder}/last.ckpt")
    assert not fsspec.filesystem("memory").exists("/weightzip/run/last.ckpt")


def test_fabric(tmp_path):
    fabric = Fabric(accelerator="cpu", plugins=[WeightzipCheckpointIO()])
    state = {"weight": torch.randn(30, 30), "step": 3}
    fabric.save(tmp_path / "a" / "b.ckpt", state)
    assert is_compressed(tmp_path / "a" / "b.ckpt") and equal(fabric.load(tmp_path / "a" / "b.ckpt"), state)


def test_a_failed_save_keeps_the_earlier_one(tmp_path):
    path = tmp_path / "a.ckpt"
    WeightzipCheckpointIO().save_checkpoint({"a": 1}, path)
    with pytest.raises(TypeError, match="storage_options isn't taken here"):
        WeightzipCheckpointIO().save_checkpoint({"a": 2}, path, {})
    with pytest.raises(weightzip.InvalidArgumentError, match="level"):
        WeightzipCheckpointIO(level="best").save_checkpoint({"a": 2}, path)
    assert WeightzipCheckpointIO().load_checkpoint(path) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_missing_checkpoint_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.ckpt"):
        WeightzipCheckpointIO().load_checkpoint(tmp_path / "nowhere.ckpt")
