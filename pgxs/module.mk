# module.mk: builds and installs one shared library.
#
# Set before: MODULE_big, OBJS (an object a line), WITH_LIBPQ=1 if it speaks
# libpq, HEADER (the room's header, every object depends on it).

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

ifdef WITH_LIBPQ
PG_CPPFLAGS += -I$(shell $(PG_CONFIG) --includedir)
SHLIB_LINK += -L$(shell $(PG_CONFIG) --libdir) -lpq
endif

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(HEADER) $(TOP)/pgxs/include/pg_compat.h
