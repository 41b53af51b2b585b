.PHONY: test lint bench demo fuzz

# Exactly what CI runs.
test:
	@scripts/test.sh

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# The unit tests of speed-sensitive parts are part of "test"; docs/performance.md says how to measure the whole.
bench:
	cargo build --release
	@scripts/bench.sh

demo:
	cargo run --release -- demo

# For each target SECONDS, 60 unless told. fuzz/README.md says more.
fuzz:
	@FUZZ_SECONDS=$(or $(SECONDS),60) scripts/fuzz.sh $(TARGETS)
