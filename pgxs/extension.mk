# extension.mk: packages one extension: control file, base script, upgrades.
#
# Set before: EXTENSION, SQL_SOURCES (paths under pgq_sql/ or here, in the order
# of installation). The base script EXTENSION--VERSION.sql is joined from them
# until its version is released; from then on it stands here, frozen. Optional:
# UPDATES_FROM, older versions of others whose members these replace, and
# UPDATE_SOURCES, of which the update scripts from them are joined likewise;
# SCRIPTS_BUILT, further scripts that the Makefile has rules for.

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(EXTENSION).control)
UPDATES := $(UPDATES_FROM:%=$(EXTENSION)--%--$(EXTVERSION).sql)
DATA_built := $(EXTENSION)--$(EXTVERSION).sql $(UPDATES) $(SCRIPTS_BUILT)
DATA := $(filter-out $(UPDATES),$(wildcard $(EXTENSION)--*--*.sql))
NO_INSTALLCHECK = 1

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(EXTENSION)--$(EXTVERSION).sql: $(SQL_SOURCES) $(EXTENSION).control Makefile $(TOP)/pgxs/concat
	$(TOP)/pgxs/concat $(EXTENSION) $(EXTVERSION) $(SQL_SOURCES) > $@.tmp
	mv $@.tmp $@

$(UPDATES): $(EXTENSION)--%--$(EXTVERSION).sql: $(UPDATE_SOURCES) $(EXTENSION).control Makefile $(TOP)/pgxs/concat
	$(TOP)/pgxs/concat $(EXTENSION) $*--$(EXTVERSION) $(UPDATE_SOURCES) > $@.tmp
	mv $@.tmp $@
