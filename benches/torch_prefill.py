"""Prefill in PyTorch and onnxruntime: the peers of `inference_speed … prefill`.

The decoder of `torch_train.py`, logits of the last token only. Prints tokens per second, of the median of five.

    python benches/torch_prefill.py --size c --tokens 512 --threads 2 --with eager|compiled|onnxruntime [--bf16]

onnxruntime needs the packages onnx, onnxscript and onnxruntime; bf16 is of PyTorch only.
"""

import argparse
import statistics
import tempfile
import time

import torch
import torch.nn.functional as F
from torch_train import SIZES, Decoder


class Prefill(torch.nn.Module):
    """The decoder with a head for the last token alone."""

    def __init__(self, size, tokens):
        super().__init__()
        vocab, hidden, layers, heads, kv_heads, ffn, _, _ = SIZES[size]
        self.decoder = Decoder(vocab, hidden, layers, heads, kv_heads, ffn, tokens)

    def forward(self, tokens):
        model = self.decoder
        x = model.embedding(tokens)
        for layer in model.layers:
            x = layer(x, model.cos, model.sin)
        return F.linear(model.norm(x[:, -1]), model.embedding.weight)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="c")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--with", dest="runner", choices=["eager", "compiled", "onnxruntime"], default="eager")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Prefill(args.size, args.tokens).eval()
    tokens = torch.randint(SIZES[args.size][0], (1, args.tokens))
    if args.bf16:
        model = model.bfloat16()
    if args.runner == "onnxruntime":
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.onnx"
            torch.onnx.export(model, (tokens,), path, dynamo=True, verbose=False)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = args.threads
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        with torch.inference_mode():
            (ours,) = session.run(None, {name: tokens.numpy()})
            difference = (torch.from_numpy(ours) - model(tokens)).abs().max()
        assert difference < 1e-3, difference

        def run():
            session.run(None, {name: tokens.numpy()})
    else:
        if args.runner == "compiled":
            model = torch.compile(model)

        def run():
            model(tokens)

    times = []
    with torch.inference_mode():
        for _ in range(7):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
    print(f"{args.tokens / statistics.median(times[2:]):.1f}")


if __name__ == "__main__":
    main()
