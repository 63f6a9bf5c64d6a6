#!/usr/bin/env bash
# Speed beside a named peer, in the same run and in turn, because the speed of a machine drifts.
#
#     make bench                       # or: bash benches/run.sh ROUNDS
#
# Peers are PyTorch, eager and compiled, from the environment of `make conformance`, and llama.cpp, onnxruntime,
# tokenizers and tiktoken from that of `benches/peers.sh`, which builds llama.cpp at the first call. Fails where a bar
# is missed that every machine should reach: half of PyTorch's speed, the solver's time, 20 ms for the
# ten steps of the Python example. The other tables are to be read; `docs/benchmarks.md` has those of one machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rounds=${1:-3}
threads=${THREADS:-2}

# Solver, and the largest decoder: each fails above its bar.
cargo run --quiet --release -p llmc-spec --example solve_speed | tail -n 1
cargo run --quiet --release -p llmc --example largest

cargo build --quiet --release -p llmc-train --example train_speed
env=$(bash tests/conformance/env.sh)
python3 benches/training.py --torch "$env/bin/python" --rounds "$rounds" --threads "$threads" \
  --ours "${CARGO_TARGET_DIR:-target}/release/examples/train_speed" --bar 0.5

peers=$(bash benches/peers.sh)
cargo build --quiet --release -p llmc --example inference_speed
python3 benches/inference.py --peers "$peers" --torch "$env/bin/python" --rounds "$rounds" --threads "$threads" \
  --ours "${CARGO_TARGET_DIR:-target}/release/examples/inference_speed"

cargo build --quiet --release -p llmc-data --example tokenizer_speed
"$peers/python/bin/python" benches/tokenizers_speed.py "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
  --rounds "$rounds" --ours "${CARGO_TARGET_DIR:-target}/release/examples/tokenizer_speed"

cargo run --quiet --release -p llmc-train --example growth -- "$threads"
cargo run --quiet --release -p llmc-runtime --example window_speed "$threads"
cargo run --quiet --release -p llmc-kernels --example gemm_speed -- 2048x512x512
cargo run --quiet --release -p llmc-runtime --example decode_speed
cargo run --quiet --release -p llmc --example plan_accuracy

make --no-print-directory python-package
target/venv/bin/python benches/python_run.py 40
