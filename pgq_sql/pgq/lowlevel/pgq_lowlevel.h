/*
 * pgq_lowlevel.h
 *	  The map of library pgq_lowlevel: what SQL calls.
 */
#ifndef PGQ_LOWLEVEL_H
#define PGQ_LOWLEVEL_H

/* SQLSTATEs of schema pgq, listed in extensions/README.md */
#define ERRCODE_PGQ_QUEUE_NOT_FOUND MAKE_SQLSTATE('P', 'G', 'Q', '0', '1')
#define ERRCODE_PGQ_QUEUE_STATE MAKE_SQLSTATE('P', 'G', 'Q', '0', '6')
#define ERRCODE_PGQ_TX_LIMIT MAKE_SQLSTATE('P', 'G', 'Q', '0', '7')

/* in insert_event.c */
extern Datum pgq_insert_event_raw(PG_FUNCTION_ARGS);
extern Datum pgq_insert_event(PG_FUNCTION_ARGS);
extern Datum pgq_current_event_table(PG_FUNCTION_ARGS);
extern Datum pgq_next_txid(PG_FUNCTION_ARGS);

#endif							/* PGQ_LOWLEVEL_H */
