# The two commands of the README: `make serve` and `make test`.
# PYTHON=/path/to/python3.13 chooses the interpreter of a new .venv, GPU=1 or 0 TensorFlow with or without CUDA.
.PHONY: install serve test check bench audit lab docs lock hooks clean
PY := .venv/bin/python

serve:     ## install what serving needs and serve http://localhost:8001
	@scripts/install.sh serve
	@exec $(PY) -m face_emotion.serve

install:   ## install everything: training, notebooks, tests
	@scripts/install.sh all

test: install   ## run every test: the notebooks and tests/
	@$(PY) scripts/test.py

check: install  ## notebooks clean, library and README in sync, import order, lint and format
	@$(PY) scripts/check.py

bench: install  ## measure serving, training and preprocessing on this machine
	@for b in serve capacity train preprocess; do $(PY) benchmarks/bench_$$b.py --out reports/bench || exit 1; done

audit: install  ## known vulnerabilities of the locked packages (asks PyPI), and the image libraries inside them
	@$(PY) scripts/audit.py

lab: install    ## open the notebooks in JupyterLab
	@.venv/bin/jupyter lab nbs

docs: install   ## build the documentation site in _docs/
	@$(PY) scripts/make_docs.py

lock:           ## resolve requirements/*.txt again (needs uv)
	@python3 scripts/lock.py

hooks: install  ## git hooks that keep notebooks clean
	@.venv/bin/nbdev_install_hooks

clean:          ## remove what can be rebuilt; models/, reports/ and dataset_crop/ stay
	rm -rf .venv _docs _proc build dist *.egg-info .pytest_cache .ruff_cache
