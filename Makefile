# What people run. `.ci/run` calls the same targets.

CARGO ?= cargo
PYTHON ?= python3
VENV := target/venv

.PHONY: help demo test test-rust test-python python-package conformance quickstart-test kill exactness lint doc tidy cross bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

demo: ## build llmc and train a small code model on this machine's own Python library
	$(CARGO) build --release -p llmc-cli
	./target/release/llmc quickstart

test: test-rust test-python ## all tests of the Rust crates and the Python package

test-rust:
	$(CARGO) test --workspace --exclude llmc-py

test-python: python-package
	$(VENV)/bin/python -m pytest -q python/tests

python-package: $(VENV)/stamp
	$(VENV)/bin/python -m pip install --quiet .

$(VENV)/stamp: python/requirements-test.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r python/requirements-test.txt
	touch $@

conformance: ## check the exports against torch, transformers and tokenizers
	bash tests/conformance/conformance.sh

quickstart-test: ## the quickstart must beat gzip -9 and a 5-gram model; two minutes
	bash tests/quickstart.sh

kill: ## kill a training 50 times at random instants; it must end in the same bits
	LLMC_KILLS=50 $(CARGO) test -p llmc-cli --test interruption

exactness: ## all threads, splits, optimisers, precisions, instruction sets, power failures and 200 kills
	$(CARGO) test -p llmc-kernels
	LLMC_EXACTNESS=1 $(CARGO) test -p llmc-train --lib exactness
	LLMC_EXACTNESS=1 $(CARGO) test -p llmc --lib -- faults crashes
	LLMC_KILLS=200 $(CARGO) test -p llmc-cli --test interruption

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@# Only checked, so libFuzzer itself (C++) need not be built: any path stands for it.
	CUSTOM_LIBFUZZER_PATH=target/libfuzzer.a $(CARGO) check --manifest-path fuzz/Cargo.toml --target-dir target/fuzz

doc: ## build the documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace

tidy: ## checks of the repository itself
	$(CARGO) xtask tidy

cross: ## type-check for other platforms, as far as their standard library is installed
	bash .ci/cross

bench: ## speed, with the peers where they are installed
	bash benches/run.sh

clean:
	$(CARGO) clean
