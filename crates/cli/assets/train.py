"""Trains the small model that `wz demo` compresses, and writes it next to this script.

    python crates/cli/assets/train.py [--steps 2000] [--out FOLDER]

A byte-level GPT of about half a million parameters, trained on the standard library's own
top-level sources, which every Python installation has. Writes

    tiny_gpt_fp32.safetensors   the weights as trained
    tiny_gpt_bf16.safetensors   the same weights, rounded to BF16

needs: torch, safetensors (versions in crates/cli/assets/README.md)
"""

import argparse
import hashlib
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

VOCAB, WIDTH, LAYERS, HEADS, CONTEXT = 256, 96, 4, 4, 256
BATCH, SEED = 32, 0
LEARNING_RATE, WARM_UP = 2e-3, 100


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        batch, length, _ = x.shape
        heads = (z.view(batch, length, HEADS, -1).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        mixed = scaled_dot_product_attention(*heads, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        return self.down(gelu(self.up(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(WIDTH), Attention()
        self.norm2, self.mlp = nn.LayerNorm(WIDTH), Mlp()

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyGpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.ModuleDict(
            {"tokens": nn.Embedding(VOCAB, WIDTH), "positions": nn.Embedding(CONTEXT, WIDTH)}
        )
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, ids):
        positions = torch.arange(ids.shape[1])
        x = self.embedding["tokens"](ids) + self.embedding["positions"](positions)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def read_text():
    """The standard library's top-level modules in sorted order, and what of it is held out."""
    library = Path(argparse.__file__).parent
    # _sysconfigdata_* is generated when Python is built and differs from machine to machine.
    files = sorted(f for f in library.glob("*.py") if not f.name.startswith("_sysconfigdata"))
    text = b"".join(f.read_bytes() for f in files)
    print(f"{len(files)} files, {len(text)} bytes, sha256 {hashlib.sha256(text).hexdigest()}")
    ids = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    held_out = len(ids) // 20
    return ids[:-held_out], ids[-held_out:]


def loss_of(model, text, generator):
    """Cross entropy, in nats per byte, on one random batch of text."""
    starts = torch.randint(len(text) - CONTEXT, (BATCH,), generator=generator)
    rows = torch.stack([text[s : s + CONTEXT + 1] for s in starts.tolist()])
    return cross_entropy(model(rows[:, :-1]).reshape(-1, VOCAB), rows[:, 1:].reshape(-1))


@torch.no_grad()
def held_out_loss(model, text):
    generator = torch.Generator().manual_seed(SEED)
    return sum(loss_of(model, text, generator).item() for _ in range(8)) / 8


def train(steps):
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    train_text, test_text = read_text()
    model, start = TinyGpt(), time.monotonic()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=WARM_UP)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - WARM_UP)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, decay], [WARM_UP])
    for step in range(steps + 1):
        if step % 100 == 0:
            loss, seconds = held_out_loss(model, test_text), time.monotonic() - start
            print(f"step {step}  held-out loss {loss:.3f} nats per byte  {seconds:.0f} s", flush=True)
        if step == steps:
            return model
        loss = loss_of(model, train_text, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def save(model, folder):
    weights = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    rounded = {name: p.bfloat16() for name, p in weights.items()}
    print(f"{sum(p.numel() for p in weights.values())} parameters")
    for path, tensors in (
        (folder / "tiny_gpt_fp32.safetensors", weights),
        (folder / "tiny_gpt_bf16.safetensors", rounded),
    ):
        save_file(tensors, path)
        content = path.read_bytes()
        print(f"{path.name}  {len(content)} bytes  sha256 {hashlib.sha256(content).hexdigest()}")


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--steps", type=int, default=2000)
    args.add_argument("--out", type=Path, default=Path(__file__).parent)
    args = args.parse_args()
    if args.steps <= WARM_UP:
        raise SystemExit(f"--steps must be more than the {WARM_UP} steps of warm-up")
    save(train(args.steps), args.out)


if __name__ == "__main__":
    main()
