# Cocoon: build, try and test on one machine. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# One cache for all clones of a user, outside the source tree.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cocoon/target

COCOON       := $(CARGO_TARGET_DIR)/release/cocoon
COCOON_DEBUG := $(CARGO_TARGET_DIR)/debug/cocoon
# containerd's runtime.
SHIM         := $(CARGO_TARGET_DIR)/shim/containerd-shim-cocoon-v2
SHIM_DEBUG   := $(CARGO_TARGET_DIR)/debug/containerd-shim-cocoon-v2
# The guest is linked statically. Its own target folder keeps those flags from rebuilding everything else. Its crypto
# library takes entropy from the kernel, which the CPU's generator seeds inside the TEE; measuring timing jitter
# besides costs over a second under emulation.
GUEST_TARGET := $(CARGO_TARGET_DIR)/guest
GUEST        := $(GUEST_TARGET)/x86_64-unknown-linux-gnu/guest/cocoon-guest
# The image that demo and tests boot; `make guest` builds the user's own into the data folder.
IMAGE        := $(CARGO_TARGET_DIR)/guest-image
# `make guest KERNEL_DEB=file.deb`, `make demo SUITE=bookworm-backports`: another kernel.
GUEST_BUILD   = guest build --guest-binary '$(GUEST)' $(if $(KERNEL_DEB),--kernel-deb '$(KERNEL_DEB)') \
                $(if $(SUITE),--suite '$(SUITE)')
# Seconds for each target of `make fuzz`.
FUZZ_SECONDS ?= 60

.PHONY: help setup build guest demo demo-containerd demo-kubernetes test test-killed bench bench-images bench-runtime bench-kubernetes lint deny fuzz cocoon shim guest-binary kubernetes cluster conformance

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 10

setup: ## install what is missing, from Debian's packages (as root)
	@scripts/setup.sh

cocoon: setup
	cargo build --release --locked -p cocoon

shim: setup
	cargo build --profile shim --locked -p cocoon-shim

guest-binary: setup
	AWS_LC_SYS_NO_JITTER_ENTROPY=1 RUSTFLAGS='-C target-feature=+crt-static' \
	    cargo build --locked --profile guest -p cocoon-guest \
	    --target x86_64-unknown-linux-gnu --target-dir '$(GUEST_TARGET)'

build: cocoon guest-binary ## build the programs: cocoon (release) and the static guest

guest: build ## build the measured guest image into the user's data folder
	'$(COCOON)' $(GUEST_BUILD)

# $(call image,COCOON): makes $(IMAGE) unless it is newer than what it is made with.
define image
@if [ -n '$(KERNEL_DEB)$(SUITE)' ] || ! [ '$(IMAGE)/manifest.json' -nt '$(GUEST)' -a '$(IMAGE)/manifest.json' -nt '$(1)' ]; \
then '$(1)' $(GUEST_BUILD) --out '$(IMAGE)' >/dev/null; fi
endef

demo: build ## the main job on real input: registry, encrypted image, attested VM, four refusals
	$(call image,$(COCOON))
	@COCOON='$(COCOON)' COCOON_GUEST_IMAGE='$(IMAGE)' scripts/demo.sh

demo-containerd: build shim ## the same through containerd's runtime v2, with ctr (as root)
	$(call image,$(COCOON))
	@COCOON='$(COCOON)' COCOON_SHIM='$(SHIM)' COCOON_GUEST_IMAGE='$(IMAGE)' scripts/demo-containerd.sh

demo-kubernetes: build shim kubernetes ## a real cluster: install, apply, verify, three refusals, uninstall (as root)
	$(call image,$(COCOON))
	cargo build --locked --workspace --example cluster
	@COCOON='$(COCOON)' COCOON_SHIM='$(SHIM)' COCOON_GUEST_IMAGE='$(IMAGE)' \
	    CLUSTER='$(CARGO_TARGET_DIR)/debug/examples/cluster' scripts/demo-kubernetes.sh

kubernetes: setup
	@scripts/kubernetes.sh

