"""Builds the files that docs/EVALUATION.md measures. A development tool: it needs torch and about 2 GB.

    python bench/corpus.py FOLDER [--only minilm,gpt,family,lora,rl,synth] [--seed 0] [--steps 500]

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
    lora_{base,merged}_bf16         family_base, and with adapters merged that were trained on it
    rl_{0,1,2,10}_bf16              a policy that RL trains from family_base: what its trainer would send
                                    to those who sample at one step, and 1, 2 and 10 steps later
    synth_llama_bf16                Gaussian weights with the shapes of four Llama layers, 486 MB

The parts minilm and synth are the same everywhere; the others learn from texts found on the
machine (Debian's copyright files, the standard library), so their sizes differ a little elsewhere.
family needs gpt's files, lora and rl need family's.
"""

import argparse
import glob
import math
import string
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy, gelu, linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

import minilm

VOCAB, WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 256, 384, 6, 6, 128, 16
LIBRARY = Path(argparse.__file__).parent

# LoRA as it is mostly used: adapters of this rank beside attention's layers.
RANK, ALPHA = 8, 16

# RL: prompts per step, continuations of each, and the bytes of these; then steps of warming up, and
# before the first file.
PROMPTS, GROUP, PROMPT, SAMPLED = 4, 8, 16, 16
WARM_UP, BEFORE = 10, 20
LETTERS = torch.tensor([float(chr(byte) in string.ascii_letters) for byte in range(VOCAB)])


class Rounded(TorchFunctionMode):
    """BF16 products of a CPU that has none: those of FP32, of rounded numbers, and rounded."""

    PRODUCTS = {linear, scaled_dot_product_attention, torch.Tensor.matmul, torch.Tensor.__matmul__}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in self.PRODUCTS:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            return self.rounded(func(*map(self.rounded, args), **kwargs))

    @staticmethod
    def rounded(x):
        return x.bfloat16().float() if isinstance(x, torch.Tensor) else x


