# The one front door. `make` alone prints what can be done.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
VERSION := 4.0
PG_CONFIG ?= pg_config
DESTDIR ?=
PREFIX ?= /usr/local
export PG_CONFIG

MODULES := $(patsubst %/Makefile,%,$(wildcard plproxy_c/Makefile pgq_sql/*/*/Makefile))
EXTENSIONS := $(patsubst %/Makefile,%,$(wildcard extensions/*/Makefile))
SUITES := $(patsubst %/Makefile,%,$(wildcard regress/*/Makefile))
# Only names that have a command: a link must not stand before another program that works.
LINKS := bulk_loader cube_dispatcher data_maintainer pgqadm pgqd pooler queue_loader queue_mover queue_splitter scriptmgr \
    simple_consumer simple_local_consumer simple_serial_consumer table_dispatcher

.DEFAULT_GOAL := help
.PHONY: help demo check all server workers install install-server install-workers installcheck matrix fuzz valgrind \
	stress soak bench lint fmt fresh dist clean

help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: ## run the whole product on throw-away servers (KEEP=1 leaves it running)
	@scripts/deps demo
	@scripts/demo

check: ## install what is missing and run every test
	@scripts/deps check
	@scripts/check

all: server workers ## build everything

server:
	@for d in $(MODULES) $(EXTENSIONS); do $(MAKE) -s -C $$d all || exit 1; done

workers:
	@scripts/go build -o $(CURDIR)/.build/bin/skytools ./cmd/skytools

install: install-server install-workers ## install into the system's PostgreSQL and PREFIX (DESTDIR is honoured)

install-server: server
	@for d in $(MODULES) $(EXTENSIONS); do $(MAKE) -s -C $$d install DESTDIR="$(DESTDIR)" || exit 1; done

install-workers: workers
	@$(MAKE) -s -C extensions/pgq pgq_plonly.sql
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/skytools"
	install -m 644 extensions/pgq/pgq_plonly.sql "$(DESTDIR)$(PREFIX)/share/skytools/pgq_plonly.sql"
	install -m 755 .build/bin/skytools "$(DESTDIR)$(PREFIX)/bin/skytools"
	for l in $(LINKS); do ln -sf skytools "$(DESTDIR)$(PREFIX)/bin/$$l"; done

installcheck: ## run the regression suites on the server that PGHOST and PGPORT name
	@for d in $(SUITES); do $(MAKE) -s -C $$d installcheck || exit 1; done

matrix: ## build and test the extensions on PostgreSQL 17 and 18
	@scripts/deps matrix
	@scripts/matrix

fuzz: ## let fuzzers write function bodies, events, and the pooler's files, messages and conversations (FUZZ_TIME=60)
	@scripts/deps fuzz
	@$(MAKE) -s -C plproxy_c fuzz
	@scripts/fuzz --seconds $(or $(FUZZ_TIME),60)

valgrind: ## run the plproxy suite on a server under valgrind
	@scripts/deps valgrind
	@scripts/valgrind

stress: ## call plproxy functions while everything around them fails (STRESS_TIME=60)
	@scripts/deps check
	@scripts/stress plproxy --seconds $(or $(STRESS_TIME),60)

soak: ## an hour of random histories of queues and of the pooler's clients (SOAK_TIME=3600)
	@scripts/deps check
	@scripts/stress pgq --seconds $(or $(SOAK_TIME),3600)
	@scripts/stress pooler --seconds $(or $(SOAK_TIME),3600)

bench: ## measure ours beside the old tools (DRIVER=pgq, consumers, plproxy, pooler or partconf; QUICK=1)
	@scripts/deps bench
	@scripts/bench/run $(DRIVER) $(if $(QUICK),--quick)

lint: ## format, vet, warnings as errors, shellcheck
	@scripts/lint

fmt: ## format the Go and C sources
	@scripts/fmt

fresh: ## prove the README's two commands in a bare Debian 12
	@scripts/deps matrix
	@scripts/fresh

dist: ## make a source archive in .build
	@mkdir -p .build
	git archive --prefix=skytools-$(VERSION)/ -o .build/skytools-$(VERSION).tar.gz HEAD

clean: ## remove what the build made
	@for d in $(MODULES) $(EXTENSIONS); do $(MAKE) -s -C $$d clean || exit 1; done
	rm -rf .build
