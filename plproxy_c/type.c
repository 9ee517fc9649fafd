/*
 * type.c
 *	  Types as values cross the wire: their remote names, their text functions.
 *
 * FmgrInfos keep what they cache in the context of the function or call that
 * the type was built for.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "plproxy.h"

static bool type_is_nested(Oid oid);
static bool type_names(Oid oid);

/*
 * Fill in a type. "result" tells whether values of it come back (void is
 * welcome then) or are sent.
 */
void
plproxy_type_init(ProxyType *type, Oid oid, int32 typmod, bool result, MemoryContext cxt)
{
	MemoryContext old;
	Oid			function;
	bool		varlena;

	if (get_typtype(oid) == TYPTYPE_PSEUDO && !(result && oid == VOIDOID))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 result
				 ? errmsg("PL/Proxy functions cannot return type %s", format_type_be(oid))
				 : errmsg("PL/Proxy functions cannot accept type %s", format_type_be(oid))));

	old = MemoryContextSwitchTo(cxt);
	type->oid = oid;
	type->typmod = typmod;
	type->name = plproxy_type_name(oid);
	getTypeInputInfo(oid, &function, &type->ioparam);
	fmgr_info_cxt(function, &type->input, cxt);
	getTypeOutputInfo(oid, &function, &varlena);
	fmgr_info_cxt(function, &type->output, cxt);
	type->nested = type_is_nested(oid);
	type->names = type_names(oid);
	MemoryContextSwitchTo(old);
}

/* May there be an array in the text of a value? Not if the type is known to be simple. */
static bool
type_is_nested(Oid oid)
{
	Oid			base = getBaseType(oid);

	switch (get_typtype(base))
	{
		case TYPTYPE_ENUM:
		case TYPTYPE_PSEUDO:
			return false;
		case TYPTYPE_BASE:
			return base >= FirstGenbkiObjectId || OidIsValid(get_element_type(base));
		default:
			return true;
	}
}

/*
 * Does the text of a value name an object in a schema, or may a column of a row
 * do so? It is qualified only where search_path does not lead to it.
 */
static bool
type_names(Oid oid)
{
	Oid			base = getBaseType(oid);
	Oid			element = get_element_type(base);

	if (OidIsValid(element))
		return type_names(element);
	switch (base)
	{
		case REGCLASSOID:
		case REGTYPEOID:
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
			return true;
		default:
			return get_typtype(base) == TYPTYPE_COMPOSITE;
	}
}

/*
 * Does the text of a value have the null of an array in it, which is read as a
 * string where array_nulls is off? Strings that look like it do no harm.
 */
bool
plproxy_type_shows_null(const ProxyType *type, const char *value)
{
	return type->nested && strstr(value, "NULL") != NULL;
}

/*
 * The name of a type on any server and with any search_path. Asking for "no
 * typmod, and that is meant" keeps bpchar from becoming character, which a cast
 * reads as character(1).
 */
char *
plproxy_type_name(Oid oid)
{
	return format_type_extended(oid, -1,
								FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

bool
plproxy_type_is_string(Oid oid)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(oid, &category, &preferred);
	return category == TYPCATEGORY_STRING || oid == UNKNOWNOID;
}

/*
 * Make the text of the function's arguments the same whatever the session has
 * set: of dates, intervals and floats, and of objects, which are qualified unless
 * they are in pg_catalog. Returns what plproxy_type_end wants, 0 if nothing was
 * changed; an error in between undoes it too, since settings follow the
 * transaction.
 */
int
plproxy_type_begin_output(const ProxyFunction *func)
{
	int			nestlevel = 0;
	bool		names = false;

	for (int i = 0; i < func->nargs; i++)
		names = names || func->args[i].type.names;
	if (DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES && extra_float_digits > 0 && !names)
		return 0;

	nestlevel = NewGUCNestLevel();
	if (names)
		(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	if (DateStyle != USE_ISO_DATES)
		(void) set_config_option("datestyle", "ISO", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	if (IntervalStyle != INTSTYLE_POSTGRES)
		(void) set_config_option("intervalstyle", "postgres", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	if (extra_float_digits <= 0)
		(void) set_config_option("extra_float_digits", "1", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return nestlevel;
}

/* The same for nulls in the text of arrays that are read. */
int
plproxy_type_begin_input(void)
{
	int			nestlevel = 0;

	if (!Array_nulls)
	{
		nestlevel = NewGUCNestLevel();
		(void) set_config_option("array_nulls", "on", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	}
	return nestlevel;
}

void
plproxy_type_end(int nestlevel)
{
	if (nestlevel > 0)
		AtEOXact_GUC(true, nestlevel);
}
