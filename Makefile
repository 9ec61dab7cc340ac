# The two commands: `make demo` and `make test`. Both set up what they need first; see README.md.
SHELL := /bin/bash
PYTHON ?= python3
INPUT ?=

.PHONY: demo test lint clean

demo: # [INPUT=video, bag folder or .mcap]
	@"$(PYTHON)" tools/set_up.py run && source tools/env.sh && exec python demo/run.py $(if $(INPUT),"$(INPUT)")

# A file's tests stay in one process, for what they share; one file or test alone starts faster with -n 0.
test: # [ARGS='-k name']
	@"$(PYTHON)" tools/set_up.py test && source tools/env.sh && exec python -m pytest -n 2 --dist loadfile $(ARGS)

lint:
	@"$(PYTHON)" tools/set_up.py test && source tools/env.sh && ruff check . && ruff format --check . && mypy

clean: # all that was built and recorded; .venv stays
	rm -rf build install log output
