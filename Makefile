# make demo   set up, build and run the main job on simulated data
# make test   all tests
# make lint   formatting, clippy and docs, warnings as errors
# make bench  criterion benches

DEMO ?= demo_run
DEMO_SIZE ?= 1024
DEMO_COUNT ?= 6
DEMO_SEED ?= 1
DEMO_TRAIN ?=

.PHONY: libtorch build demo test lint bench

libtorch:
	@./scripts/libtorch.sh

build: libtorch
	cargo build --release

demo: build
	@PICKER=target/release/picker ./scripts/demo.sh $(DEMO) $(DEMO_COUNT) $(DEMO_SIZE) $(DEMO_SEED) $(DEMO_TRAIN)

# Everything in the release profile: one build of libtorch's bindings serves all targets.
test: libtorch
	cargo test --release

lint: libtorch
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps

bench: libtorch
	cargo bench
