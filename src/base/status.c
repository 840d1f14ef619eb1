/* SPDX-License-Identifier: MIT */
/* Errors as values: one table of codes, and the few functions that fill a struct tp_error. */
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tensorport/text.h"

static const struct {
    const char *name;
    int exit_code;
} status_table[TP_STATUS_COUNT] = {
    [TP_OK] = {"ok", 0},
    [TP_ERR_USAGE] = {"usage", 2},
    [TP_ERR_EXISTS] = {"exists", 2},
    [TP_ERR_FORMAT] = {"format", 3},
    [TP_ERR_UNSUPPORTED] = {"unsupported", 3},
    [TP_ERR_VALUE] = {"value", 3},
    [TP_ERR_IO] = {"io", 4},
    [TP_ERR_SPACE] = {"space", 5},
    [TP_ERR_NOMEM] = {"nomem", 5},
    [TP_ERR_LIMIT] = {"limit", 3},
    [TP_ERR_CANCELLED] = {"cancelled", 130},
    [TP_ERR_BUG] = {"bug", 70},
};

const char *tp_status_name(enum tp_status status)
{
    return (unsigned)status < TP_STATUS_COUNT ? status_table[status].name : "unknown";
}

int tp_status_exit_code(enum tp_status status)
{
    return (unsigned)status < TP_STATUS_COUNT ? status_table[status].exit_code : 70;
}

static enum tp_status fail_va(struct tp_error *err, enum tp_status code, const char *fmt, va_list args) TP_PRINTF(3, 0);
static enum tp_status fail_va(struct tp_error *err, enum tp_status code, const char *fmt, va_list args)
{
    if (err) {
        memset(err, 0, sizeof *err);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, fmt, args);
    }
    return code;
}

enum tp_status tp_fail(struct tp_error *err, enum tp_status code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fail_va(err, code, fmt, args);
    va_end(args);
    return code;
}

enum tp_status tp_fail_errno(struct tp_error *err, int sys_errno, const char *path, const char *fmt, ...)
{
    enum tp_status code = sys_errno == ENOSPC || sys_errno == EDQUOT ? TP_ERR_SPACE
                          : sys_errno == ENOMEM                      ? TP_ERR_NOMEM
                                                                     : TP_ERR_IO;
    va_list args;
    va_start(args, fmt);
    fail_va(err, code, fmt, args);
    va_end(args);
    if (err) {
        size_t used = strlen(err->message);
        char text[128];
        if (strerror_r(sys_errno, text, sizeof text) != 0)
            snprintf(text, sizeof text, "error %d", sys_errno);
        snprintf(err->message + used, sizeof err->message - used, ": %s", text);
        err->sys_errno = sys_errno;
        tp_err_path(err, code, path);
    }
    return code;
}

enum tp_status tp_fail_nomem(struct tp_error *err)
{
    return tp_fail(err, TP_ERR_NOMEM, "out of memory");
}

enum tp_status tp_err_path(struct tp_error *err, enum tp_status status, const char *path)
{
    if (err && path)
        tp_text_printable(err->path, sizeof err->path, path, strlen(path));
    return status;
}

enum tp_status tp_err_tensor(struct tp_error *err, enum tp_status status, const char *name, size_t len)
{
    if (err)
        tp_text_printable(err->tensor, sizeof err->tensor, name, len);
    return status;
}

void tp_err_finding(struct tp_error *err, const char *code)
{
    char message[sizeof err->message];
    if (!err)
        return;
    memcpy(message, err->message, sizeof message);
    snprintf(err->message, sizeof err->message, "%.8s %.*s", code, (int)sizeof message - 10, message);
}

enum tp_status tp_err_hint(struct tp_error *err, enum tp_status status, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        vsnprintf(err->hint, sizeof err->hint, fmt, args);
        va_end(args);
    }
    return status;
}
