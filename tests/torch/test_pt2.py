"""Exported programs: their weights are found, and are as small as those of torch.save."""

import pytest
import torch
import weightzip


class Model(torch.nn.Module):
    """Weights, tied ones, a buffer, a part of one, and a constant."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(512, 256)
        self.hidden = torch.nn.Linear(256, 256)
        self.head = torch.nn.Linear(256, 512, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.rand(256))
        self.register_buffer("part", torch.rand(512)[128:384])
        self.constant = torch.arange(256, dtype=torch.float32)

    def forward(self, tokens):
        hidden = self.hidden(self.embedding(tokens)) * self.scale + self.part + self.constant
        return self.head(hidden)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    model = Model().eval()
    exported = torch.export.export(model, (torch.zeros(4, dtype=torch.int64),))
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    torch.export.save(exported, path)
    return path, model


def test_weights_are_found_by_their_names(wz, program, tmp_path):
    path, model = program
    wz("compress", path, "-o", tmp_path / "model.pt2.wz")
    assert wz("decompress", tmp_path / "model.pt2.wz", "-o", "-") == path.read_bytes()
    with weightzip.open(tmp_path / "model.pt2.wz") as archive:
        assert archive.info.format == "pytorch"
        for name in ("embedding.weight", "hidden.weight", "hidden.bias", "scale"):
            expected = model.state_dict()[name]
            assert archive.tensors[name].shape == tuple(expected.shape)
            assert bytes(archive.read(name)) == expected.numpy().tobytes()


def test_it_is_as_small_as_a_checkpoint(wz, program, tmp_path):
    path, model = program
    torch.save(model.state_dict(), tmp_path / "model.pt")
    shares = []
    for file in (path, tmp_path / "model.pt"):
        wz("compress", file, "-o", tmp_path / "out.wz", "-f")
        shares.append((tmp_path / "out.wz").stat().st_size / file.stat().st_size)
    assert shares[0] < shares[1] + 0.01, shares
