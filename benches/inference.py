"""Decoding and prefill beside llama.cpp, onnxruntime and PyTorch, in turn in one run.

    python3 benches/inference.py --peers FOLDER --torch PYTHON [--rounds 3] [--only decode] [--bars]

FOLDER is what `bash benches/peers.sh` prints, PYTHON an interpreter with torch, e.g. of
`bash tests/conformance/env.sh`. All have weights of no meaning, two threads and a cache of their default format. A
figure is the median of the rounds in tokens per second, with the lowest and highest behind it; so is the
ratio. Files of the models are kept in FOLDER. With --bars the status is 1 if a median is below its bar.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

# work, size, our weights, peer, what of it, bar
WORK = [
    ("decode", "c", "f32", "llama.cpp", "f32", 1.1),
    ("decode", "c", "bf16", "llama.cpp", "BF16", 1.2),
    ("decode", "c", "q8_0", "llama.cpp", "Q8_0", 1.5),
    ("decode", "c", "q4_0", "llama.cpp", "Q4_0", 1.5),
    ("decode", "b", "f32", "llama.cpp", "f32", 2.0),
    ("decode", "b", "q8_0", "llama.cpp", "Q8_0", 2.0),
    ("decode", "1.1B", "q8_0", "llama.cpp", "Q8_0", 1.15),
    ("decode", "1.1B", "q4_0", "llama.cpp", "Q4_0", 1.15),
    ("batch of 8", "c", "bf16", "llama.cpp", "BF16", 1.5),
    ("prefill", "c", "f32", "onnxruntime", "f32", 1.2),
    ("prefill", "c", "bf16", "eager", "bf16", 1.3),
    ("prefill", "c", "bf16", "compiled", "bf16", 1.3),
    ("prefill", "c", "f32", "llama.cpp", "f32", None),
    ("prefill", "1.1B", "q4_0", "llama.cpp", "Q4_K_M", 1.35),
]
PROMPT = 512
DECODED = {"1.1B": 32}


def output(command, env=None):
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}:\n{result.stderr}")
    return result.stdout


def model_file(peers, size, format):
    """The GGUF of a size in a format of llama.cpp, made if it is not there."""
    folder = peers / "models"
    folder.mkdir(exist_ok=True)
    source = folder / f"{size}-f32.gguf"
    if not source.exists():
        part = source.with_suffix(".part")
        script = pathlib.Path(__file__).with_name("gguf_model.py")
        output([peers / "python/bin/python", script, size, part])
        part.rename(source)
    path = folder / f"{size}-{format}.gguf"
    if not path.exists():
        part = path.with_suffix(".part")
        output([peers / "bin/llama-quantize", source, part, format, "2"])
        part.rename(path)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", required=True, type=pathlib.Path)
    parser.add_argument("--torch", required=True, metavar="PYTHON")
    parser.add_argument("--ours", default="target/release/examples/inference_speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--only", default="", help="part of a line, like `decode` or `1.1B`")
    parser.add_argument("--bars", action="store_true")
    args = parser.parse_args()

    def ours(work, size, weights):
        tokens = PROMPT if work == "prefill" else DECODED.get(size, 128)
        rows = "8" if work.startswith("batch") else "1"
        mode = "prefill" if work == "prefill" else "decode"
        return float(output([args.ours, size, weights, mode, str(tokens), args.threads, rows]))

    def llama(work, size, format):
        path = model_file(args.peers, size, format)
        if work.startswith("batch"):
            command = [args.peers / "bin/llama-batched-bench", "-m", path, "-c", "2048", "-npp", "1", "-ntg", "128"]
            printed = output([*command, "-npl", "8", "-t", args.threads, "--output-format", "jsonl"])
            return json.loads(printed.strip().splitlines()[-1])["speed_tg"]
        prompt, decoded = (PROMPT, 0) if work == "prefill" else (0, DECODED.get(size, 128))
        command = [args.peers / "bin/llama-bench", "-m", path, "-p", str(prompt), "-n", str(decoded)]
        return json.loads(output([*command, "-t", args.threads, "-r", "3", "-o", "json"]))[0]["avg_ts"]

    def torch(size, runner, precision):
        command = [args.torch, "benches/torch_prefill.py", "--size", size, "--tokens", str(PROMPT), "--with", runner]
        bf16 = ["--bf16"] if precision == "bf16" else []
        env = {"PYTHONPATH": str(args.peers / "onnx")}
        return float(output([*command, *bf16, "--threads", args.threads], env).split()[-1])

    def shown(values, digits):
        return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"

    missed = []
    print("| work | model | llmc | tokens/s | peer | tokens/s | ratio | bar |")
    print("|---|---|---|---|---|---|---|---|")
    for work, size, weights, peer, variant, bar in WORK:
        if args.only not in f"{work} {size} {weights} {peer}":
            continue
        seen, peers = [], []
        for _ in range(args.rounds):
            seen.append(ours(work, size, weights))
            peers.append(llama(work, size, variant) if peer == "llama.cpp" else torch(size, peer, variant))
        ratios = [a / b for a, b in zip(seen, peers)]
        if bar is not None and statistics.median(ratios) < bar:
            missed.append(f"{work} {size} {weights}")
        name = {"eager": "PyTorch", "compiled": "torch.compile"}.get(peer, peer)
        digits = 1 if size == "1.1B" else 0
        print(
            f"| {work} | {size} | {weights} | {shown(seen, digits)} | {name} {variant} | {shown(peers, digits)} "
            f"| {shown(ratios, 2)} | {bar or ''} |",
            flush=True,
        )
    if missed and args.bars:
        sys.exit("below the bar: " + ", ".join(missed))


if __name__ == "__main__":
    main()
