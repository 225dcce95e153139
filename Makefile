# Every target installs what it needs and repeats nothing that is finished. `make help` lists them.
PYTHON  ?= python3
PROFILE ?= quick
JOBS    ?= $(if $(filter quick,$(PROFILE)),2,1)
DATA    ?= data
RESULTS ?= results
SEEDS   ?= $(if $(filter paper paper_sgd,$(PROFILE)),1 2 3,)
ONLY    ?=
FAST    ?=
SPEED   := $(if $(FAST),$(if $(filter 0 no false,$(FAST)),--no-fast,--fast))
LIMIT   ?=
RUNS    ?=
PARTS   ?=
VENV    := .venv
BIN     := $(VENV)/bin
export DATA PROFILE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
STUDIES := table3 table4 table5 table6 table9 table10 figure5 figure6 figure7 posterior threshold reliability hardware temperature ageing pareto
ABLATIONS := dropout-rate drop-value placement recipe sigma passes
.PHONY: help install install-dev test test-slow test-gpu lint types unit $(STUDIES:%=reproduce-%) reproduce-table7 reproduce-table8 reproduce-figure8 report data ablation-placement $(ABLATIONS:%=sweep-%) sweep-search sweep-search-uncertainty site bench clean

help:  ## show this list
	@echo "make TARGET [PROFILE=quick|cpu|gpu|paper|paper_sgd|long] [DATA=folder] [JOBS=n] [SEEDS='1 2 3'] [RESULTS=folder] [ONLY='resnet20-*'] [FAST=1|0]"
	@echo "     reproduce-* except table3, table5, table7, table8, figure8: [LIMIT=images per part] [PARTS='clean,corrupted/*/5']"
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 24

install: $(VENV)/.installed  ## create .venv with everything for training and evaluation

install-dev: $(VENV)/.installed-dev  ## the same, with development tools

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; choose one with make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# installed once, and again when the requirements have changed
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV): about 2 minutes and 6 GB, once"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

test: lint types unit  ## lint, types, tests and doctests; no network, GPU or data packs needed

lint: install-dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev  ## mypy
	$(BIN)/mypy

# the workers, and the programs that tests start, read each other's bytecode, also where the shell wants none
unit: install-dev  ## tests and doctests on two processes
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: install-dev  ## slow tests: injected faults, one point of each sweep file
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 2 -m slow

test-gpu: install-dev  ## tests of GPU features, a few minutes; skipped without a GPU
	$(BIN)/python -m pytest -q -o addopts=--import-mode=importlib --durations=5 tests/test_gpu.py

reproduce-table3:   ## train missing rows of Table III, then print it
reproduce-table4:   ## variation of drop probabilities; trains missing networks, as all below
reproduce-table5:   ## segmentation of skin lesions, breast ultrasound, COVID-19 CT
reproduce-table6:   ## out-of-distribution detection
reproduce-table9:   ## OOD rule on the test images, and calibration
reproduce-table10:  ## CIFAR-10-C, with and without re-normalization
reproduce-figure5:  ## one image under growing noise
reproduce-figure6:  ## rotated test images
reproduce-figure7:  ## accuracy against the number of passes
reproduce-posterior:    ## histograms of the class outputs
reproduce-threshold:    ## quantile and threshold of the OOD rule
reproduce-reliability:  ## accuracy by confidence
reproduce-hardware:     ## accuracy and detection against ADC bits, variation, stuck devices, wires; recovery
reproduce-pareto:       ## passes, ADC bits, crossbar size, mapping, execution: accuracy against energy
reproduce-temperature:  ## accuracy, calibration and detection on chips at 250 to 400 K
reproduce-ageing:       ## the same on aged chips, whose critical voltage has drifted

# quoted for the shell
quoted = '$(subst ','\'',$(1))'
place = --profile $(call quoted,$(PROFILE)) --results $(call quoted,$(RESULTS))

# In the quick profile a part has 500 images. In the cpu profile it has 2,000, and re-normalized corruptions are those of
# severity 5: Table X of ResNet-20 then takes half an hour on two cores instead of five hours.
# The 62 parts of `hardware`, 121 of `temperature`, 101 of `ageing` and 24 of `pareto` get 1,000 images each, 200 in the
# quick profile.
comma := ,
large = $(filter hardware temperature ageing pareto,$*)
few = $(if $(filter cpu,$(PROFILE)),$(if $(large),1000,2000),$(if $(filter quick,$(PROFILE)),$(if $(large),200,500)))
limit = $(or $(LIMIT),$(if $(filter table9 reliability,$*),,$(few)))
parts = $(or $(PARTS),$(if $(filter cpu-table10,$(PROFILE)-$*),clean$(comma)corrupted/*$(comma)renormalized/*/5))
asked = $(if $(filter table3 table5,$*),,$(if $(limit),$(call quoted,--limit=$(limit))) $(if $(parts),$(call quoted,--parts=$(parts))))

