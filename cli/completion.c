/* SPDX-License-Identifier: MIT */
/* tensorport --completion bash: completes commands, options and choices; everything else is left to bash's own
 * completion of file names. */
#include "document.h"

static void put_choices(FILE *out, const char *command, const struct option_row *rows)
{
    for (const struct option_row *row = option_next_visible(rows); row; row = option_next_visible(row + 1)) {
        if (!row->choices)
            continue;
        fprintf(out, "        %s:--%s", command, row->name);
        if (row->letter)
            fprintf(out, " | %s:-%c", command, row->letter);
        fputs(") words='", out);
        for (size_t i = 0; row->choices[i]; i++)
            fprintf(out, i ? " %s" : "%s", row->choices[i]);
        fputs("' ;;\n", out);
    }
}

static void put_options(FILE *out, const char *command, const struct option_row *rows)
{
    fprintf(out, "        %s:-*) words='", command);
    const char *between = "";
    for (const struct option_row *row = option_next_visible(rows); row; row = option_next_visible(row + 1)) {
        fprintf(out, "%s--%s", between, row->name);
        between = " ";
        if (row->letter)
            fprintf(out, " -%c", row->letter);
    }
    fputs("' ;;\n", out);
}

static void put_commands(FILE *out, const struct program *program, const char *between)
{
    for (size_t i = 0; program->commands[i]; i++)
        fprintf(out, "%s%s", i ? between : "", program->commands[i]->name);
}

void completion_print(FILE *out, const struct program *program)
{
    fputs("# SPDX-License-Identifier: MIT\n"
          "# bash completion for tensorport; made by `tensorport --completion bash`\n"
          "_tensorport()\n"
          "{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= words= i\n"
          "    # bash cuts --option=value at the sign\n"
          "    if [[ $cur == = ]]; then cur=\n"
          "    elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case ${COMP_WORDS[i]} in ",
          out);
    put_commands(out, program, " | ");
    fputs(") command=${COMP_WORDS[i]}; break ;; esac\n"
          "    done\n"
          "    case $command:$prev in\n",
          out);
    for (size_t i = 0; program->commands[i]; i++)
        put_choices(out, program->commands[i]->name, program->commands[i]->options);
    fputs("    esac\n"
          "    [[ $words ]] || case $command:$cur in\n",
          out);
    put_options(out, "", program->top->options);
    fputs("        :*) words='", out);
    put_commands(out, program, " ");
    fputs("' ;;\n", out);
    for (size_t i = 0; program->commands[i]; i++)
        put_options(out, program->commands[i]->name, program->commands[i]->options);
    fputs("    esac\n"
          "    COMPREPLY=()\n"
          "    [[ -z $words ]] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "}\n"
          "complete -o bashdefault -o default -F _tensorport tensorport\n",
          out);
}
