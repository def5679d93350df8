# Each target sets up what it needs first, once: see scripts/setup. The test lanes are in scripts/lanes.

SHELL := bash

.PHONY: help demo test test-fast test-vm test-vagrant vagrant-test test-all lab lab-down lint bench docs clean

help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## Start here: boot hosts, harden, break and heal them before your eyes, in 2 minutes (root)
	@scripts/lab demo

test: ## Run everything on Debian 12 and Salt 3008: lint, unit, functional, lab (root)
	@scripts/setup 3008 lab
	@scripts/lanes lint unit functional,lab-1+lab-2

test-fast: ## Run what needs no lab: lint, unit, functional
	@scripts/setup 3008
	@scripts/lanes lint unit functional

test-vm: ## Run what takes a kernel of its own, in an emulated machine (root)
	@scripts/setup 3008 lab
	@scripts/lanes vm vm-luks

vagrant-test: ## Make the machines of the Vagrantfile here, prove that they are hardened, destroy them
	@scripts/vagrant-test

test-vagrant: ## Run the same in the lab, which brings Vagrant and Docker with it (root)
	@scripts/setup 3008 lab
	@scripts/lanes vagrant

test-all: ## Run test, then VM, demo, Vagrant, Salt 3006, Debian 13 and benchmarks (root)
	@scripts/setup 3008 lab
	@scripts/lanes lint unit functional,lab-1+lab-2 functional-3006,lab-debian-13+vm,vm-luks demo vagrant bench

lab: ## Boot the lab and leave it running to play in; prints how to log in (root)
	@scripts/lab up

lab-down: ## Stop that lab and remove its hosts (root)
	@scripts/lab down

lint: ## Check style and types
	@scripts/lint

bench: ## Measure time and memory against the limits we promise (root)
	@scripts/setup 3008 lab
	@scripts/lanes bench

docs: ## Write the generated pages under docs/
	@scripts/setup 3008
	@PYTHONPATH=_utils .venv-3008/bin/python scripts/docs.py

clean: ## Remove what make put in this folder (the lab's images stay in your cache folder)
	rm -rf .venv-* .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +
