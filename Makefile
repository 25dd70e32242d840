# make build  fetches libtorch, once, and builds target/release/picker; with CUDA=1 for NVIDIA GPUs as well
# make demo   set up, build and run the main job on simulated data
# make test   all tests
# make lint   formatting, clippy and docs, warnings as errors
# make bench  criterion benches
# make install    the program with libtorch into PREFIX (default ~/.local); make uninstall removes it
# make dist       the same in one file that runs on other machines: dist/picker-VERSION-linux-x86_64.tar.zst
# make wheel      a Python wheel that uses the libtorch of the package `torch`: dist/picker_cryoem-….whl
# make default-model  the model inside the program, anew: simulate, fetch nine pictures, train, pack; about two hours

DEMO ?= demo_run
DEMO_SIZE ?= 1024
DEMO_COUNT ?= 6
DEMO_SEED ?= 1
DEMO_TRAIN ?=

DEFAULT_MODEL ?= default_model

PREFIX ?= $(HOME)/.local
# CUDA=1 also for dist and install, if they build.
CUDA ?=
export CUDA
ifeq ($(CUDA),1)
export LIBTORCH ?= $(CURDIR)/.libtorch-cuda/torch
endif

.PHONY: libtorch build dist wheel install uninstall demo test lint bench default-model

libtorch:
	@./scripts/libtorch.sh

build: libtorch
	@[ -x target/release/picker ] || echo "cargo build: about 6 minutes on two cores the first time; target/ takes 1.3 GB"
	cargo build --release
	@echo "built target/release/picker; \`make install\` puts it on the path: $(PREFIX)/bin/picker"

dist: build
	@./scripts/dist.sh tarball

wheel: build
	@./scripts/dist.sh wheel

# Builds only if nothing is built, so that `make build && sudo make install PREFIX=/usr/local` works.
install:
	@[ -x target/release/picker ] || $(MAKE) build
	@./scripts/dist.sh tree
	@./scripts/install.sh install "$(PREFIX)"

uninstall:
	@./scripts/install.sh uninstall "$(PREFIX)"

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

# Stops and resumes anywhere. Simulated micrographs go in, and nine pictures without particles.
default-model: build
	target/release/picker simulate --preset training --count 1000 --seed 1 --out $(DEFAULT_MODEL)
	python3 -m venv $(DEFAULT_MODEL)/python
	$(DEFAULT_MODEL)/python/bin/pip install --quiet --disable-pip-version-check pillow
	$(DEFAULT_MODEL)/python/bin/python scripts/pictures_without_particles.py $(DEFAULT_MODEL)/without
	target/release/picker train $(DEFAULT_MODEL)/micrographs $(DEFAULT_MODEL)/without/micrographs \
	  --coordinates $(DEFAULT_MODEL)/coordinates $(DEFAULT_MODEL)/without/coordinates \
	  --particle-radius 9.5 --config configs/default-model.toml --from-scratch --seed 1 \
	  --threads 1 --out $(DEFAULT_MODEL)/run
	target/release/picker model pack $(DEFAULT_MODEL)/run --threshold 0.553 --out src/model/default.safetensors
