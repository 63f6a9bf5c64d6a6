#!/usr/bin/env bash
# The character model that nanoGPT trains on a CPU: 4 layers of 128, context 64, batch 12, 2,000 steps.
#
#     bash benches/nanogpt.sh TEXT     # e.g. tiny Shakespeare
#
# Prints the held-out loss (nanoGPT: 1.88 on tiny Shakespeare) and tokens per second in f32 and bf16, then
# tokens per second of the same model in eager PyTorch, as nanoGPT's page says to run it on a CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
text=$(realpath "${1:?the path of a text}")

cargo build --quiet --release -p llmc-cli
llmc=$(realpath "${CARGO_TARGET_DIR:-target}/release/llmc")
env=$(bash tests/conformance/env.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LLMC_CACHE=$work/cache
mkdir "$work/text"
# Documents are held out whole.
split --number=l/20 --additional-suffix=.txt "$text" "$work/text/part-"
cp benches/nanogpt.toml "$work"
for precision in float32 bfloat16; do
  (cd "$work" && "$llmc" train nanogpt.toml --json --set "training.precision=$precision") >"$work/events"
  python3 - "$work/events" "$precision" <<'ROW'
import json, statistics, sys

events = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
speed = statistics.median(e["tokens_per_s"] for e in events if e["event"] == "step")
result = next(e for e in events if e["event"] == "result")
print(f"llmc {sys.argv[2]}: held-out loss {result['validation']['loss']:.4f}, {speed:,.0f} tokens/s", flush=True)
ROW
done
"$env/bin/python" benches/torch_nanogpt.py
