# regress.mk: runs one suite against the running server that PGHOST and PGPORT
# name (scripts/with-server starts one).
#
# Set before: SUITE. Optional: LOAD (extensions created in the suite's database
# first). Every sql/*.sql is a test with expected/*.out; every specs/*.spec an
# isolation test. A new file is enough, no list is kept. Results are left in
# .build/regress/SUITE.

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

OUT := $(TOP)/.build/regress/$(SUITE)$(if $(filter-out 15,$(PG_MAJOR)),-$(PG_MAJOR))
PGBIN ?= $(shell $(PG_CONFIG) --bindir)
HARNESS := $(dir $(shell $(PG_CONFIG) --pgxs))../test
TESTS := $(sort $(basename $(notdir $(wildcard sql/*.sql))))
SPECS := $(sort $(basename $(notdir $(wildcard specs/*.spec))))
OPTS = --inputdir=. --bindir=$(PGBIN) $(addprefix --load-extension=,$(LOAD))

.PHONY: installcheck
installcheck:
	@mkdir -p $(OUT)
ifneq ($(TESTS),)
	$(HARNESS)/regress/pg_regress $(OPTS) --outputdir=$(OUT) --dbname=regress_$(SUITE) $(TESTS)
endif
ifneq ($(SPECS),)
	$(HARNESS)/isolation/pg_isolation_regress $(OPTS) --outputdir=$(OUT)/isolation \
		--dbname=isolation_$(SUITE) $(SPECS)
endif
