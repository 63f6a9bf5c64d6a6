"""Training speed and memory beside PyTorch, in turn in one run, because the speed of a machine drifts.

    python3 benches/training.py --torch PYTHON [--rounds 3] [--sizes tiny,b,c] [--precisions float32,bfloat16]

PYTHON is an interpreter with torch, e.g. of `bash tests/conformance/env.sh`. The peers are eager PyTorch and
`torch.compile`, both with fused AdamW and the allocator settings at which they are fastest. Each figure is the
median of the rounds, with the lowest and highest behind it; memory is the peak resident size of the whole process.
"""

import argparse
import os
import statistics
import subprocess
import sys

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
STEPS = {"tiny": 200, "b": 6, "c": 3}


def run(command, env=None):
    """Tokens per second that a command prints, and its peak resident memory in MB."""
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)}: status {status}")
    return float(printed.split()[-1]), usage.ru_maxrss / 1000


def shown(values):
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--torch", required=True, metavar="PYTHON")
    parser.add_argument("--ours", default="target/release/examples/train_speed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="tiny,b,c")
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bar", type=float, default=0.0, help="least median ratio of speeds; below it the status is 1")
    args = parser.parse_args()
    is_below = False
    print("| training | llmc tokens/s | eager | torch.compile | ratio to the best | llmc MB | best MB | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for size in args.sizes.split(","):
        for precision in args.precisions.split(","):
            steps, threads = str(STEPS[size]), str(args.threads)
            peer = [args.torch, "benches/torch_train.py", "--size", size, "--steps", steps, "--threads", threads]
            if precision == "bfloat16":
                peer.append("--bf16")
            commands = {
                "llmc": ([args.ours, size, steps, threads, precision], None),
                "eager": (peer, ALLOCATOR),
                "compiled": ([*peer, "--compile"], ALLOCATOR),
            }
            seen = {name: [] for name in commands}
            for _ in range(args.rounds):
                for name, (command, env) in commands.items():
                    seen[name].append(run(command, env))
            speed = {name: [tokens for tokens, _ in values] for name, values in seen.items()}
            memory = {name: statistics.median(mb for _, mb in values) for name, values in seen.items()}
            best = max(["eager", "compiled"], key=lambda name: statistics.median(speed[name]))
            ratios = [a / b for a, b in zip(speed["llmc"], speed[best])]
            is_below |= statistics.median(ratios) < args.bar
            print(
                f"| {size}, {precision} | {shown(speed['llmc'])} | {shown(speed['eager'])} | {shown(speed['compiled'])} "
                f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {memory['llmc']:,.0f} "
                f"| {memory[best]:,.0f} | {memory['llmc'] / memory[best]:.2f} |",
                flush=True,
            )
    if is_below:
        sys.exit(f"below the bar of {args.bar}")


if __name__ == "__main__":
    main()
