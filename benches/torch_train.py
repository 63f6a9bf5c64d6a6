"""The peer of `train_speed`: the same decoder in PyTorch, as a user would write it.

Plain LLaMA: SDPA, rotary, RMSNorm, SwiGLU, tied embeddings, AdamW(fused=True), random tokens; bf16 is autocast
with f32 weights, compiled is `torch.compile` of the model with its loss. Prints tokens per second over the timed steps.

    python benches/torch_train.py --size b --steps 6 --threads 2 [--bf16] [--compile]
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {
    # vocab, hidden, layers, heads, kv heads, ffn, sequence, batch
    "tiny": (32, 16, 1, 2, 1, 32, 16, 2),
    "b": (8192, 256, 8, 8, 4, 688, 256, 8),
    "c": (16384, 512, 12, 8, 8, 1376, 512, 4),
}


class Attention(nn.Module):
    def __init__(self, hidden, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, hidden // heads
        self.q = nn.Linear(hidden, heads * self.head_dim, bias=False)
        self.k = nn.Linear(hidden, kv_heads * self.head_dim, bias=False)
        self.v = nn.Linear(hidden, kv_heads * self.head_dim, bias=False)
        self.o = nn.Linear(heads * self.head_dim, hidden, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        q = self.q(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(y.transpose(1, 2).reshape(b, t, -1))


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Layer(nn.Module):
    def __init__(self, hidden, heads, kv_heads, ffn):
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden, eps=1e-5)
        self.attention = Attention(hidden, heads, kv_heads)
        self.mlp_norm = nn.RMSNorm(hidden, eps=1e-5)
        self.gate = nn.Linear(hidden, ffn, bias=False)
        self.up = nn.Linear(hidden, ffn, bias=False)
        self.down = nn.Linear(ffn, hidden, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.attention_norm(x), cos, sin)
        h = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Decoder(nn.Module):
    def __init__(self, vocab, hidden, layers, heads, kv_heads, ffn, sequence):
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.layers = nn.ModuleList(Layer(hidden, heads, kv_heads, ffn) for _ in range(layers))
        self.norm = nn.RMSNorm(hidden, eps=1e-5)
        nn.init.normal_(self.embedding.weight, std=0.02)
        d = hidden // heads
        freqs = 1.0 / 10000.0 ** (torch.arange(0, d, 2) / d)
        angles = torch.outer(torch.arange(sequence), freqs)
        angles = torch.cat((angles, angles), dim=-1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.linear(self.norm(x), self.embedding.weight)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="b")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    vocab, hidden, layers, heads, kv_heads, ffn, sequence, batch = SIZES[args.size]
    model = Decoder(vocab, hidden, layers, heads, kv_heads, ffn, sequence)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def loss_of(tokens):
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            logits = model(tokens[:, :-1]).flatten(0, 1)
        return F.cross_entropy(logits.float(), tokens[:, 1:].flatten())

    if args.compile:
        loss_of = torch.compile(loss_of)
    times = []
    for _ in range(args.steps + 2):
        tokens = torch.randint(0, vocab, (batch, sequence + 1))
        start = time.perf_counter()
        loss = loss_of(tokens)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter() - start)
    times = sorted(times[2:])
    median = times[len(times) // 2]
    assert math.isfinite(loss.item())
    print(f"{batch * sequence / median:.1f}")


if __name__ == "__main__":
    main()
