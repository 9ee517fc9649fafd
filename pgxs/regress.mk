# regress.mk: runs one suite against the running server that PGHOST and PGPORT
# name (scripts/with-server starts one).
#
# Set before: SUITE. Optional: LOAD (extensions created in the suite's database
# first). Every sql/*.sql is a test with expected/*.out; every specs/*.spec an
# isolation test. A new file is enough, no list is kept. Results are left in
# .build/regress/SUITE.
#
# Optional, for a suite that runs again elsewhere: SCRIPT, which psql runs in the new
# database in place of LOAD; ALSO, the folder of another suite whose tests are run
# before those here, but for LEFT_OUT.

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

OUT := $(TOP)/.build/regress/$(SUITE)$(if $(filter-out 15,$(PG_MAJOR)),-$(PG_MAJOR))
PGBIN ?= $(shell $(PG_CONFIG) --bindir)
HARNESS := $(dir $(shell $(PG_CONFIG) --pgxs))../test
TESTS := $(sort $(basename $(notdir $(wildcard sql/*.sql))))
SPECS := $(sort $(basename $(notdir $(wildcard specs/*.spec))))
ifdef ALSO
ALSO_TESTS := $(filter-out $(LEFT_OUT),$(sort $(basename $(notdir $(wildcard $(ALSO)/sql/*.sql)))))
ALSO_SPECS := $(filter-out $(LEFT_OUT),$(sort $(basename $(notdir $(wildcard $(ALSO)/specs/*.spec)))))
endif
# the tests of the other suite may show the name of their database
DB := $(notdir $(or $(ALSO),$(SUITE)))
OPTS = --bindir=$(PGBIN) $(if $(SCRIPT),--use-existing,$(addprefix --load-extension=,$(LOAD)))

# $(call database,NAME): makes it by SCRIPT
database = $(if $(SCRIPT),$(PGBIN)/psql -Xq -d postgres -c 'set client_min_messages = warning' \
	-c 'drop database if exists $(1)' -c 'create database $(1) template template0' && \
	$(PGBIN)/psql -Xq -d $(1) -v ON_ERROR_STOP=1 -o /dev/null -f $(SCRIPT))
# $(call regress,FOLDER,TESTS), $(call isolation,FOLDER,SPECS,WHERE)
regress = $(HARNESS)/regress/pg_regress $(OPTS) --inputdir=$(1) --outputdir=$(OUT) --dbname=regress_$(DB) $(2)
isolation = $(HARNESS)/isolation/pg_isolation_regress $(OPTS) --inputdir=$(1) --outputdir=$(OUT)/$(3) \
	--dbname=isolation_$(DB) $(2)

.PHONY: installcheck
installcheck:
	@mkdir -p $(OUT)
ifneq ($(TESTS)$(ALSO_TESTS),)
	$(call database,regress_$(DB))
endif
ifneq ($(ALSO_TESTS),)
	$(call regress,$(ALSO),$(ALSO_TESTS))
endif
ifneq ($(TESTS),)
	$(call regress,.,$(TESTS))
endif
ifneq ($(SPECS)$(ALSO_SPECS),)
	$(call database,isolation_$(DB))
endif
ifneq ($(ALSO_SPECS),)
	$(call isolation,$(ALSO),$(ALSO_SPECS),isolation)
endif
ifneq ($(SPECS),)
	$(call isolation,.,$(SPECS),isolation$(if $(ALSO_SPECS),-own))
endif
