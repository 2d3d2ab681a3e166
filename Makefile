# Names for commands that can also be typed by hand. `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

INVENTORY ?= inventory/local
# mitogen_linear runs the tasks in a third of the time; `make up STRATEGY=linear` uses Ansible's own.
STRATEGY ?= mitogen_linear
SCENARIO ?= default
ARGS ?=

# Ansible wants a UTF-8 locale that exists; this one does everywhere.
export LC_ALL := C.UTF-8
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_STRATEGY := $(STRATEGY)
PLAYBOOK = ansible-playbook -i $(INVENTORY)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: .venv/controller engine ## make the local machines, deploy, prove that a login is shared
	$(PLAYBOOK) site.yml $(ARGS)

venv: .venv/controller ## make the virtual environment, to type commands by hand

verify: .venv/controller ## verify that each node knows the sessions of the others
	$(PLAYBOOK) playbooks/verify.yml $(ARGS)

status: .venv/controller ## how the cluster is: make status, make -s status ARGS=--json
	@scripts/status -i $(INVENTORY) $(ARGS)

password: .venv/controller ## print the password of the demo account
	@ANSIBLE_STDOUT_CALLBACK=summary $(PLAYBOOK) playbooks/password.yml

hash: .venv/controller ## ask for a password and print the hash that app_users wants
	@python plugins/filter/passwords.py

down: .venv/controller ## remove all that `make up` made on the engine
	$(PLAYBOOK) playbooks/destroy.yml $(ARGS)

test: ## lint, the tests without machines, then every molecule scenario
	@scripts/test

lint: .venv/tests test-tools ## yamllint, ansible-lint, ruff, mypy, shellcheck, syntax of the playbooks
	@scripts/lint

unit: .venv/tests test-tools ## the tests that need no machine
	pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

molecule: .venv/tests engine ## one scenario on machines of its own: make molecule SCENARIO=scale
	molecule test --no-command-borders -s $(SCENARIO)

load-test: .venv/tests engine ## deploy, roll back and inject faults under the full load (50 minutes)
	@scripts/load-test

audit: .venv/tests ## ask for known vulnerabilities of the locked packages; ARGS go to pip-audit
	@scripts/audit $(ARGS)

bench-sessions: .venv/tests test-tools ## what sessions cost, beside other session layers (3 minutes)
	@scripts/bench-sessions

bench-tls: .venv/tests test-tools ## what TLS costs between balancer, nodes and Redis (2 minutes)
	@scripts/bench-tls

engine: ## install and start the container engine if none answers
	@scripts/engine

test-tools: # Redis and nginx, for the tests without machines
	@scripts/test-tools

lock: .venv/tests ## pin all Python packages anew, with hashes
	@scripts/lock

# Stamps: written last, so an interrupted installation is done again.
.venv/controller: requirements.txt
	@scripts/venv requirements.txt
	@touch $@

.venv/tests: .venv/controller requirements-dev.txt app/requirements.lock
	@scripts/venv requirements-dev.txt app/requirements.lock
	@touch $@

.PHONY: help up venv verify status password hash down test lint unit molecule load-test audit bench-sessions bench-tls engine test-tools lock

# Renamed in 0.2.0; plugins/module_utils/anynode/renamed.py lists all old names.
check drill:
	@echo "make $@ was renamed: use make $(patsubst check,verify,$(patsubst drill,load-test,$@)). Nothing was changed." >&2; exit 2
.PHONY: check drill
