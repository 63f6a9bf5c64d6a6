"""tiny-llama in PyTorch, written by llmc from the model's graph.

    python model.py model.safetensors --prompt "Once upon a time"

Matrices are [out, in]; the state_dict has the names of the weights file.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import nn


class Config:
    context_length = 16
    head_dim = 4
    hidden_size = 16
    intermediate_size = 40
    num_heads = 4
    num_kv_heads = 2
    num_layers = 2
    vocab_size = 32


def rotary_frequencies(head_dim, theta, device=None):
    """Radians per position of each pair of a rotary embedding, in float64: [head_dim / 2]."""
    i = torch.arange(0, head_dim, 2, dtype=torch.float64, device=device)
    return theta ** (-i / head_dim)


def apply_rotary(x, positions, frequencies):
    """Rotates each pair (x[i], x[i + D/2]) by positions * frequencies[i].

    x: [B, T, H, D]; positions: [B, T]; frequencies: [D / 2]; returns [B, T, H, D].
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    angle = positions[:, :, None, None].to(dtype) * frequencies.to(dtype)
    cos, sin = angle.cos(), angle.sin()
    x1, x2 = x.to(dtype).chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1).to(x.dtype)


def attention(q, k, v, segments=None):
    """Scaled dot-product attention to keys not after the query, of its segment.

    q: [B, T, H, D]; k, v: [B, T, K, D]; segments: [B, T]; returns [B, T, H, D].
    """
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    visible = None
    if segments is not None:
        same = segments[:, None, :, None] == segments[:, None, None, :]
        visible = same & torch.ones_like(same).tril()
    y = F.scaled_dot_product_attention(
        q, k, v, attn_mask=visible, is_causal=visible is None, enable_gqa=True
    )
    return y.transpose(1, 2)


class Attention(nn.Module):
    """x: f32[B, T, hidden_size], positions: i32[B, T], segments: i32[B, T]
    → f32[B, T, hidden_size].
    """

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(Config.hidden_size, Config.head_dim * Config.num_heads, bias=False)
        self.k = nn.Linear(
            Config.hidden_size, Config.head_dim * Config.num_kv_heads, bias=False
        )
        self.v = nn.Linear(
            Config.hidden_size, Config.head_dim * Config.num_kv_heads, bias=False
        )
        self.o = nn.Linear(Config.head_dim * Config.num_heads, Config.hidden_size, bias=False)

    def forward(self, x, positions, segments):
        B, T = x.shape[:2]
        q = self.q(x).reshape(B, T, Config.num_heads, Config.head_dim)
        k = self.k(x).reshape(B, T, Config.num_kv_heads, Config.head_dim)
        v = self.v(x).reshape(B, T, Config.num_kv_heads, Config.head_dim)
        frequencies = rotary_frequencies(Config.head_dim, 10000.0, device=x.device)
        q = apply_rotary(q, positions, frequencies)
        k = apply_rotary(k, positions, frequencies)
        attended_flat = attention(q, k, v, segments).reshape(
            B, T, Config.head_dim * Config.num_heads
        )
        return self.o(attended_flat)


class MLP(nn.Module):
    """x: f32[B, T, hidden_size] → f32[B, T, hidden_size]."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(Config.hidden_size, Config.intermediate_size, bias=False)
        self.up = nn.Linear(Config.hidden_size, Config.intermediate_size, bias=False)
        self.down = nn.Linear(Config.intermediate_size, Config.hidden_size, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Layer(nn.Module):
    """x: f32[B, T, hidden_size], positions: i32[B, T], segments: i32[B, T]
    → f32[B, T, hidden_size].
    """

    def __init__(self):
        super().__init__()
        self.attention_norm = nn.RMSNorm(Config.hidden_size, eps=1e-5)
        self.attention = Attention()
        self.mlp_norm = nn.RMSNorm(Config.hidden_size, eps=1e-5)
        self.mlp = MLP()

    def forward(self, x, positions, segments):
        x = x + self.attention(self.attention_norm(x), positions, segments)
        return x + self.mlp(self.mlp_norm(x))


class Model(nn.Module):
    """tokens: i32[B, T], positions: i32[B, T], segments: i32[B, T]
    → f32[B, T, vocab_size].
    """

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(Config.vocab_size, Config.hidden_size)
        self.layers = nn.ModuleList(Layer() for _ in range(Config.num_layers))
        self.norm = nn.RMSNorm(Config.hidden_size, eps=1e-5)

    def forward(self, tokens, positions=None, segments=None):
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, positions, segments)
        return F.linear(self.norm(x), self.embedding.weight)


def load(path="model.safetensors", device="cpu", dtype=None):
    """The model with the weights of a safetensors file, ready for inference."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        model = Model()
    model.load_state_dict(load_file(path, device=device), assign=True)
    return (model if dtype is None else model.to(dtype)).eval()


@torch.inference_mode()
def generate(model, tokens, n_tokens, temperature=1.0, context_length=None):
    """Appends n_tokens sampled tokens to tokens [B, T]; temperature 0 takes the likeliest."""
    for _ in range(n_tokens):
        context = tokens if context_length is None else tokens[:, -context_length:]
        logits = model(context)[:, -1]
        if temperature == 0:
            token = logits.argmax(dim=-1, keepdim=True)
        else:
            token = torch.multinomial((logits / temperature).softmax(dim=-1), 1)
        tokens = torch.cat((tokens, token), dim=1)
    return tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", nargs="?", help="safetensors file; without it, count only")
    parser.add_argument("--prompt", help="text to go on with (needs the tokenizers package)")
    parser.add_argument("--tokenizer", default="tokenizer.json", help="file for --prompt")
    parser.add_argument("--ids", help="token ids to go on with, e.g. 1,2,3")
    parser.add_argument("--tokens", type=int, default=64, help="how many to generate")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--context", type=int, default=Config.context_length, help="longest context")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = load(args.weights) if args.weights else Model()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    if args.weights is None or not (args.prompt or args.ids):
        return
    tokenizer = None
    if args.prompt:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(args.tokenizer)
    ids = tokenizer.encode(args.prompt).ids if tokenizer else map(int, args.ids.split(","))
    torch.manual_seed(args.seed)
    tokens = torch.tensor([list(ids)])
    tokens = generate(model, tokens, args.tokens, args.temperature, args.context)[0].tolist()
    print(tokenizer.decode(tokens) if tokenizer else tokens)


if __name__ == "__main__":
    main()
