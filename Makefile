# Modelyard. `make help` lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE    := $(or $(MODELYARD_CACHE),$(HOME)/.cache/modelyard)
VENV     := $(CACHE)/venv
PY       := $(VENV)/bin/python
CLUSTER  := python3 -m tests.cluster
NAME     ?= default
PYTEST   := $(PY) -m pytest --durations=12 --durations-min=5
# One more than there are processors, within reason, since some tests wait; those of a cluster mostly do, and take three.
AT_ONCE  := -n $(shell echo $$(( $$(nproc) < 8 ? $$(nproc) + 1 : 8 ))) --dist worksteal
WAITING  := -n 3 --dist worksteal

export PYTHONPATH := operator:images/models:images/trainer:images/agent:images/server:images/gateway

##@ Start here
.PHONY: help demo demo-down
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## From nothing to a model that answers: cluster, images, chart, data, training, serving, load
	$(MAKE) --jobs=2 cluster-up demo-images  # where one waits for the network or a disk, the other compiles
	$(PY) -m examples.demo --cluster $(NAME) up

.PHONY: demo-images
demo-images: venv
	$(MAKE) images

demo-down: ## Remove what the demo installed; the cluster stays
	python3 -m examples.demo --cluster $(NAME) down

##@ Cluster and images
.PHONY: cluster-up cluster-down cluster-status images load
cluster-up: ## Start the local cluster (kind where Docker runs, else real Kubernetes as plain processes); NODES=2
	$(CLUSTER) up --name $(NAME) $(if $(NODES),--nodes $(NODES))

cluster-down: ## Stop it; WIPE=1 also removes its objects and volumes
	$(CLUSTER) down --name $(NAME) $(if $(WIPE),--wipe)

cluster-status: ## Show what runs
	$(CLUSTER) status --name $(NAME)

images: ## Build the images whose inputs changed
	python3 images/build.py all

load: images ## Build, and load the images into the cluster
	python3 images/build.py all --load $(NAME)

##@ Development
.PHONY: venv lock run generate verify format lint
venv: ## The development environment, from the hashed lock files
	python3 requirements/install.py $(VENV)

lock: venv ## Resolve the lock files anew; ARGS=--upgrade takes newer releases
	$(PY) requirements/lock.py $(ARGS)

run: venv ## Run the operator from the checkout against KUBECONFIG; ARGS="--profiles FILE"
	$(PY) -m modelyard run $(ARGS)

generate: venv ## Regenerate crds/, the chart's copy, the API reference and the chart's dashboards
	$(PY) -m modelyard.api.generate
	$(PY) -m dashboards

format: venv ## Format the code
	$(VENV)/bin/ruff format operator dashboards images tests examples requirements
	$(VENV)/bin/ruff check --fix operator dashboards images tests examples requirements

lint: venv ## ruff, mypy --strict, import contracts
	$(VENV)/bin/ruff check operator dashboards images tests examples requirements
	$(VENV)/bin/ruff format --check operator dashboards images tests examples requirements
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

verify: lint ## Everything that must be true of a commit and needs no cluster
	$(PY) -m modelyard.api.generate --check
	$(PY) -m dashboards --check
	$(PYTEST) $(AT_ONCE) tests/unit

##@ Tests and measurements
.PHONY: test test-unit test-trainer test-server test-gateway test-apiserver test-e2e test-two-nodes soak bench
test: verify test-gateway ## All tests: static checks, unit tests, training, serving, real kube-apiserver, real pods
	$(MAKE) --jobs=2 --output-sync test-e2e test-beside  # pods wait more than they compute

test-unit: venv ## Pure tests
	$(PYTEST) $(AT_ONCE) tests/unit

# One after the other, beside the pods of test-e2e.
.PHONY: test-beside
test-beside: venv
	$(MAKE) test-apiserver
	$(MAKE) test-trainer
	$(MAKE) test-server

test-trainer: venv ## Real training on 1, 2 and 3 processes, held against plain transformers
	$(PYTEST) -n 2 --dist loadfile tests/trainer

test-server: venv ## Real model servers over HTTP: start, answers, drain, bad models
	$(PYTEST) -n 2 --dist worksteal tests/server

test-gateway: venv ## Real gateways, whose servers are killed, under load, and their page in a browser
	$(PYTEST) tests/gateway

test-apiserver: venv ## Against a real kube-apiserver without nodes
	$(PYTEST) $(WAITING) tests/apiserver

test-e2e: venv ## With real pods that really train
	$(PYTEST) tests/e2e

test-two-nodes: venv ## Two nodes of which one is drained or lost, under jobs and deployments; after a change of attempts or the gateway
	$(PYTEST) tests/twonodes

soak: venv ## What is long and rare, e.g. 1,000 jobs while the operator is killed, or a real KEDA; before a release
	$(PYTEST) tests/soak

bench: venv ## Measure; prints tables, stores JSON under build/bench; ARGS="api idle deployments trainer verification recovery scaling gateway load serving" chooses
	$(PY) -m tests.bench $(ARGS)
