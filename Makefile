.PHONY: test lint bench faults demo

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

# Disks that fail, clocks that jump, upstreams that flap: docs/operations.md tells what has to happen.
faults:
	cargo build --locked --bins --tests
	@python3 scripts/faults target/debug/tollgate

demo:
	cargo run --release -- demo
