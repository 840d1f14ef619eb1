#!/bin/sh
# SPDX-License-Identifier: MIT
# quiet.sh "what is being done" NAME COMMAND...: says what, runs the command with its output in build/logs/NAME.log,
# and shows that log only if the command fails. Nobody reads a thousand lines of success.
set -u
what=$1 name=$2
shift 2
mkdir -p build/logs
log=build/logs/$name.log
printf '  %s ...\n' "$what"
"$@" >"$log" 2>&1 </dev/null && exit 0
status=$?
cat "$log" >&2
printf '\nfailed: %s (exit status %s; the log is %s)\n' "$what" "$status" "$log" >&2
exit "$status"
