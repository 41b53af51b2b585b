.PHONY: test lint bench scale profile faults demo identity-load fuzz

# Exactly what CI runs.
test:
	@scripts/test.sh

# Format, clippy, and what is known of the dependencies.
lint:
	@scripts/lint.sh

# Beside HAProxy, Envoy and nginx: ten minutes. BENCH has what scripts/bench.py is told, such as BENCH="hs256 --rounds 5".
bench:
	cargo build --release
	@python3 scripts/bench.py $(BENCH)

# How it scales, into docs/plots: about twenty-five minutes. SCALE has what scripts/scale.py is told, such as SCALE="tokens routes".
scale:
	cargo build --release
	@python3 scripts/scale.py $(SCALE)

# What requests execute, which release builds are optimised for, into profile: about ten minutes.
profile:
	@python3 scripts/release_profile.py

# Disks that fail, clocks that jump, upstreams that flap: docs/operations.md tells what has to happen.
faults:
	cargo build --locked --bins --tests
	@python3 scripts/faults target/debug/tollgate

demo:
	cargo run --release -- demo

# Whether anybody gets what is somebody else's: a million answers, a fifth of that in "test". Takes some minutes.
identity-load:
	cargo build --release --bins
	cargo test --test identity_load -- --program target/release/tollgate 1000000

# For each target SECONDS, 60 unless told. fuzz/README.md says more.
fuzz:
	@FUZZ_SECONDS=$(or $(SECONDS),60) scripts/fuzz.sh $(TARGETS)
