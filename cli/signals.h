/* SPDX-License-Identifier: MIT */
/* The first SIGINT, SIGTERM or SIGHUP asks for an orderly stop, the second one ends the process at once. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

void signals_catch(void);
int signals_caught(void); /* the signal's number, or 0 */

/* A pipe whose reader went away must not kill a process that is writing a checkpoint: writes fail instead. */
void signals_ignore_pipe(void);

#endif
