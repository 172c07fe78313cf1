# Each target does its own set-up. PYTHON names the interpreter that .venv is built with (3.11 to 3.14).
PYTHON ?= python3

# macOS has GNU make 3.81. It runs what is one plain command without a shell, and then looks for it on the PATH of whoever
# called make, not on the one that is set below: it would miss .venv. Of a shell of another name than /bin/sh it does not.
SHELL = /bin//sh

# An environment works only where it was built, and with its own Python: one that was moved, copied or half installed, or
# is of another Python than the named one, is built anew. Looked up before .venv is on PATH, where it hides others.
# The place is in .venv/installed, and in pyvenv.cfg where venv built it (uv names none there).
STALE := $(shell [ ! -e .venv/pyvenv.cfg ] || { [ -e .venv/installed ] && [ -x .venv/bin/python ] && \
	{ grep -qxF "$$(pwd -P)" .venv/installed || grep -qF " $$(pwd -P)/.venv" .venv/pyvenv.cfg; }; } || echo --clear)
ifneq ($(origin PYTHON),file)
override PYTHON := $(or $(shell command -v $(PYTHON)),$(PYTHON))
BASE := -c 'import sys; print(sys.base_prefix, *sys.version_info[:2])'
STALE := $(or $(STALE),$(shell [ ! -x .venv/bin/python ] || \
	[ "$$($(PYTHON) $(BASE))" = "$$(.venv/bin/python $(BASE))" ] || echo --clear))
endif
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# DVC asks for the user's name and home, which the user of a container may lack.
NAMELESS := $(shell id -un >/dev/null 2>&1 || id -u)
ifneq ($(NAMELESS),)
LOGNAME ?= $(NAMELESS)
HOME ?= /nonexistent
export LOGNAME HOME
endif

# The system that the pipeline was made for.
DEVICE ?= cpu
TEXT = 下面是一段人与机器人的对话。
REFERENCE = -S 'model.source="hf://Qwen/Qwen2.5-0.5B-Instruct"' \
	-S model.revision=7ae557604adf67be50417f59c2c2f167def9a775 -S device=$(DEVICE) \
	-S 'data.source="hf://lyuricky/alpaca_data_zh_51k"' -S data.revision=main -S 'data.split="train[:10%]"' \
	-S tokenize.max_length=256 -S evaluate.generate.max_new_tokens=256 \
	-S 'evaluate.hard_prompt="$(TEXT)"' -S 'train.init_text="$(TEXT)"' \
	-S train.num_train_epochs=1 -S train.batch_size=8 -S train.gradient_accumulation_steps=1

JOBS ?= 2
TRIALS ?= 10

.PHONY: setup repro reference test test-all lint benchmark repair sweep search undo unlock remote ci lock FORCE

setup: .venv/installed .dvc/config.local ## set up, without running anything

repro: .venv/installed .dvc/config.local ## run what is out of date, then show the result
	@python -m softprompt.config
	@dvc repro
	@rm -f .dvc/tmp/undo.json # what failed before is not to be undone any more
	@python -m softprompt.evaluation.headline

reference: .venv/installed .dvc/config.local ## Qwen2.5-0.5B on Chinese Alpaca rows, from the hub: soft, then hard initialisation
	@dvc exp run --force --name reference-soft $(REFERENCE) -S train.init=random
	@dvc exp run --force --name reference-hard $(REFERENCE) -S train.init=text
	@python -m softprompt.evaluation.headline

test: .venv/developers lint ## lint, types, tests
	python -m pytest

test-all: .venv/developers lint ## lint, types and all tests, the slow ones too: ten minutes more
	python -m pytest --runslow

lint: .venv/developers
	ruff check .
	ruff format --check .
	mypy
	check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	zizmor --offline --quiet .github

benchmark: .venv/installed ## speed against PEFT and Trainer, to results/benchmark.json; ALPACA=path names the rows
	@python -m benchmarks.speed

repair: .venv/installed .dvc/config.local ## remove what is damaged and a stage makes again; name what is the user's
	@python -m softprompt.maintenance.repair

sweep: .venv/installed .dvc/config.local ## run experiments/NAME.sh, JOBS=2 experiments at a time, then show what it found
	@python -m experiments.sweep "$(NAME)" --jobs "$(JOBS)"

search: .venv/installed .dvc/config.local ## search a learning rate and a number of virtual tokens with Optuna, in TRIALS=10 experiments
	@python -m experiments.search --trials "$(TRIALS)"

