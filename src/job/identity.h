/* SPDX-License-Identifier: MIT */
/* What a conversion is: tool, options, source and layout, as lines of text. A run may be resumed only by one whose
 * lines are the same; workers, memory and whatever else does not shape the result are not among them. */
#ifndef TP_JOB_IDENTITY_H
#define TP_JOB_IDENTITY_H

#include "codec/digest.h"
#include "job/conversion.h"

/* The lines, malloc'd, and their digest. Needs cv->prints. */
enum tp_status tp_identity_make(char **text, struct tp_digest *digest, const struct tp_conversion *cv,
                                struct tp_error *err);
/* TP_ERR_EXISTS names the first difference between the run that `then` was written by and this one. A difference in
 * what is done about values that do not fit is none: *other_overflow says that there is one. */
enum tp_status tp_identity_compare(const char *then, const char *now, bool *other_overflow, struct tp_error *err);

#endif
