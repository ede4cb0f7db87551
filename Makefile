# `make help` lists what there is. Everything is installed inside this checkout (.venv, .venv-dev) or, the engine, in the user's cache.
SHELL := /bin/sh
PYTHON ?= python3
DEV := .venv-dev/bin/python
CODE := __main__.py components sandbox tools tests

# Some containers set it. Each of hundreds of processes would then compile our code again, which is half of what many of them do.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help rehearse test bench faults sequences report audit advisories fleet sandbox sandbox-stop stack env engine environment sandbox-environment lint format clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 30

rehearse: engine environment sandbox-environment ## rotate every secret on the sandbox, from nothing to a revoked old credential
	@$(DEV) -m tools.rehearsal

test: engine environment sandbox-environment ## all tests
	@cd tools/engine/plugins && go test ./...
	@$(DEV) -m pytest -n $${TEST_WORKERS:-6} --dist load --maxschedchunk 1 tests/engine tests/engine_build
	@$(DEV) -m pytest -n $${TEST_WORKERS:-6} --dist worksteal tests/sandbox tests/unit

bench: engine environment sandbox-environment ## rotations beside the runbook done by a script and the engine's floor; a leaked token beside a routine one
	@$(DEV) -m tools.bench rotation
	@$(DEV) -m tools.bench leaked

faults: engine environment sandbox-environment ## the fault matrix: every request of a rotation made to fail in every way (many hours; goes on where it stopped)
	@$(DEV) -m tools.faults --cover --workers $${FAULT_WORKERS:-4} --document docs/fault-matrix.md

sequences: engine environment sandbox-environment ## random sequences of bumps, faults, crashes, ways back and partial updates: N=20 SEED=7 SECRETS=NAME,NAME
	@$(DEV) -m tools.sequences --runs $${N:-10} $${SEED:+--seed "$$SEED"} $${SECRETS:+--secrets "$$SECRETS"}

sandbox: sandbox-environment ## start the sandbox in .sandbox and say how to use it
	@$(DEV) -m sandbox start --dir .sandbox --detach
	@echo 'Next: eval "$$(make env)"; eval "$$(python -m sandbox env --dir .sandbox)"'

sandbox-stop: sandbox-environment ## stop the sandbox in .sandbox; its state stays
	@$(DEV) -m sandbox stop --dir .sandbox

report: engine sandbox-environment ## write report.html of the selected stack; of another one: STACK=name make report
	@home="$$PULUMI_HOME"; eval "$$($(PYTHON) -m tools.engine env)"; PULUMI_HOME="$${home:-$$PULUMI_HOME}"; \
	$(DEV) -m tools.report $${STACK:+--stack "$$STACK"}

audit: engine environment ## compare what providers show with the selected stack; with others: STACK="staging prod-*" make audit
	@home="$$PULUMI_HOME"; eval "$$($(PYTHON) -m tools.engine env)"; PULUMI_HOME="$${home:-$$PULUMI_HOME}"; \
	set -f; for stack in $$STACK; do set -- "$$@" --stack "$$stack"; done; \
	.venv/bin/python -m tools.audit "$$@"

advisories: sandbox-environment ## ask PyPI whether it knows a vulnerability of anything that is installed
	@$(DEV) -m tools.advisories

fleet: engine environment sandbox-environment ## rotate secrets across stacks: SECRETS="FLY_API_TOKEN" STACKS="staging prod-*" OPTIONS="--soak 10m" make fleet
	@test -n "$$SECRETS" && test -n "$$STACKS" || { echo 'SECRETS="FLY_API_TOKEN" STACKS="staging production" make fleet' >&2; exit 2; }
	@home="$$PULUMI_HOME"; eval "$$($(PYTHON) -m tools.engine env)"; PULUMI_HOME="$${home:-$$PULUMI_HOME}"; \
	set -f; $(DEV) -m tools.fleet rotate $$SECRETS --stacks $$STACKS $$OPTIONS

stack: engine environment ## add an environment: NAME=qa make stack; after another model than staging: NAME=qa LIKE=production make stack
	@home="$$PULUMI_HOME"; eval "$$($(PYTHON) -m tools.engine env)"; PULUMI_HOME="$${home:-$$PULUMI_HOME}"; \
	.venv/bin/python -m tools.new_stack $${NAME:?is the name of the new stack} --like $${LIKE:-staging}

env: ## print export lines that put the engine and the program's environment on PATH
	@$(MAKE) --no-print-directory engine environment sandbox-environment >&2
	@$(PYTHON) -m tools.engine env
	@echo 'export PATH="$(CURDIR)/.venv/bin:$$PATH"'

engine: ## the Pulumi engine: from PATH, or built once into the user's cache
	@$(PYTHON) -m tools.engine ensure

environment: .venv/.installed ## the program's own Python environment

sandbox-environment: .venv-dev/.installed ## the Python environment of the sandbox, the tests and the linters

.venv/.installed: requirements.txt constraints.txt
	@$(PYTHON) tools/environment.py .venv requirements.txt
	@touch $@

.venv-dev/.installed: tests/requirements.txt sandbox/requirements.txt requirements.txt constraints.txt
	@$(PYTHON) tools/environment.py .venv-dev tests/requirements.txt
	@touch $@

lint: sandbox-environment ## formatting, linters, types
	@$(DEV) -m ruff format --check $(CODE)
	@$(DEV) -m ruff check $(CODE)
	@$(DEV) -m mypy $(CODE)
	@$(DEV) -m yamllint -s .
	@cd tools/actionlint && go tool actionlint -shellcheck= -pyflakes= $(CURDIR)/.github/workflows/*.yml
	@cd tools/engine/plugins && unformatted=$$(gofmt -l .) && if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted"; exit 1; fi && go vet ./...

format: sandbox-environment ## format the code
	@$(DEV) -m ruff format $(CODE)
	@$(DEV) -m ruff check --fix $(CODE)

clean: ## remove what make and the tests made in this checkout
	rm -rf .venv .venv-dev .rehearsal .fleet .sequences report.html .mypy_cache .ruff_cache .pytest_cache .hypothesis
