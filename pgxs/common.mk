# common.mk: what module.mk, extension.mk and regress.mk share.
#
# Set by the including Makefile before this: nothing. Given here: TOP (the root
# of the tree), PG_CONFIG, and flags. Servers older than 14 are refused.

TOP := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))/..)

PG_CONFIG ?= pg_config
PG_MAJOR := $(shell $(PG_CONFIG) --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
ifeq ($(PG_MAJOR),)
$(error $(PG_CONFIG) does not run: install the server headers (scripts/deps does) or set PG_CONFIG)
endif
ifneq ($(shell test $(PG_MAJOR) -ge 14 && echo ok),ok)
$(error PostgreSQL $(PG_MAJOR) is too old: 14 or newer is needed, see $(PG_CONFIG) --version)
endif

# JIT bitcode of our functions is never inlined; without this the build would
# want clang.
override with_llvm = no

PG_CPPFLAGS += -I$(TOP)/pgxs/include
# The server's own headers are not clean under every -Wextra warning; those
# three are about them.
PG_CFLAGS += -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
ifdef WERROR
PG_CFLAGS += -Werror
endif
