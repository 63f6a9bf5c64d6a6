#!/usr/bin/env bash
# `make conformance`: what llmc writes, loaded and computed by other people's libraries.
#
# 1. Exports of a dozen structures in torch and transformers, in float64, against the f64 evaluator.
# 2. Tokenizers of every kind in the `tokenizers` library, on this machine's Python library.
# 3. A run of one's own: trained by the command, emitted, and checked by the program in the export.
#
# The environment is made once and kept in the user's cache folder under the hash of its pins.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

env=$(bash tests/conformance/env.sh)
python=$env/bin/python
work=target/conformance
rm -rf "$work"
mkdir -p "$work"

echo "-- exports"
cargo run --quiet -p llmc-codegen --example conformance_cases -- "$work/cases"
"$python" tests/conformance/run.py "$work/cases"

echo "-- tokenizers"
texts=$("$python" -c "import json, pathlib; print(pathlib.Path(json.__file__).parent)")
for case in "byte_bpe 2048" "bpe 512" "char 90"; do
  read -r kind vocab <<<"$case"
  cargo run --quiet -p llmc-data --example dump_ids -- "$kind" "$vocab" "$texts" "$work/ids-$kind"
  "$python" tests/conformance/tokenizers_parity.py "$work/ids-$kind"
done

echo "-- a run of one's own"
cargo build --quiet -p llmc-cli
llmc=${CARGO_TARGET_DIR:-target}/debug/llmc
cat >"$work/own.toml" <<'SPEC'
[model]
vocab_size = 300
context_length = 64
num_layers = 2
hidden_size = 32
num_heads = 4
num_kv_heads = 2
intermediate_size = 48

[dataset]
domains = ["synthetic"]
target_tokens = 4_000
validation_fraction = 0.1

[tokenizer]
type = "byte_bpe"

[training]
batch_size = 4
max_steps = 5
SPEC
export LLMC_CACHE=$work/cache
"$llmc" --quiet train "$work/own.toml" --output "$work/runs"
for target in pytorch huggingface; do
  "$llmc" --quiet emit --runs "$work/runs" --to "$target" --output "$work/own-$target"
  "$python" "$work/own-$target/check_export.py" "$work/own-$target"
done
