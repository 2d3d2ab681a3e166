# Short names for commands that can also be typed by hand. `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

INVENTORY ?= inventory/local
# mitogen_linear takes a third of the time of Ansible's own strategy; `make up STRATEGY=linear` uses the latter.
STRATEGY ?= mitogen_linear
SCENARIO ?= default
ARGS ?=

# Ansible requires a UTF-8 locale; this one exists everywhere.
export LC_ALL := C.UTF-8
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_STRATEGY := $(STRATEGY)
# Named, since Ansible ignores the configuration of a directory that everybody may write.
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
PLAYBOOK = ansible-playbook -i $(INVENTORY)
PYTEST = pytest --dist loadfile

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: .venv/controller engine ## create the local hosts, deploy, run the session check
	$(PLAYBOOK) site.yml $(ARGS)

venv: .venv/controller ## create the virtual environment for commands typed by hand

verify: .venv/controller ## run the session check on the deployed cluster
	$(PLAYBOOK) playbooks/verify.yml $(ARGS)

status: .venv/controller ## print the status of the cluster; as JSON: make -s status ARGS=--json
	@scripts/status -i $(INVENTORY) $(ARGS)

password: .venv/controller ## print the password of the demo user
	@ANSIBLE_STDOUT_CALLBACK=summary $(PLAYBOOK) playbooks/password.yml

hash: .venv/controller ## prompt for a password and print its hash for app_users
	@python plugins/filter/passwords.py

down: .venv/controller ## remove everything that `make up` created on the container engine
	$(PLAYBOOK) playbooks/destroy.yml $(ARGS)

test: ## run lint, unit and integration tests, then every molecule scenario
	@scripts/test

lint: .venv/tests test-tools ## run the static checks of code, playbooks and wording
	@scripts/lint

unit: .venv/tests ## run the tests that start no server
	$(PYTEST) --numprocesses auto --maxprocesses 4 $(ARGS) tests/unit

# Four processes on any number of cores: the tests wait for servers a third of the time.
integration: .venv/tests test-tools ## run the tests that start servers on this computer
	$(PYTEST) --numprocesses 4 $(ARGS) tests/integration

molecule: .venv/tests engine ## run a scenario on its own hosts, such as make molecule SCENARIO=operations
	molecule test --no-command-borders -s $(SCENARIO)

load-test: .venv/tests engine ## deploy, roll back and inject faults under full load (50 minutes)
	@scripts/load-test

package: .venv/tests ## build the wheel of flask-shared-session into .build/dist
	@scripts/package

docs: .venv/tests ## generate the reference and build the documentation site into .build/site
	scripts/generate_docs.py
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet
	@echo "Open .build/site/index.html"

audit: .venv/tests ## query known vulnerabilities of the locked packages; ARGS go to pip-audit
	@scripts/audit $(ARGS)

bench-sessions: .venv/tests test-tools ## measure the cost of sessions, compared with other session layers (3 minutes)
	@scripts/bench-sessions

bench-tls: .venv/tests test-tools ## measure the cost of TLS between balancer, nodes and Redis (2 minutes)
	@scripts/bench-tls

engine: ## install and start the container engine if none is running
	@scripts/engine

test-tools: # Redis, nginx and other programs of the integration tests
	@scripts/test-tools

lock: .venv/tests ## lock new Python packages with hashes; make lock ARGS=--upgrade updates all
	@scripts/lock $(ARGS)

# Marker files, written last, so that an interrupted installation is repeated.
.venv/controller: requirements.txt
	@scripts/venv requirements.txt
	@touch $@

.venv/tests: .venv/controller requirements-dev.txt app/requirements.lock
	@scripts/venv requirements-dev.txt app/requirements.lock
	@touch $@

.PHONY: help up venv verify status password hash down test lint unit integration molecule load-test docs audit bench-sessions bench-tls engine test-tools lock package

# Renamed in 0.2.0; plugins/module_utils/anynode/renamed.py lists all old names.
check drill:
	@echo "make $@ was renamed: use make $(patsubst check,verify,$(patsubst drill,load-test,$@)). Nothing was changed." >&2; exit 2
.PHONY: check drill
