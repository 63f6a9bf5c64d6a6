#!/usr/bin/env bash
# Speed beside a named peer, in the same run and in turn, because the speed of a machine drifts.
#
#     make bench                       # or: bash benches/run.sh ROUNDS
#
# The peer is PyTorch eager with fused AdamW and its best allocator settings, from the environment of
# `make conformance`. Prints tokens per second of each round and the median of the ratios; fails
# where a bar is missed: half of PyTorch's speed, 20 ms for the ten steps of the Python example.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=${1:-5}
threads=${THREADS:-2}

# Solver, and the largest decoder: each fails above its bar.
cargo run --quiet --release -p llmc-spec --example solve_speed | tail -n 1
cargo run --quiet --release -p llmc --example largest

cargo build --quiet --release -p llmc-train --example train_speed
ours=${CARGO_TARGET_DIR:-target}/release/examples/train_speed
env=$(bash tests/conformance/env.sh)

for size in b tiny; do
  steps=6
  [ "$size" = tiny ] && steps=200
  ratios=()
  for ((round = 1; round <= rounds; round++)); do
    a=$("$ours" "$size" "$steps" "$threads" 2>/dev/null)
    b=$(MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456 \
      "$env/bin/python" benches/torch_train.py --size "$size" --steps "$steps" --threads "$threads")
    ratio=$(awk -v a="$a" -v b="$b" 'BEGIN { printf "%.2f", a / b }')
    echo "size $size, round $round: llmc $a tokens/s, torch $b tokens/s, ratio $ratio"
    ratios+=("$ratio")
  done
  median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$(((rounds + 1) / 2))p")
  echo "size $size: median ratio llmc / torch = $median"
  awk -v r="$median" 'BEGIN { exit !(r >= 0.5) }' || { echo "below the bar of 0.5" >&2; exit 1; }
done

make --no-print-directory python-package
target/venv/bin/python benches/python_run.py 40
