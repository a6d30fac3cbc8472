"""Builds the files that docs/EVALUATION.md measures. A development tool: it needs torch and about 2 GB.

    python bench/corpus.py FOLDER [--only minilm,gpt,family,synth] [--seed 0] [--steps 500]

needs: torch, and what bench/minilm.py needs (versions in tests/requirements.txt)

Writes into FOLDER, as safetensors unless said otherwise:

    minilm_fp32                     a real model
    minilm_{bf16,fp16,fp8e4m3}      cast; FP8 scaled per tensor
    minilm_{int8,int8rows}          symmetric integers, scaled per tensor and per row
    minilm_{bf16asfp32,fp16asfp32,bf16asfp16}
                                    cast and stored wider
    gpt_{a,b,c}_{fp32,bf16,grad_fp32,adam_fp32}
                                    weights, gradients and optimizer state of a 10.9 M-parameter
                                    byte-level GPT, 40 and 20 steps before its end and at its end
    gpt_ckpt.pt                     torch.save of the last model and optimizer
    family_base_fp32                gpt_c rounded to BF16, stored as FP32
    family_{py,txt,lib}_{1,2,3}_fp32
                                    three siblings fine-tuned from it, after each of three epochs
    synth_llama_bf16                Gaussian weights with the shapes of four Llama layers, 486 MB

The parts minilm and synth are the same everywhere; gpt and family learn from texts found on the
machine (Debian's copyright files, the standard library), so their sizes differ a little elsewhere.
family needs gpt's files.
"""

import argparse
import glob
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

import minilm

VOCAB, WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 256, 384, 6, 6, 128, 16
LIBRARY = Path(argparse.__file__).parent


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        batch, length, _ = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        heads = (z.view(batch, length, HEADS, -1).transpose(1, 2) for z in parts)
        mixed = scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(VOCAB, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Trainer:
    """Trains on random windows of a text, in BF16 autocast with FP32 master weights."""

    def __init__(self, model, files, learning_rate):
        text = bytearray(b"".join(f.read_bytes() for f in files))
        self.text = torch.frombuffer(text, dtype=torch.uint8).long()
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95))

    def step(self):
        """One step; returns the loss in nats per byte."""
        starts = torch.randint(len(self.text) - CONTEXT - 1, (BATCH,)).tolist()
        rows = torch.stack([self.text[s : s + CONTEXT + 1] for s in starts])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(rows[:, :-1]).float()
            loss = cross_entropy(logits.view(-1, VOCAB), rows[:, 1:].reshape(-1))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def build_minilm(folder, _):
    for name, content in minilm.casts(minilm.read_model()).items():
        (folder / f"{name}.safetensors").write_bytes(content)


def build_gpt(folder, args):
    torch.manual_seed(args.seed)
    files = find("/usr/share/doc/**/copyright")[:400] + find(f"{LIBRARY}/*.py")
    trainer = Trainer(Gpt(), files, learning_rate=6e-4)
    marks = {args.steps - 41: "a", args.steps - 21: "b", args.steps - 1: "c"}
    start = time.monotonic()
    for step in range(args.steps):
        loss = trainer.step()
        if step % 50 == 0:
            print(f"gpt step {step}  loss {loss:.3f}  {time.monotonic() - start:.0f} s", flush=True)
        if step in marks:
            save_gpt(folder, f"gpt_{marks[step]}", trainer)
    state = {"model": trainer.model.state_dict(), "optimizer": trainer.optimizer.state_dict()}
    torch.save(state, folder / "gpt_ckpt.pt")


def save_gpt(folder, name, trainer):
    parameters = dict(trainer.model.named_parameters())
    moments = trainer.optimizer.state
    files = {
        "fp32": {n: p.detach() for n, p in parameters.items()},
        "bf16": {n: p.detach().bfloat16() for n, p in parameters.items()},
        "grad_fp32": {n: p.grad for n, p in parameters.items()},
        "adam_fp32": {f"{n}.m": moments[p]["exp_avg"] for n, p in parameters.items()}
        | {f"{n}.v": moments[p]["exp_avg_sq"] for n, p in parameters.items()},
    }
    for kind, tensors in files.items():
        contiguous = {n: t.contiguous() for n, t in tensors.items()}
        save_file(contiguous, folder / f"{name}_{kind}.safetensors")


def build_family(folder, args):
    last = load_file(folder / "gpt_c_fp32.safetensors")
    base = {name: t.bfloat16().float() for name, t in last.items()}
    save_file(base, folder / "family_base_fp32.safetensors")
    texts = {
        "py": find(f"{LIBRARY}/asyncio/*.py", f"{LIBRARY}/email/*.py"),
        "txt": find("/usr/share/common-licenses/*"),
        "lib": find(f"{LIBRARY}/json/*.py", f"{LIBRARY}/unittest/*.py"),
    }
    for number, (sibling, files) in enumerate(texts.items()):
        torch.manual_seed(args.seed + 100 + number)
        model = Gpt()
        model.load_state_dict(base)
        trainer = Trainer(model, files, learning_rate=3e-5)
        for epoch in (1, 2, 3):
            for _ in range(40):
                loss = trainer.step()
            print(f"family {sibling} epoch {epoch}  loss {loss:.3f}", flush=True)
            weights = {n: p.detach().contiguous() for n, p in model.named_parameters()}
            save_file(weights, folder / f"family_{sibling}_{epoch}_fp32.safetensors")


def find(*patterns):
    paths = sorted(path for pattern in patterns for path in glob.glob(pattern, recursive=True))
    return [Path(path) for path in paths if Path(path).is_file()]


def build_synth(folder, args):
    generator = torch.Generator().manual_seed(args.seed + 1)

    def weight(rows, columns, sigma):
        row_scale = torch.exp(torch.randn(rows, 1, generator=generator) * 0.15) * sigma
        column_scale = torch.exp(torch.randn(1, columns, generator=generator) * 0.10)
        noise = torch.randn(rows, columns, generator=generator)
        return (noise * row_scale * column_scale).bfloat16()

    # In this order: each draws from the same generator.
    shapes = {
        "self_attn.q_proj": (2048, 2048, 0.03),
        "self_attn.k_proj": (512, 2048, 0.04),
        "self_attn.v_proj": (512, 2048, 0.015),
        "self_attn.o_proj": (2048, 2048, 0.015),
        "mlp.gate_proj": (8192, 2048, 0.02),
        "mlp.up_proj": (8192, 2048, 0.017),
        "mlp.down_proj": (2048, 8192, 0.017),
    }
    tensors = {
        f"model.layers.{layer}.{name}.weight": weight(*shape)
        for layer in range(4)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "synth_llama_bf16.safetensors")


BUILDERS = {"minilm": build_minilm, "synth": build_synth, "gpt": build_gpt, "family": build_family}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(BUILDERS), help="parts, with commas between")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=500, help="of gpt; at least 41")
    args = parser.parse_args()
    parts = args.only.split(",")
    unknown = set(parts) - set(BUILDERS)
    if unknown or args.steps < 41:
        parser.error(f"parts are {', '.join(BUILDERS)}; --steps is at least 41")
    args.folder.mkdir(parents=True, exist_ok=True)
    for name, build in BUILDERS.items():
        if name in parts:
            build(args.folder, args)


if __name__ == "__main__":
    main()
