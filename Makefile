# `make` lists the targets.  Each of them first builds what it needs (see bootstrap.sh): nothing
# but Python >= 3.11 and a package index has to be there, and the system's Python stays as it is.
# Recipes run in the plain sh; `make -s` hides nothing that matters.

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev compiled run test test-slow coverage lint bench screenshots drills soak wheel image release docs chart chart-golden audit mutants clean

# Whoever has told Python to write no bytecode beside the sources gets it here instead: a command
# that compiles everything anew takes three times as long to start.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.tools/bytecode

PY := .venv/bin/python
UV := ./bootstrap.sh uv

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup:  ## build .venv; where there is a C compiler, compile for the next start (docs/compiled.md)
	@./bootstrap.sh sync
	@$(PY) deploy/compiled/checkout.py

setup-dev:
	@./bootstrap.sh sync dev

compiled: setup-dev  ## compile the request path of this tree, for COMPILED=1
	@$(PY) deploy/compiled/checkout.py compile

run: setup  ## the gateway on http://127.0.0.1:8080 with a demo backend, and lines to try
	@exec .venv/bin/gateway dev $(ARGS)

# The suite waits for processes longer than it computes.  A file stays with one process of
# pytest-xdist, so that what it starts is started once; tests/conftest.py says in which order.
CORES := $(shell getconf _NPROCESSORS_ONLN)
JOBS ?= $(shell echo $$(( $(CORES) + 2 )))
# COMPILED=1: on the compiled request path, as images and releases have it; else on the sources.
PYTEST = AUTHGATE_COMPILE=$(if $(COMPILED),always,never) $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
test: $(if $(COMPILED),compiled,setup-dev)  ## the suite but for its slow tests, against a real PostgreSQL and a real Valkey
	@$(PYTEST) -m "not slow" $(ARGS)

# What is built, killed and drawn there computes for itself.
test-slow: JOBS = $(shell echo $$(( $(CORES) + 1 )))
test-slow: $(if $(COMPILED),compiled,setup-dev)  ## the rest: browsers, real peers, gateways that are killed or starved
	@$(PYTEST) -m slow $(ARGS)

wheel: $(if $(wildcard .venv),,setup)  ## a pure wheel and a compiled one, of this machine and Python, into dist/
	@$(PY) deploy/compiled/wheels.py dist

coverage: setup-dev  ## both, and which lines and branches of gateway/ they reach
	@$(PYTEST) --cov --cov-report=term $(ARGS)

lint: setup-dev  ## ruff and mypy --strict
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

screenshots: setup-dev  ## the pictures of docs/, taken by the tests of the pages and the console
	@SCREENSHOTS=docs/pages SCREENSHOTS_CONSOLE=docs/operations/console \
	  $(PY) -m pytest -q tests/browser/test_pages.py tests/browser/test_console.py \
	    tests/browser/test_console_lists.py $(ARGS)

bench: setup-dev  ## the gateway beside its peers, with ratios
	@$(PY) -m bench $(ARGS)

soak: setup-dev  ## 99.9 %, measured: mixed traffic, an oracle, whatever breaks (ARGS="--hours 1")
	@$(PY) -m bench.soak $(ARGS)

drills: setup-dev  ## kills, races, outages, sign-outs, limits, many sessions and diff, half an hour
	@for bench in kills races outages logout limits revocations issuers sessions differences; do \
	  $(PY) -m bench.$$bench || exit 1; done

BASE ?=
BUILD_BASE ?=
TAG ?=
image:  ## the container image, by buildah (BASE=IMAGE: on another Python; docs/operations/containers.md)
	@python3 deploy/image/build.py --base "$(BASE)" --build-base "$(BUILD_BASE)" --tag "$(TAG)"

release:  ## what a release of this commit would be (VERSION=0.2.0; ARGS=--build or --tag makes it)
	@python3 deploy/release/release.py "$(or $(VERSION),$(error VERSION= is missing: make release VERSION=0.2.0))" $(ARGS)

docs: setup-dev  ## write the generated pages anew, check every link, and build the site into site/
	@$(PY) -m docs.build
	@$(PY) -m pytest -q tests/test_docs.py tests/test_site.py
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict
	@echo "site/index.html is the first page; to read it: $(PY) -m http.server --directory site"

HELM = .tools/helm/bin/python
# A real Helm and the schemas of Kubernetes, in an environment of their own: 100 MB that nothing else needs.
$(HELM):
	@$(UV) venv --quiet .tools/helm
	@$(UV) pip install --quiet --python $(HELM) helm-python-sdk==0.2.2 kubernetes-validate==1.37.0

chart: $(HELM)  ## check the Helm chart and package it into dist/
	@$(HELM) deploy/chart/helm.py package dist

chart-golden: setup-dev $(HELM)  ## write anew what the tests expect of the Helm chart
	@$(PY) -m tests.deploy.helm

audit: setup-dev  ## dependencies, the code, and black-box scanners against a started gateway
	@mkdir -p .tools
	@$(UV) export --quiet --frozen --no-dev --format cyclonedx1.5 --output-file .tools/sbom.json >/dev/null
	@$(PY) -m scanners $(ARGS)

mutants: setup-dev  ## break the core in every small way; what no test notices must be argued (hours)
	@nice $(PY) -m tests.mutation $(ARGS)

clean:  ## take away what was built (never .gateway/, which holds data)
	rm -rf .venv .tools site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
