#!/usr/bin/env bash
# `make quickstart-test`: the quickstart learns. On this machine's own Python library its held-out
# bits per byte must be below those of gzip -9 and of a 5-gram model. Two minutes in a release build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --quiet --release -p llmc-cli
llmc=$(realpath "${CARGO_TARGET_DIR:-target}/release/llmc")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && LLMC_CACHE=$work/cache "$llmc" quickstart --json >events.jsonl)
python3 - "$work/events.jsonl" <<'CHECK'
import json, sys

events = {}
for line in open(sys.argv[1], encoding="utf-8"):
    event = json.loads(line)
    events[event["event"]] = event
ours = events["result"]["validation"]["bits_per_byte"]
baselines = events["baselines"]["baselines"]
print(f"bits per byte: ours {ours:.3f}, " + ", ".join(f"{k} {v:.3f}" for k, v in baselines.items()))
assert events["baselines"]["is_real_text"], "no Python library was found to learn from"
assert ours < baselines["gzip"], "gzip -9 is better"
assert ours < baselines["five_gram"], "the 5-gram model is better"
assert events["verified"]["ok"], "the run does not verify"
CHECK