# the table is printed even if a point fails
$(STUDIES:%=reproduce-%): reproduce-%: install
	@$(BIN)/scaledrop sweep sweeps/$*.yaml $(place) --jobs $(call quoted,$(JOBS)) \
	  $(if $(SEEDS),--seeds $(foreach seed,$(SEEDS),$(call quoted,$(seed)))) $(if $(ONLY),--only $(foreach name,$(ONLY),$(call quoted,$(name)))) -- $(strip $(SPEED) $(asked)); status=$$?; \
	$(BIN)/scaledrop report $* $(place) && exit $$status

reproduce-table7: install  ## dropout modules of every topology and method: number, area, power; trains nothing
	@$(BIN)/scaledrop cost $(place)
	@$(BIN)/scaledrop report table7 $(place)

reproduce-table8: install  ## energy per image on the chip, by method and execution; trains nothing
	@$(BIN)/scaledrop cost --table table8 $(place)
	@$(BIN)/scaledrop report table8 $(place)

reproduce-figure8: install  ## segmented images with truth and uncertainty; trains missing networks of Table V
	@$(BIN)/scaledrop figure8 $(place)

report: install  ## print Table III from existing results; write all tables and figures to one HTML page
	@$(BIN)/scaledrop report table3 $(place); status=$$?; \
	$(BIN)/scaledrop report --html $(place) && exit $$status

# documents, tutorials, reference and results in one folder, which needs neither server nor network
SITE_SOURCE := build/site-source
SITE := build/site
site: install-dev  ## build the site into build/site
	@$(BIN)/python tools/site/assemble.py $(SITE_SOURCE)
	@SITE_SOURCE=$(abspath $(SITE_SOURCE)) SITE=$(abspath $(SITE)) NO_MKDOCS_2_WARNING=1 \
	  $(BIN)/python -m mkdocs build --strict --config-file tools/site/mkdocs.yml
	@echo "open $(SITE)/index.html"

ablation-placement: sweep-placement  ## the same as sweep-placement (docs/scale-placement.md)

sweep-dropout-rate:  ## drop probability, for all layers and by layer size (docs/sweeps.md); table and plots, as below
sweep-drop-value:    ## value of a dropped scale, what one bit drops
sweep-placement:     ## placement of the scale, how often a mask is drawn
sweep-recipe:        ## training recipe: normalized update, pooled skips, short warm-up, weight decay
sweep-sigma:         ## variation of drop probabilities in training, at test, in both
sweep-passes:        ## number of passes T: accuracy, likelihood, calibration, detection

# ablations compare short trainings, 4 epochs in the cpu profile; sweep-passes evaluates the networks of Table III
short = $(if $(filter cpu,$(PROFILE)),$(if $(filter passes,$*),,--trainer.max_epochs=4))
$(ABLATIONS:%=sweep-%): sweep-%: install
	@$(BIN)/scaledrop sweep sweeps/ablation-$*.yaml $(place) --jobs $(call quoted,$(JOBS)) \
	  $(if $(SEEDS),--seeds $(foreach seed,$(SEEDS),$(call quoted,$(seed)))) $(if $(ONLY),--only $(foreach name,$(ONLY),$(call quoted,$(name)))) -- $(strip $(SPEED) $(short) \
	  $(if $(filter sigma passes,$*),$(if $(or $(LIMIT),$(few)),$(call quoted,--limit=$(or $(LIMIT),$(few))))))

sweep-search: install  ## Bayesian search over p, learning rate and regularizers; RUNS=number of trainings
	@$(BIN)/scaledrop sweep sweeps/search-proposed.yaml $(place) --jobs $(call quoted,$(JOBS)) \
	  $(if $(RUNS),--runs $(call quoted,$(RUNS))) -- $(strip $(SPEED) $(short))

sweep-search-uncertainty: install  ## search by two goals, likelihood and detection of outliers, on the validation split
	@$(BIN)/scaledrop sweep sweeps/search-uncertainty.yaml $(place) --jobs $(call quoted,$(JOBS)) \
	  $(if $(RUNS),--runs $(call quoted,$(RUNS))) -- $(strip $(SPEED) $(short) $(if $(or $(LIMIT),$(few)),$(call quoted,--limit=$(or $(LIMIT),$(few)))))

data: install  ## list the available data sets
	@$(BIN)/scaledrop data --root $(call quoted,$(DATA))

bench: install-dev  ## measure speed and memory again into benchmarks/results (on an idle machine, about an hour)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m pytest benchmarks

clean:  ## remove .venv and caches; data, runs and results stay
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
