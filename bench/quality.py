"""What models are still good for, for bench/lossy.py: one small task for each kind of model.

Each is built once and then says of any weights how good they are; everything is seeded and in FP32.
needs: torch, safetensors, tokenizers, transformers, and what bench/minilm.py needs
"""

import ast
import json
import re
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, normalize, pad
from transformers import BertConfig, BertModel

import corpus
import minilm

NEIGHBOURS = 10


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()}


class Sentences:
    """MiniLM's embeddings of sentences: mean of the last layer's tokens, of length 1."""

    def __init__(self, count: int = 300, queries: int = 100, longest: int = 48):
        tokenizer = Tokenizer.from_str(minilm.read("tokenizer.json").decode())
        tokenizer.enable_truncation(longest)
        tokenizer.no_padding()
        # Neighbours in length share a batch, so that little is padded.
        tokens = [torch.tensor(one.ids) for one in tokenizer.encode_batch(docstring_sentences(count))]
        tokens.sort(key=len)
        self.batches = [tokens[i : i + 30] for i in range(0, count, 30)]
        self.queries = torch.arange(0, count, count // queries)
        self.model = BertModel(BertConfig(**json.loads(minilm.read("config.json")))).eval()

    @torch.no_grad()
    def embed(self, path: Path) -> torch.Tensor:
        weights = weights_of(path)
        self.model.load_state_dict({n: w for n, w in weights.items() if "position_ids" not in n})
        rows = []
        for batch in self.batches:
            ids = nn.utils.rnn.pad_sequence(batch, batch_first=True)
            lengths = torch.tensor([len(row) for row in batch])[:, None]
            mask = (torch.arange(ids.shape[1]) < lengths).float()
            last = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            rows.append((last * mask[:, :, None]).sum(1) / lengths)
        return normalize(torch.cat(rows).double(), dim=1)

    def compare(self, exact: torch.Tensor, found: torch.Tensor) -> dict[str, float]:
        cosines = (exact * found).sum(1)
        before, after = (self.nearest(rows) for rows in (exact, found))
        kept = [len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(before.tolist(), after.tolist())]
        return {
            "min_cosine": cosines.min().item(),
            "mean_cosine": cosines.mean().item(),
            "overlap": sum(kept) / len(kept),
            "first": (before[:, 0] == after[:, 0]).double().mean().item(),
        }

    def nearest(self, rows: torch.Tensor) -> torch.Tensor:
        """Of each query, its neighbours among all other sentences, nearest first."""
        scores = rows[self.queries] @ rows.T
        scores[torch.arange(len(self.queries)), self.queries] = -2
        return scores.topk(NEIGHBOURS).indices


def docstring_sentences(count: int) -> list[str]:
    """Sentences of the standard library's docstrings, evenly from all of them."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for path in corpus.find(f"{corpus.LIBRARY}/*.py"):
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            text = isinstance(node, documented) and ast.get_docstring(node) or ""
            for paragraph in text.split("\n\n"):
                found += re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))
    prose = re.compile(r"[A-Z][\w ,;:'()-]*\.")
    found = [s for s in dict.fromkeys(found) if prose.fullmatch(s) and 8 <= len(s.split()) <= 40]
    return [found[i * len(found) // count] for i in range(count)]


class HeldOut:
    """Bits per byte of corpus.Gpt on text that it wasn't trained on, of the kinds that it was."""

    def __init__(self, count: int = 80):
        copyrights = corpus.find("/usr/share/doc/**/copyright")[400:]
        modules = corpus.find(*(f"{corpus.LIBRARY}/{p}/*.py" for p in ("asyncio", "email", "json", "unittest")))
        generator = torch.Generator().manual_seed(1)
        rows = []
        for text in (corpus.read_text(copyrights), corpus.read_text(modules)):
            starts = torch.randint(len(text) - corpus.CONTEXT - 1, (count // 2,), generator=generator)
            rows += [text[s : s + corpus.CONTEXT + 1] for s in starts.tolist()]
        self.rows = torch.stack(rows)
        self.model = corpus.Gpt().eval()

    def score(self, path: Path) -> float:
        self.model.load_state_dict(weights_of(path))
        return self.bits(self.model)

    @torch.no_grad()
    def bits(self, model: nn.Module) -> float:
        total = 0.0
        for rows in self.rows.split(20):
            logits = model(rows[:, :-1]).transpose(1, 2)
            total += cross_entropy(logits, rows[:, 1:], reduction="sum").item()
        return total / (len(self.rows) * corpus.CONTEXT) / torch.log(torch.tensor(2.0)).item()


class Continued:
    """corpus.Gpt trained on from its last checkpoint, with weights and Adam moments from files."""

    def __init__(self, checkpoint: Path, steps: int = 20, batch: int = 4):
        self.state = torch.load(checkpoint, weights_only=True)
        self.steps, self.batch = steps, batch

    def train(self, weights: Path, moments: Path, seed: int) -> tuple[float, corpus.Gpt]:
        """The mean loss of the second half of the steps, in bits per byte, and the model then."""
        model = corpus.Gpt()
        model.load_state_dict(weights_of(weights))
        trainer = corpus.Trainer(model, corpus.gpt_texts(), learning_rate=6e-4, batch=self.batch)
        trainer.optimizer.load_state_dict(self.state["optimizer"])
        given = weights_of(moments)
        for name, parameter in model.named_parameters():
            trainer.optimizer.state[parameter]["exp_avg"] = given[f"{name}.m"]
            trainer.optimizer.state[parameter]["exp_avg_sq"] = given[f"{name}.v"]
        torch.manual_seed(seed)
        losses = torch.tensor([trainer.step() for _ in range(self.steps)])
        half = losses[self.steps // 2 :].mean() / torch.log(torch.tensor(2.0))
        return half.item(), model


# Five columns and seven rows: a line of five bits, of which the highest is left.
GLYPHS = """0E111315190E0E 040C040404040E 0E11010204081F 1F02040201110E 02060A121F0202
1F101E0101110E 0608101E11110E 1F010204080808 0E11110E11110E 0E11110F01020C""".split()
SIDE = 16


class Digits:
    """Digits of a bitmap font, turned, scaled, moved and under noise, and nets that read them."""

    def __init__(self, train: int = 6000, test: int = 3000):
        generator = torch.Generator().manual_seed(2)
        self.train, self.test = (draw_digits(count, generator) for count in (train, test))

    def fit(self, kind: str, epochs: int = 6) -> nn.Module:
        torch.manual_seed(3)
        self.net = net(kind)
        optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        images, labels = self.train
        for _ in range(epochs):
            for part in torch.randperm(len(labels)).split(100):
                optimizer.zero_grad()
                cross_entropy(self.net(images[part]), labels[part]).backward()
                optimizer.step()
        return self.net

    @torch.no_grad()
    def accuracy(self, path: Path) -> float:
        self.net.load_state_dict(weights_of(path))
        images, labels = self.test
        return (self.net(images).argmax(1) == labels).double().mean().item()


def net(kind: str) -> nn.Module:
    if kind == "MLP":
        layers = [nn.Flatten(), nn.Linear(SIDE * SIDE, 256), nn.ReLU(), nn.Linear(256, 128)]
    else:
        layers = []
        for before, after in ((1, 8), (8, 16)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Flatten(), nn.Linear(16 * SIDE // 4 * SIDE // 4, 128)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(128, 10))


def draw_digits(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    bits = [[byte >> place & 1 for byte in bytes.fromhex(g) for place in range(4, -1, -1)] for g in GLYPHS]
    glyphs = pad(torch.tensor(bits).float().view(10, 1, 7, 5), (2, 2, 1, 1))

    def uniform(least: float, most: float) -> torch.Tensor:
        return torch.rand(count, generator=generator) * (most - least) + least

    labels = torch.randint(10, (count,), generator=generator)
    angle, scale = uniform(-0.35, 0.35), uniform(0.9, 1.4)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = [torch.stack(row, 1) for row in ((cos, -sin, uniform(-0.3, 0.3)), (sin, cos, uniform(-0.3, 0.3)))]
    grid = affine_grid(torch.stack(rows, 1), [count, 1, SIDE, SIDE], align_corners=False)
    images = grid_sample(glyphs[labels], grid, align_corners=False)
    return images + 0.25 * torch.randn(images.shape, generator=generator), labels