undo: .venv/installed .dvc/config.local ## bring back the state before a `dvc exp run` or `make reference` that failed
	@python -m softprompt.maintenance.undo

unlock: .venv/installed .dvc/config.local ## repair what a kill of DVC leaves behind: stale locks, the queue, a detached HEAD
	@python -m softprompt.maintenance.unlock

remote: .venv/installed ## share outputs through URL=s3://BUCKET/PATH, or any other that DVC knows
	@case "$(URL)" in *://*|/*) ;; *) echo "error: URL is '$(URL)'; allowed: an address, or a path from the root: \
	make remote URL=s3://BUCKET/PATH" >&2; exit 1;; esac
	@address="$(URL)"; host="$${address#*://}"; case "$${host%%/*}" in *@*) echo "error: URL has a user name or a password, \
	which a commit would publish: leave it out, and set it with dvc remote modify --local storage user NAME" >&2; exit 1;; esac
	@dvc remote add --quiet --default --force storage "$(URL)"
	@dvc config remote.storage.verify true
	@echo "remote: $(URL), in .dvc/config: commit it; dvc push sends outputs there, dvc pull brings them"

ci: .venv/installed .dvc/config.local ## what CI does with the pipeline; BASE=main compares with that branch
	@.github/pipeline.sh

lock: .venv/developers ## write both locks from pyproject.toml; UPGRADE=--upgrade takes newer releases
	$(COMPILE) --extra sweeps --output-file requirements.lock pyproject.toml
	$(COMPILE) --all-extras --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
	@# pip-compile ends with a warning that torch is missing.
	for name in requirements requirements-dev; do \
		sed '/^$$/,$$d' $$name.lock > $$name.new && mv $$name.new $$name.lock || exit 1; done

COMPILE = pip-compile --quiet $(UPGRADE) --strip-extras --generate-hashes --unsafe-package torch --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
INSTALL = .venv/bin/pip install --disable-pip-version-check
SUPPORTED = (3, 11) <= sys.version_info < (3, 15)
FITS = [ -z "$(STALE)" ] && [ -x .venv/bin/python ]

.venv/installed: requirements.lock $(if $(STALE),FORCE)
	@$(FITS) || $(PYTHON) -c 'import sys; sys.exit(not $(SUPPORTED) and "error: Python 3.11 to 3.14 is needed, $(PYTHON) is %d.%d; name another one: make PYTHON=python3.12" % sys.version_info[:2])'
	@[ -z "$(STALE)" ] || echo ".venv was built elsewhere, with another Python, or not to its end: it is built anew"
	@[ -z "$(STALE)" ] || [ ! -L .venv ] || rm .venv # a link: what it leads to may be another checkout's
	@rm -f $@ # until all is installed
	@$(FITS) || $(PYTHON) -m venv $(STALE) .venv || { echo "error: no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@.venv/bin/pip --version >/dev/null 2>&1 || { echo "error: pip's scripts do not run in $$PWD: move it to a path without quotes, dollars and backslashes" >&2; exit 1; }
	$(INSTALL) --no-deps --require-hashes --requirement requirements.lock
	@# What the lock can't have: torch in the build that this machine's index holds (CPU, CUDA), and what that build needs.
	$(INSTALL) --editable .
	@pwd -P > $@

.venv/developers: requirements-dev.lock .venv/installed
	$(INSTALL) --no-deps --require-hashes --requirement requirements-dev.lock
	@touch $@

# DVC's own page of plots loads its charts from the network; this one has them in it. Without git (an unpacked archive)
# DVC works too, but for experiments. Asked each time: an archive may become a repository, or a folder of one. Whose it
# is doesn't matter here; git and DVC say so themselves.
NO_SCM := $(shell git -c safe.directory='*' rev-parse --is-inside-work-tree >/dev/null 2>&1 || echo no_scm)
ifneq ($(NO_SCM),$(shell grep -o no_scm .dvc/config.local 2>/dev/null))
.dvc/config.local: FORCE
endif
.dvc/config.local: .venv/installed
	@python -m softprompt.maintenance.plots .dvc/plots.html
	@dvc config --local plots.html_template plots.html
	@$(if $(NO_SCM),dvc config --local core.no_scm true,! grep -q no_scm $@ || dvc config --local --unset core.no_scm)

FORCE:
