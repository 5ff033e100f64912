# `make site` sets everything up and runs the whole chain on the lab; `make test` sets everything up and passes the tests.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
LAB := $(or $(KUBEVAULT_LAB),$(CURDIR)/.lab)
export PATH := $(CURDIR)/$(RUN):$(PATH)
# Python keeps what it compiled, even where the environment forbids it: each module of Ansible's is a new process.
export PYTHONDONTWRITEBYTECODE :=
# One home for what Ansible writes, so that nothing of another project is found there.
export ANSIBLE_HOME := $(CURDIR)/.ansible

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {gsub(/[$$][$$]/, "$$"); printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Setting up

# Of another Python, or of another lock file, the virtual environment is made again, so that it holds what is locked.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
READY := $(VENV)/ready-$(PYTHON_VERSION)

$(READY): requirements.lock pyproject.toml tools/check-python tools/prerequisites.py
	@tools/check-python $(PYTHON)
	$(PYTHON) tools/prerequisites.py
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN)/pip install --disable-pip-version-check --require-hashes --progress-bar off --quiet -r requirements.lock
	$(RUN)/pip install --disable-pip-version-check --no-deps --no-build-isolation --quiet --editable .
	touch $@

.PHONY: venv
venv: $(READY) ## Create the virtual environment

.PHONY: binaries
binaries: venv ## Provide the lab's programs: found, cached, downloaded or built
	@python -m kubevault_lab.binaries $(if $(LAB_NODE),--node)

## The lab

.PHONY: lab-up
lab-up: binaries ## Start the lab, or repair it; with LAB_NODE=1 it has a node, which runs pods
	@ansible-playbook playbooks/lab.yml

.PHONY: lab-down
lab-down: venv ## Stop the lab and delete it
	@ansible-playbook playbooks/lab-down.yml

.PHONY: lab-exists
lab-exists:
	@test -f $(LAB)/env || { echo "There is no lab in $(LAB). Make one: make lab-up" >&2; exit 1; }

.PHONY: lab-status
lab-status: venv lab-exists ## Show the lab's servers
	@supervisorctl -c $(LAB)/supervisord.conf status
	@test ! -d $(LAB)/node || supervisorctl -c $(LAB)/node/supervisord.conf status
	@python -m kubevault_lab.status $(LAB)

.PHONY: lab-env
lab-env: lab-exists ## Print what a client of the lab needs, for: eval "$$(make -s lab-env)"
	@sed -n 's/^[A-Z]/export &/p' $(LAB)/env

## The main job

# What changes is shown, and what fails. What is deprecated in kubernetes.core is for its authors to change.
QUIET := ANSIBLE_DISPLAY_OK_HOSTS=false ANSIBLE_DEPRECATION_WARNINGS=false

.PHONY: site
site: binaries ## Set up the whole chain on the lab, seal an example and read it back
	@$(QUIET) ansible-playbook site.yml
	@$(MAKE) --silent example
	@cat docs/after-site.txt

.PHONY: example
example: venv lab-exists ## Read the example's secret as the workload "demo"
	@set -a; . $(LAB)/env; KUBECONFIG=$$KUBEVAULT_WORKLOAD_KUBECONFIG python examples/kubevault_example.py

## What is written from other files

.PHONY: options
options: venv ## Write Ansible's argument specs and documentation fragments from src/secretmanager/options.py
	python tools/generate_options.py

## Tests

# As many suites at once as the machine has cores; the longest come first.
SUITES := hosts integration pods lint
CORES := $(shell nproc)
# Not $(MAKE), so that the output of a suite is held back until its end (GNU make, "Parallel Output").
SUITE = $(SUBMAKE) --silent PYTHON=$(PYTHON) VENV=$(VENV)
SUBMAKE := env --unset=MAKEFLAGS $(MAKE)
# Each of Ansible's modules is compiled once, not for each task.
BYTECODE := $(CURDIR)/src/kubevault_lab/bytecode

.PHONY: test $(SUITES:%=suite-%)
test: binaries ## Set everything up and pass all tests
	@rm -rf build/suites
	-@$(MAKE) --silent --keep-going --jobs=$(CORES) --output-sync=line $(SUITES:%=suite-%)
	@python tools/suites.py report $(SUITES)

$(SUITES:%=suite-%): suite-%:
	@echo "$*: begun; its output: build/suites/$*.log"
	@PYTHONPATH=$(BYTECODE) python tools/suites.py run $* $(SUITE) $*

# The tests of a file share their servers, so one process runs them. The files come in the order of tests/conftest.py.
IN_PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
TESTS :=

# Each linter is a target of its own, for .pre-commit-config.yaml; the longest come first.
LINTERS := lint-ansible lint-mypy lint-yaml lint-go lint-changelog lint-imports lint-ruff

.PHONY: lint $(LINTERS)
lint: venv ## Run the linters
	@$(MAKE) --silent --keep-going --jobs=$(CORES) --output-sync=target $(LINTERS)

lint-ruff: venv
	ruff check
	ruff format --check

lint-mypy: venv
	mypy

lint-imports: venv
	lint-imports

lint-yaml: venv
	yamllint --strict .

lint-ansible: venv
	ansible-lint --offline

lint-changelog: venv
	antsibull-changelog lint

lint-go:
	@if command -v go >/dev/null; then cd images/kubevault/exec; CGO_ENABLED=0 go vet -trimpath ./...; files=$$(gofmt -l .); \
	    test -z "$$files" || { echo "not formatted (gofmt -w): $$files" >&2; exit 1; }; \
	else mkdir -p build/suites; echo "Go is not installed" | tee build/suites/lint-go.not-run >&2; fi

.PHONY: integration
integration: binaries ## Prove the chain in a lab of its own, then run the unit and integration tests there
	tools/programs-for-tests $(RUN)
	tests/molecule-test default $(MAKE) --silent in-the-lab

# Those of site change what all others in the lab need.
.PHONY: in-the-lab
in-the-lab:
	status=0; pytest tests/integration/site || status=$$?; \
	    pytest $(IN_PARALLEL) --cov --ignore=tests/integration/site && exit $$status

# What a machine cannot run is noted, and said at the end of `make test`; in CI that is an error.
.PHONY: pods
pods: venv ## Prove the chain in real pods, on a node in a lab of its own, as root
	@tools/where-possible pods tools/node-for-tests $(MAKE) --silent on-a-node

.PHONY: on-a-node
on-a-node:
	$(MAKE) --silent binaries LAB_NODE=1
	tests/molecule-test pods

.PHONY: hosts
hosts: binaries ## Prove the roles for your servers on hosts with systemd, as root or on hosts of yours
	@tools/where-possible hosts $(if $(KUBEVAULT_HOSTS_INVENTORY),true,tools/hosts-for-tests) $(MAKE) --silent on-hosts

.PHONY: on-hosts
on-hosts:
	$(MAKE) --silent binaries LAB_NODE=1
	tests/on-hosts molecule test --scenario-name hosts
	$(if $(KUBEVAULT_HOSTS_INVENTORY),,pytest tests/hosts)

# Not parts of `make test`, which they would make too long for CI.
.PHONY: node
node: venv ## Prove that a lab's node leaves nothing on the machine, however it ends, as root
	tools/node-for-tests
	$(MAKE) --silent binaries LAB_NODE=1
	pytest tests/pods

.PHONY: roles
roles: venv ## Prove single roles on hosts, as root: MicroK8s' upgrades, the change of a seal, teardown
	tools/hosts-for-tests
	$(MAKE) --silent binaries LAB_NODE=1
	tests/on-hosts pytest tests/roles

.PHONY: faults
faults: binaries ## Break what a Vault of three hosts consists of, under load, as root
	tools/hosts-for-tests
	tests/on-hosts pytest tests/faults

.PHONY: unit
unit: venv ## Run the unit tests alone, which need no server
	pytest $(IN_PARALLEL) tests/unit

.PHONY: pytest
pytest: binaries ## Run unit and integration tests, or TESTS=..., in a lab of their own
	tools/programs-for-tests $(RUN)
	tests/in-a-lab pytest $(TESTS)

.PHONY: release-files
release-files: binaries ## Prove what users download: collection, wheel and image, as root
	tools/node-for-tests
	tests/in-a-lab pytest tests/release

.PHONY: release-check
release-check: binaries ## Prove what a release needs: what users download, and all tests, on the oldest and the newest Python
	@for python in $$(python tools/pythons.py); do echo "All proofs with $$python"; \
	    $(SUBMAKE) --silent release-files test PYTHON=$$python VENV=build/venv-$${python##*python}; done

## Figures

.PHONY: bench-seal
bench-seal: binaries ## Measure sealing, side by side with others
	tests/in-a-lab python benchmarks/bench_seal.py

.PHONY: bench-read
bench-read: binaries ## Measure reading, side by side with others
	tests/in-a-lab python benchmarks/bench_read.py

.PHONY: bench-rotate
bench-rotate: binaries ## Measure rewrapping, side by side with others
	tests/in-a-lab python benchmarks/bench_rotate.py

## Releases

.PHONY: collection
collection: venv ## Build the Ansible collection into dist/
	python tools/build_collection.py dist

.PHONY: dist
dist: venv collection ## Build wheel, sdist, bill of materials and collection into dist/, reproducibly
	python tools/build_dist.py dist

# make image PLATFORM=amd64 EXTRA="redis gcp" BASE=rootfs.tar MIRROR=https://... REFERENCE=registry.example.org/kubevault:0.1.0
IMAGE_OPTIONS = $(PLATFORM:%=--platform=%) $(EXTRA:%=--extra=%) $(BASE:%=--base=%) $(MIRROR:%=--mirror=%) $(REFERENCE:%=--reference=%)

.PHONY: image
image: venv ## Build the image of the command into dist/image/, for amd64 and arm64
	python tools/build_image.py $(IMAGE_OPTIONS) dist/image

.PHONY: changelog
changelog: venv ## Make CHANGELOG.md from changelogs/fragments, for the version in galaxy.yml
	antsibull-changelog release --reload-plugins --refresh --update-existing
