# make serve   set up and start a POP on 127.0.0.1:8080 (make serve ARGS="--listen 0.0.0.0:80 --config edgecache.toml")
# make test    set up, check and run the quick suite
# make check   style, types and import contracts
# make e2e     end-to-end tests against NVIDIA's Dynamo frontend and TensorRT-LLM mocker, guidellm's mock server, and
#              the embedded core, in .venv-dynamo and .venv-guidellm
# make replay  a trace through a POP and past it, by NVIDIA's aiperf, in .venv-aiperf (make replay DATA=../shared/data)
# make peers   what a miss costs here, at LiteLLM's proxy and at vllm-router, in .venv-peers
# make adapter build the adapter component anew, and the guests of its tests
# make spin    build apps with Spin's own SDKs and call them, in .venv-spin and build/spin
# make bench   replay real questions (make bench ARGS="--data questions.jsonl.gz --limit 2000")
# make quality right and wrong hits against other caches (make quality ARGS="--data DIR"); the report is in build/quality
# make verifier train the pair verifier anew (make verifier DATA=../shared/data WORKERS=2)
# make complexity train the estimate for small models anew (make complexity DATA=folder of the RouteLLM repository)
# make docs    write the generated pages anew
# make clean   remove environments and caches (not data/)

# A Python that is new enough: PYTHON if given, else python3, else a versioned one.
NEW_ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	"$$each" $(NEW_ENOUGH) && { echo "$$each"; break; }; done)
PIP_OPTIONS = --quiet --disable-pip-version-check
BIN = .venv/bin
# Stamps: what was installed, so that a second run has nothing to do.
RUNTIME = .venv/.stamp-runtime
BENCH = .venv/.stamp-bench
DEV = .venv/.stamp-dev
DYNAMO = .venv-dynamo/.stamp
GUIDELLM = .venv-guidellm/.stamp
AIPERF = .venv-aiperf/.stamp
PEERS = .venv-peers/.stamp
SPIN = .venv-spin/.stamp
ARGS ?=
DATA ?= ../shared/data
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help serve test check e2e replay peers adapter spin bench quality verifier complexity docs clean

help:
	@sed -n 's/^# make/make/p; s/^#   /  /p' Makefile

serve: $(RUNTIME)
	@exec $(BIN)/edgecache serve $(ARGS)

test: check
	$(BIN)/python -m pytest -m "not dynamo and not guidellm and not spin" $(ARGS)

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: $(DEV) $(DYNAMO) $(GUIDELLM)
	$(BIN)/python -m pytest tests/e2e $(ARGS)

replay: $(DEV) $(DYNAMO) $(AIPERF)
	$(BIN)/python -m bench.load.aiperf_replay --trace $(DATA)/mooncake-conversation_trace.jsonl.gz $(ARGS)

peers: $(DEV) $(PEERS)
	$(BIN)/python -m bench.load.broker $(ARGS)

adapter: $(DEV)
	$(BIN)/python -m edgecache.wasm.adapter.build
	$(BIN)/python -m tests.adapter.guests.build

spin: $(DEV) $(SPIN)
	$(BIN)/python -m tests.spin.build
	$(BIN)/python -m pytest -m spin $(ARGS)

bench: $(RUNTIME)
	@exec $(BIN)/edgecache bench replay $(ARGS)

quality: $(BENCH)
	@exec $(BIN)/edgecache bench quality compare $(ARGS)

verifier: $(RUNTIME)
	$(BIN)/python -m models.verifier.train --data $(DATA) --workers $(WORKERS) --out build/verifier
	$(BIN)/python -m models.verifier.train --data $(DATA) --workers $(WORKERS) --out build/verifier \
		--start build/verifier/network.pt --rest 0.2 --rate 6e-5 --seed 1
	$(BIN)/python -m models.verifier.export --network build/verifier/network.pt
	OMP_NUM_THREADS=1 $(BIN)/python -m models.verifier.calibrate --data $(DATA)
	$(BIN)/python -m models.verifier.export --pin

complexity: $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python -m models.complexity.train --data $(DATA)

docs: $(RUNTIME)
	$(BIN)/edgecache config docs > docs/config.md
	$(BIN)/edgecache config schema > docs/edgecache.schema.json
	$(BIN)/edgecache docs > docs/cli.md

clean:
	rm -rf .venv .venv-aiperf .venv-dynamo .venv-guidellm .venv-peers .venv-spin build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find edgecache tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call venv,FOLDER): a virtual environment, or a word on what is missing.
define venv
@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
@$(PYTHON) $(NEW_ENOUGH) || { echo "$(PYTHON) is older than Python 3.11. Name a newer one: make PYTHON=/path/to/python3"; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

$(RUNTIME): requirements/torch.txt requirements/runtime.txt pyproject.toml
	$(call venv,.venv)
	@echo "Installing into .venv; the first time this takes a few minutes."
	$(BIN)/python -m pip install $(PIP_OPTIONS) -r requirements/torch.txt -c requirements/runtime.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) -r requirements/runtime.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH): $(RUNTIME) requirements/bench.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) -r requirements/bench.txt -c requirements/runtime.txt
	@touch $@

$(DEV): $(BENCH) requirements/dev.txt
	$(BIN)/python -m pip install $(PIP_OPTIONS) -r requirements/dev.txt -c requirements/runtime.txt
	@touch $@

$(DYNAMO): requirements/dynamo.txt
	$(call venv,.venv-dynamo)
	.venv-dynamo/bin/python -m pip install $(PIP_OPTIONS) --no-deps -r requirements/dynamo.txt
	@touch $@

$(GUIDELLM): requirements/guidellm.txt
	$(call venv,.venv-guidellm)
	.venv-guidellm/bin/python -m pip install $(PIP_OPTIONS) --no-deps -r requirements/guidellm.txt
	@touch $@

$(AIPERF): requirements/aiperf.txt
	$(call venv,.venv-aiperf)
	.venv-aiperf/bin/python -m pip install $(PIP_OPTIONS) -r requirements/aiperf.txt
	@touch $@

$(PEERS): requirements/peers.txt
	$(call venv,.venv-peers)
	.venv-peers/bin/python -m pip install $(PIP_OPTIONS) --no-deps -r requirements/peers.txt
	@touch $@

$(SPIN): requirements/spin.txt
	$(call venv,.venv-spin)
	.venv-spin/bin/python -m pip install $(PIP_OPTIONS) -r requirements/spin.txt
	@touch $@
