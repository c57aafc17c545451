# The two commands for a newcomer: `make demo` and `make test`. `make clean` removes the lab of the demo.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
STAGE := scripts/stage
# The example that the demo deploys, in a lab of its own.
INVENTORY := single
DEMO_LAB := inventories/lab$(patsubst %,-%,$(filter-out single,$(INVENTORY)))
DEMO_OUTPUT := .cache/demo
DEMO_STAGE := $(if $(VERBOSE),,STAGES=$(DEMO_OUTPUT) PROGRESS=1) $(STAGE)
LINK := .ansible/collections/ansible_collections/mlfleet/stack
SCENARIOS ?= $(notdir $(patsubst %/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))
# Their tests run on the labs of the integration tests, which read these lines: bare and in containers, bare alone where they take
# long and ask for little that a container changes, in containers alone where the scenario has more on its bare host, on the lab of
# experiment tracking, or together on a small one.
ROLES_ON_LABS := host postgres redis mlflow restapi worker_tensorflow_cpu
ROLES_ON_THE_BARE_LAB := pgadmin worker_custom
ROLES_ON_THE_DOCKER_LAB := minio
ROLES_ON_THE_TRACKING_LAB := rabbitmq serving exporters alertmanager prometheus grafana
ROLES_ON_A_LAB_TOGETHER := nginx drift frontend python_app unit
TESTED_ON_LABS := $(ROLES_ON_LABS) $(ROLES_ON_THE_BARE_LAB) $(ROLES_ON_THE_TRACKING_LAB) $(ROLES_ON_A_LAB_TOGETHER)
CHECKS := check-unit check-lint check-sanity check-collection
# Two stages run at a time, the longest first. Scenarios are left out whose tests run on the labs of the integration tests.
LABS := integration-one-host integration-several-hosts integration-docker integration-tracking integration-roles check-modules \
    $(addprefix scenario-,$(filter-out $(TESTED_ON_LABS) worker %_docker,$(SCENARIOS)))
DOCKER_TESTS := $(wildcard tests/integration/test_docker*.py)
TRACKING_TESTS := tests/integration/test_tracking.py
TOGETHER_TESTS := tests/integration/test_roles_together.py
# Docker needs root; everything else runs as the calling user.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --set-home env "PATH=$(CURDIR)/$(VENV)/bin:$(PATH)")
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo demo-host minio-build test clean venv engine browser checks labs lint unit sanity collection modules application molecule integration integration-several-hosts \
    integration-one-host integration-docker integration-tracking integration-roles kill-test fleet bench constraints docs

# VERBOSE=1 shows the full output of Ansible, INVENTORY=serving or INVENTORY=tracking takes another example.
demo: venv
	@$(MAKE) --no-print-directory --jobs 2 $(if $(wildcard $(DEMO_LAB)),,minio-build) demo-host
	@$(DEMO_STAGE) "Secrets" mlfleet init $(DEMO_LAB)
	@$(DEMO_STAGE) "Converge and verify" ansible-playbook site.yml playbooks/verify.yml -i $(DEMO_LAB)
	@$(if $(VERBOSE),,sed -n "/^ok: .*=>/,/^PLAY/ { /^ok:/d; /^PLAY/d; s/^    msg: [|'-]*//; s/'$$//; p; }" $(DEMO_OUTPUT)/Converge-and-verify.log)

demo-host: engine
	@$(DEMO_STAGE) "Lab of one host" $(AS_ROOT) mlfleet lab up $(DEMO_LAB) --like inventories/$(INVENTORY)

# The build continues in the background.
minio-build: venv
	@$(DEMO_STAGE) "Start building MinIO" ansible-playbook playbooks/prepare_controller.yml -i inventories/$(INVENTORY)

clean:
	@$(AS_ROOT) mlfleet lab down $(DEMO_LAB)

test: venv engine
	@scripts/stages $(CHECKS) $(LABS)

# Needs no services. The output of stages is in .cache/stages, and shown if one fails.
checks: venv
	@scripts/stages $(CHECKS)

labs: venv
	@scripts/stages $(LABS)

check-%:
	@$(STAGE) "make $*" $(MAKE) --no-print-directory $*

lint: venv
	@ruff check . && ruff format --check .
	@mypy
	@cd .ansible/collections && mypy --config-file= --ignore-missing-imports --check-untyped-defs -p ansible_collections.mlfleet.stack.plugins
	@yamllint .
	@ansible-lint --offline

unit: venv
	@pytest tests/unit

sanity: venv
	@scripts/sanity

collection: venv
	@pytest tests/collection

# Each module against the real service that it manages, on the loopback.
modules: venv
	@pytest tests/modules -m "not fleet"

# The application of role serving, with the real services around it on the loopback, which Debian's rabbitmq-server, redis-server and
# postgresql provide; takes three minutes.
application: venv
	@pytest tests/serving

molecule: venv
	@scripts/stages $(patsubst %,scenario-%,$(filter worker%,$(SCENARIOS)) $(filter-out worker%,$(SCENARIOS)))

scenario-%: venv
	@$(STAGE) "molecule test -s $*" molecule test -s $*

integration: venv
	@scripts/stages integration-one-host integration-several-hosts integration-docker integration-tracking integration-roles

integration-several-hosts: venv
	@$(STAGE) "Several hosts" pytest tests/integration/several_hosts -m "not fleet" -rP --durations=20

integration-one-host: venv
	@$(STAGE) "One host" pytest tests/integration --ignore tests/integration/several_hosts \
	    $(patsubst %,--ignore %,$(DOCKER_TESTS) $(TRACKING_TESTS) $(TOGETHER_TESTS)) -m "not kill and not fleet" -rP --durations=20

integration-tracking: venv browser
	@$(STAGE) "Tracking and serving" pytest $(TRACKING_TESTS) -m "not fleet" -rP --durations=20

integration-roles: venv browser
	@$(STAGE) "Roles together" pytest $(TOGETHER_TESTS) -m "not fleet" -rP --durations=20

integration-docker: venv
	@$(STAGE) "In containers" pytest $(DOCKER_TESTS) -m "not fleet" -rP --durations=20

# Kills a fresh converge at ten moments, each on a new host, and the host under the next one; takes half an hour.
kill-test: venv engine browser
	@pytest tests/integration -m kill

# The example over many hosts, as it stands, rollouts that meet trouble, and every kind of drift; takes some hours.
fleet: venv engine
	@pytest -s tests/integration tests/modules -m fleet

bench: venv engine
	@python bench --markdown docs/performance.md
	@python bench/scale.py --markdown docs/performance.md

# What the venvs of services and controller are pinned to; run after a change of a *.in file or of pyproject.toml.
# UPGRADE=1 takes the newest version of every package; without it, versions that still fit stay.
constraints: venv
	@scripts/constraints $(if $(UPGRADE),--upgrade)

# The tables of the roles' READMEs, from their specs and defaults.
docs: venv
	@python scripts/role_tables.py

venv: $(VENV)/.made $(LINK)

$(VENV)/.made: constraints/controller.txt constraints/uv.txt pyproject.toml
	@$(STAGE) "Virtual environment" scripts/venv $(PYTHON) $(VENV)
	@touch $@

$(LINK):
	@mkdir -p $(dir $@)
	@ln -sfn ../../../.. $@

# For the tests that open pages.
browser:
	@command -v chromium >/dev/null || $(STAGE) "Browser" $(AS_ROOT) sh -c \
	    "apt-get -qq update && apt-get -qq install --yes --no-install-recommends chromium >/dev/null"

engine:
	@$(STAGE) "Docker engine" scripts/docker-engine
