/* SPDX-License-Identifier: MIT */
/* The journal of a conversion: which blocks are finished, what they hold, and what was seen of their values, so that a
 * run that was killed can be resumed. Append-only; each record has a checksum, so a torn one at the end is known.
 *
 *     journal := "TPJRNL1\n" | digest of the conversion (16 bytes) | records of 88 bytes, little-endian
 *     record  := block | digest (16 bytes) | min | max | NaN | Inf | overflowed | flushed | odd BOOL | XXH3-64 of those
 *
 * What it claims is not believed: a resumed run reads each block again and compares the digest. */
#ifndef TP_PIPELINE_JOURNAL_H
#define TP_PIPELINE_JOURNAL_H

#include "codec/digest.h"
#include "kernels/kernels.h"

#define TP_JOURNAL_NAME "journal"

struct tp_block_record {
    uint64_t block; /* number in the plan */
    struct tp_digest digest;
    struct tp_stats stats;
    uint64_t odd_bool_count;
};

struct tp_journal; /* opaque; any number of threads may append */

/* Begin an empty one, in place of any that is there. */
enum tp_status tp_journal_create(struct tp_journal **out, const char *folder, const struct tp_digest *conversion,
                                 struct tp_error *err);
/* Go on with one: `take` is called for each whole record, in order; what follows the last of them is cut off. An absent
 * journal, or one of another conversion, is begun anew (*records is 0). */
enum tp_status tp_journal_resume(struct tp_journal **out, const char *folder, const struct tp_digest *conversion,
                                 enum tp_status (*take)(void *user, const struct tp_block_record *record,
                                                        struct tp_error *err),
                                 void *user, uint64_t *records, struct tp_error *err);
/* Records by block, for looking up. */
struct tp_claims { /* {0} is empty and ready */
    struct tp_block_record *records;
    size_t count, capacity;
};
enum tp_status tp_claims_add(void *claims, const struct tp_block_record *record, struct tp_error *err);
void tp_claims_drop_overflowed(struct tp_claims *claims); /* of blocks with values that did not fit */
/* Once, after the last. Of several of one block any is kept: one that does not hold is only made again. */
void tp_claims_sort(struct tp_claims *claims);
const struct tp_block_record *tp_claims_find(const struct tp_claims *claims, uint64_t block); /* or NULL */
void tp_claims_release(struct tp_claims *claims);

enum tp_status tp_journal_append(struct tp_journal *journal, const struct tp_block_record *records, size_t count,
                                 struct tp_error *err);
uint64_t tp_journal_count(const struct tp_journal *journal); /* of records; not while others append */
void tp_journal_close(struct tp_journal *journal);           /* NULL is fine */

#endif
