/* SPDX-License-Identifier: MIT */
/* tensorport --completion bash: completes commands, options and choices; everything else is left to bash's own
 * completion of file names. */
#include "document.h"

/* What the script calls a command: "map-check"; the program itself is "". */
static void put_id(FILE *out, const struct command *cmd)
{
    for (const char *c = cmd->name ? cmd->name : ""; *c; c++)
        putc(*c == ' ' ? '-' : *c, out);
}

/* Which words make which command: "map" and "check" after each other are the command "map-check". */
static void put_steps(FILE *out, const struct command *group)
{
    for (size_t i = 0; group->commands[i]; i++) {
        fputs("        ", out);
        put_id(out, group);
        fprintf(out, ":%s) command=", document_last_word(group->commands[i]->name));
        put_id(out, group->commands[i]);
        fputs(" ;;\n", out);
    }
    for (size_t i = 0; group->commands[i]; i++)
        if (group->commands[i]->commands)
            put_steps(out, group->commands[i]);
}

static void put_choices(FILE *out, const struct command *cmd)
{
    for (const struct option_row *row = option_next_visible(cmd->options); row; row = option_next_visible(row + 1)) {
        if (!row->choices)
            continue;
        fputs("        ", out);
        put_id(out, cmd);
        fprintf(out, ":--%s", row->name);
        if (row->letter) {
            fputs(" | ", out);
            put_id(out, cmd);
            fprintf(out, ":-%c", row->letter);
        }
        fputs(") words='", out);
        for (size_t i = 0; row->choices[i]; i++)
            fprintf(out, i ? " %s" : "%s", row->choices[i]);
        fputs("' ;;\n", out);
    }
}

static void put_all_choices(FILE *out, const struct command *group)
{
    for (size_t i = 0; group->commands[i]; i++) {
        if (group->commands[i]->commands)
            put_all_choices(out, group->commands[i]);
        else
            put_choices(out, group->commands[i]);
    }
}

static void put_options(FILE *out, const struct command *cmd)
{
    fputs("        ", out);
    put_id(out, cmd);
    fputs(":-*) words='", out);
    const char *between = "";
    for (const struct option_row *row = option_next_visible(cmd->options); row; row = option_next_visible(row + 1)) {
        fprintf(out, "%s--%s", between, row->name);
        between = " ";
        if (row->letter)
            fprintf(out, " -%c", row->letter);
    }
    fputs("' ;;\n", out);
}

static void put_group(FILE *out, const struct command *group)
{
    put_options(out, group);
    fputs("        ", out);
    put_id(out, group);
    fputs(":*) words='", out);
    for (size_t i = 0; group->commands[i]; i++)
        fprintf(out, "%s%s", i ? " " : "", document_last_word(group->commands[i]->name));
    fputs("' ;;\n", out);
    for (size_t i = 0; group->commands[i]; i++) {
        if (group->commands[i]->commands)
            put_group(out, group->commands[i]);
        else
            put_options(out, group->commands[i]);
    }
}

void completion_print(FILE *out, const struct command *top)
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
          "        case $command:${COMP_WORDS[i]} in\n",
          out);
    put_steps(out, top);
    fputs("        esac\n"
          "    done\n"
          "    case $command:$prev in\n",
          out);
    put_all_choices(out, top);
    fputs("    esac\n"
          "    [[ $words ]] || case $command:$cur in\n",
          out);
    put_group(out, top);
    fputs("    esac\n"
          "    COMPREPLY=()\n"
          "    [[ -z $words ]] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "}\n"
          "complete -o bashdefault -o default -F _tensorport tensorport\n",
          out);
}
