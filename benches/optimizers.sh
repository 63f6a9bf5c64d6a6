#!/usr/bin/env bash
# Each optimiser on one model, text and number of steps: the quickstart's.
#
#     bash benches/optimizers.sh [STEPS]
#
# Per optimiser and peak learning rate: held-out bits per byte, and the speed of the median step. The
# bits per byte are the same on every machine with the same Python library; the speed is not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
steps=${1:-400}

cargo build --quiet --release -p llmc-cli
llmc=$(realpath "${CARGO_TARGET_DIR:-target}/release/llmc")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LLMC_CACHE=$work/cache

echo "| optimiser | lr | bits per byte after $steps steps | tokens/s |"
echo "|---|---|---|---|"
for choice in "sgd 0.3" "sgd 1" "lion 2e-4" "lion 5e-4" "adamw 2e-3" "adamw 5e-3" "muon 2e-3" "muon 4e-3"; do
  read -r kind lr <<<"$choice"
  "$llmc" quickstart --json --steps "$steps" --output "$work/runs" \
    --set "optimizer.type=$kind" --set "optimizer.lr=$lr" >"$work/events"
  python3 - "$work/events" "$kind" "$lr" <<'ROW'
import json, statistics, sys

events = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
speed = statistics.median(e["tokens_per_s"] for e in events if e["event"] == "step")
result = next(e for e in events if e["event"] == "result")
bits = result["validation"]["bits_per_byte"]
print(f"| `{sys.argv[2]}` | {sys.argv[3]} | {bits:.3f} | {speed / 1000:.1f}k |", flush=True)
ROW
done
