/*
 * pg_compat.h
 *	  The newest names of the server's C interface on every server we build for.
 *
 * PG_VERSION_NUM stands only here. A branch goes the day its server is dropped.
 */
#ifndef PG_COMPAT_H
#define PG_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 140000
#error "PostgreSQL 14 or newer is needed"
#endif

/* 15: a GUC prefix is reserved instead of only warned about */
#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 18: the module block tells name and version to pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define SKYTOOLS_MODULE(name_) PG_MODULE_MAGIC_EXT(.name = name_, .version = "4.0")
#else
#define SKYTOOLS_MODULE(name_) PG_MODULE_MAGIC
#endif

#endif							/* PG_COMPAT_H */
