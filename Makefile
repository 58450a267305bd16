# make demo   sets up .venv (without torch) and examines sample media of every kind
# make test   sets up .venv-dev (with torch) and runs the linters, the type checker and the tests
# make docs   builds the documentation in build/docs
# make outputs   writes what the examples of README.md and docs/ print now into them
# make pictures  takes the pictures of README.md and docs/ anew (needs chromium and chromedriver)
# make clean  removes both environments and everything that was generated

PYTHON ?= python3
DEMO := .venv/bin
DEV := .venv-dev/bin

.PHONY: demo test lint format docs outputs pictures clean

demo: .venv/installed
	$(DEMO)/python -m examples.samples samples
	$(DEMO)/deepfake detect samples/camera.jpg samples/parameters.png samples/sdxl.png \
		samples/signed.jpg samples/tampered.jpg samples/speech.wav samples/clip.mp4
	@echo
	@echo 'The web page: $(DEMO)/deepfake serve, then open http://127.0.0.1:7860'
	@echo 'A folder:     $(DEMO)/deepfake scan samples --output results.jsonl'

test: lint
	$(DEV)/pytest --cov --numprocesses 2 --dist loadfile

lint: .venv-dev/installed
	$(DEV)/ruff check
	$(DEV)/ruff format --check
	$(DEV)/mypy
	$(DEV)/lint-imports

format: .venv-dev/installed
	$(DEV)/ruff check --fix
	$(DEV)/ruff format

docs: .venv-dev/installed
	$(DEV)/python -m sphinx --fail-on-warning --keep-going -c docs/site docs build/docs

outputs: .venv-dev/installed
	$(DEV)/python -m tests.documents

pictures: .venv-dev/installed
	$(DEV)/python -m docs.site.pictures

.venv/installed: pyproject.toml constraints.txt
	$(call make_environment,.venv,app)

.venv-dev/installed: pyproject.toml constraints.txt
	$(call make_environment,.venv-dev,postgres$(comma)traces$(comma)client$(comma)train$(comma)private$(comma)federated$(comma)cluster$(comma)remote$(comma)parquet$(comma)docs$(comma)dev)

comma := ,
define make_environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed; run: make PYTHON=/path/to/python3.11'; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(2)]'
	touch $@
endef

clean:
	rm -rf .venv .venv-dev build samples runs .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
