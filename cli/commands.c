/* SPDX-License-Identifier: MIT */
/* What every command does alike. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "print.h"
#include "signals.h"
#include "text.h"

bool cpu_level_choose(const char *option, const char **cpu)
{
    const char *variable = getenv("TENSORPORT_CPU");
    *cpu = option ? option : variable && *variable ? variable : NULL;
    if (!*cpu || tp_cpu_level(*cpu))
        return true;
    print_usage_error("%s '%s': this CPU has no such level; its best is %s", option ? "--cpu" : "TENSORPORT_CPU",
                      text_name(*cpu).s, tp_cpu_level(NULL));
    return false;
}

int command_failed(struct bar *bar, const struct tp_error *err, const char *consequence, const char *path)
{
    char where[256];
    bar_clear(bar);
    if (err->code != TP_ERR_CANCELLED)
        return print_error(err);
    bar_describe(bar, where, sizeof where);
    print_error_line("%s; %s%s%s", where, consequence, path ? " " : "", path ? text_name(path).s : "");
    return signals_caught() ? EXIT_SIGNAL + signals_caught() : tp_status_exit_code(err->code);
}