def low_precision():
    if torch.cpu._is_avx512_bf16_supported():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return Rounded()


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

    def __init__(self, model, files, learning_rate, batch=BATCH):
        self.text = read_text(files)
        self.model = model
        self.batch = batch
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95))

    def step(self):
        """One step; returns the loss in nats per byte."""
        rows = windows(self.text, self.batch, CONTEXT + 1)
        with low_precision():
            logits = self.model(rows[:, :-1]).float()
            loss = cross_entropy(logits.view(-1, VOCAB), rows[:, 1:].reshape(-1))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Lora(nn.Module):
    """A frozen layer, and beside it an update of low rank, which is trained."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.empty(RANK, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, RANK))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x):
        return self.layer(x) + x @ self.down.T @ self.up.T * (ALPHA / RANK)

    def merged(self):
        return self.layer.weight + self.up @ self.down * (ALPHA / RANK)


class Policy:
    """Trains a model to continue texts with letters, by policy gradients as language models are.

    Continuations are compared with others of their prompt. Weights are FP32, and move by what RL of
    language models uses: AdamW at 1e-6 after warming up, gradients clipped to 1.
    """

    def __init__(self, model, files):
        self.text = read_text(files)
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
        rate = torch.optim.lr_scheduler.LambdaLR
        self.rate = rate(self.optimizer, lambda step: min(1, (step + 1) / WARM_UP))

    def step(self):
        """One step; returns the mean reward, the share of letters."""
        rows = self.continued(windows(self.text, PROMPTS, PROMPT).repeat_interleave(GROUP, 0))
        sampled = rows[:, PROMPT:]
        rewards = LETTERS[sampled].mean(1)
        groups = rewards.view(PROMPTS, GROUP)
        better = (groups - groups.mean(1, True)) / (groups.std(1, keepdim=True) + 1e-6)
        with low_precision():
            logits = self.model(rows[:, :-1])[:, PROMPT - 1 :].float()
        surprise = cross_entropy(logits.transpose(1, 2), sampled, reduction="none").mean(1)
        self.optimizer.zero_grad()
        (better.view(-1) * surprise).mean().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.rate.step()
        return rewards.mean().item()

    @torch.no_grad()
    def continued(self, rows):
        for _ in range(SAMPLED):
            with low_precision():
                chances = self.model(rows)[:, -1].float().softmax(-1)
            rows = torch.cat([rows, torch.multinomial(chances, 1)], 1)
        return rows


def read_text(files):
    text = bytearray(b"".join(f.read_bytes() for f in files))
    return torch.frombuffer(text, dtype=torch.uint8).long()


def windows(text, count, length):
    """So many random parts of a text."""
    starts = torch.randint(len(text) - length, (count,)).tolist()
    return torch.stack([text[s : s + length] for s in starts])


def build_minilm(folder, _):
    for name, content in minilm.casts(minilm.read_model()).items():
        (folder / f"{name}.safetensors").write_bytes(content)


def build_gpt(folder, args):
    torch.manual_seed(args.seed)
    trainer = Trainer(Gpt(), gpt_texts(), learning_rate=6e-4)
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


def gpt_texts():
    return find("/usr/share/doc/**/copyright")[:400] + find(f"{LIBRARY}/*.py")


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
    for number, (sibling, files) in enumerate(family_texts().items()):
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


def family_texts():
    return {
        "py": find(f"{LIBRARY}/asyncio/*.py", f"{LIBRARY}/email/*.py"),
        "txt": find("/usr/share/common-licenses/*"),
        "lib": find(f"{LIBRARY}/json/*.py", f"{LIBRARY}/unittest/*.py"),
    }


def build_lora(folder, args):
    torch.manual_seed(args.seed + 200)
    model = family_base(folder)
    save_bf16(model.state_dict(), folder / "lora_base_bf16.safetensors")
    model.requires_grad_(False)
    layers = [(block, name) for block in model.blocks for name in ("qkv", "out")]
    for block, name in layers:
        setattr(block, name, Lora(getattr(block, name)))
    trainer = Trainer(model, family_texts()["py"], learning_rate=1e-3)
    for step in range(60):
        loss = trainer.step()
        if step % 20 == 0:
            print(f"lora step {step}  loss {loss:.3f}", flush=True)
    for block, name in layers:
        adapted = getattr(block, name)
        adapted.layer.weight.data = adapted.merged().detach()
        setattr(block, name, adapted.layer)
    save_bf16(model.state_dict(), folder / "lora_merged_bf16.safetensors")


def build_rl(folder, args):
    torch.manual_seed(args.seed + 300)
    model = family_base(folder)
    policy = Policy(model, family_texts()["lib"])
    before = {}
    for step in range(1 - BEFORE, 11):
        reward = policy.step()
        print(f"rl step {step}  reward {reward:.3f}", flush=True)
        if step in (0, 1, 2, 10):
            weights = save_bf16(model.state_dict(), folder / f"rl_{step}_bf16.safetensors")
            for earlier, others in before.items():
                share = changed(others, weights)
                print(f"rl {earlier} to {step}  weights changed {share:.2%}", flush=True)
            before[step] = weights


def family_base(folder):
    model = Gpt()
    model.load_state_dict(load_file(folder / "family_base_fp32.safetensors"))
    return model


def save_bf16(weights, path):
    """Saves weights as BF16, and returns them so."""
    rounded = {name: w.bfloat16().contiguous() for name, w in weights.items()}
    save_file(rounded, path)
    return rounded


def changed(old, new):
    """The share of weights that differ."""
    different = sum((old[name] != w).sum().item() for name, w in new.items())
    return different / sum(w.numel() for w in new.values())


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


BUILDERS = {
    "minilm": build_minilm,
    "synth": build_synth,
    "gpt": build_gpt,
    "family": build_family,
    "lora": build_lora,
    "rl": build_rl,
}


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
