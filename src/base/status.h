/* SPDX-License-Identifier: MIT */
/* Filling in a struct tp_error. The failing place states the facts once; callers above pass the status on. */
#ifndef TP_BASE_STATUS_H
#define TP_BASE_STATUS_H

#include <stdarg.h>

#include "base/compiler.h"
#include "tensorport/error.h"

/* Set code and message, clear the rest; returns `code`. Text from files must already be printable (tp_text_printable).
 * `err` may be NULL. */
enum tp_status tp_fail(struct tp_error *err, enum tp_status code, const char *fmt, ...) TP_PRINTF(3, 4);

/* As tp_fail with TP_ERR_IO (ENOSPC, EDQUOT: SPACE; ENOMEM: NOMEM), strerror(sys_errno) appended, path filled in. */
enum tp_status tp_fail_errno(struct tp_error *err, int sys_errno, const char *path, const char *fmt, ...)
    TP_PRINTF(4, 5);

enum tp_status tp_fail_nomem(struct tp_error *err);

/* Add facts to an error that tp_fail has set. Each returns err->code (or TP_ERR_BUG when err is NULL is not possible:
 * they take the status back): `return tp_err_path(err, status, path)`. */
enum tp_status tp_err_path(struct tp_error *err, enum tp_status status, const char *path);
enum tp_status tp_err_tensor(struct tp_error *err, enum tp_status status, const char *name, size_t len);
/* The message begins with the code of a map's finding. */
void tp_err_finding(struct tp_error *err, const char *code);
enum tp_status tp_err_hint(struct tp_error *err, enum tp_status status, const char *fmt, ...) TP_PRINTF(3, 4);

#endif