test: guest-binary kubernetes ## all tests, unit and story; COCOON_SKIP_KUBERNETES=1 goes without a cluster
	cargo build --locked --workspace --bin cocoon --bin containerd-shim-cocoon-v2
	$(call image,$(COCOON_DEBUG))
	COCOON_BIN='$(COCOON_DEBUG)' COCOON_SHIM_BIN='$(SHIM_DEBUG)' COCOON_GUEST_IMAGE='$(IMAGE)' scripts/test.sh

test-killed: guest-binary ## kill every process of pods at random, 50 times (as root; COCOON_SEED=N repeats a run)
	cargo build --locked --workspace --bin cocoon --bin containerd-shim-cocoon-v2
	$(call image,$(COCOON_DEBUG))
	COCOON_KILLS=50 COCOON_BIN='$(COCOON_DEBUG)' COCOON_SHIM_BIN='$(SHIM_DEBUG)' COCOON_GUEST_IMAGE='$(IMAGE)' cargo test --locked --workspace --test pods_killed -- --nocapture

conformance: guest-binary kubernetes ## Kubernetes' NodeConformance suite with Cocoon as every pod's runtime (as root; hours; RUNTIME=runc FOCUS=… SKIP=…)
	scripts/kubernetes.sh conformance
	cargo build --locked --workspace --bin cocoon --bin containerd-shim-cocoon-v2
	$(call image,$(COCOON_DEBUG))
	cargo build --locked --workspace --example cluster
	COCOON_BIN='$(COCOON_DEBUG)' COCOON_SHIM_BIN='$(SHIM_DEBUG)' COCOON_GUEST_IMAGE='$(IMAGE)' \
	    CLUSTER='$(CARGO_TARGET_DIR)/debug/examples/cluster' scripts/conformance.sh

cluster: guest-binary kubernetes ## a Kubernetes of one node to try things on, until Ctrl-C (as root)
	cargo build --locked --workspace --bin cocoon --bin containerd-shim-cocoon-v2
	$(call image,$(COCOON_DEBUG))
	COCOON_BIN='$(COCOON_DEBUG)' COCOON_SHIM_BIN='$(SHIM_DEBUG)' COCOON_GUEST_IMAGE='$(IMAGE)' cargo run --locked --example cluster -- --owner

bench: build ## the figures: latency, memory, throughput
	$(call image,$(COCOON))
	COCOON_BIN='$(COCOON)' COCOON_GUEST_IMAGE='$(IMAGE)' cargo bench --locked -p cocoon-benches -p cocoon-trustee --bench main_job --bench handshake --bench trustee_load

bench-images: build ## image delivery beside skopeo, umoci and containerd; first byte with shared layers (half an hour)
	$(call image,$(COCOON))
	COCOON_BIN='$(COCOON)' COCOON_GUEST_IMAGE='$(IMAGE)' cargo bench --locked -p cocoon-benches --bench images --bench layers

bench-runtime: build shim ## pods through containerd: start, exec, logs, network, memory, beside runc (as root)
	$(call image,$(COCOON))
	COCOON_BIN='$(COCOON)' COCOON_SHIM_BIN='$(SHIM)' COCOON_GUEST_IMAGE='$(IMAGE)' cargo bench --locked -p cocoon-benches --bench runtime

bench-kubernetes: build shim kubernetes ## a cluster: apply to Ready, installation, footprint of operator and nodes, a fleet of 1,000 (as root)
	$(call image,$(COCOON))
	COCOON_BIN='$(COCOON)' COCOON_SHIM_BIN='$(SHIM)' COCOON_GUEST_IMAGE='$(IMAGE)' cargo bench --locked -p cocoon-benches --bench kubernetes

lint: ## formatting and clippy, warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

deny: ## licences, bans, advisories and duplicates (needs cargo-deny)
	cargo deny --locked check

fuzz: ## every fuzz target for FUZZ_SECONDS each (needs cargo-fuzz)
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' fuzz/run.sh
