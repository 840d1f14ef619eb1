/* SPDX-License-Identifier: MIT */
/* Numbers and lists as messages show them. */
#ifndef TP_CHECKPOINT_DESCRIBE_H
#define TP_CHECKPOINT_DESCRIBE_H

#include <stddef.h>
#include <stdint.h>

#define TP_COUNT_TEXT 28u  /* "18,446,744,073,709,551,615" */
#define TP_SHAPE_TEXT 128u /* longer ones are cut */
#define TP_NAME_TEXT 256u  /* a printable name, longer ones are cut */

/* With thousands apart: "90,177,536". Returns `text`. */
const char *tp_describe_count(char text[TP_COUNT_TEXT], uint64_t count);
/* "[11008, 4096]" */
const char *tp_describe_shape(char text[TP_SHAPE_TEXT], const uint64_t *shape, unsigned rank);
/* A printable copy of a name from a file. */
const char *tp_describe_name(char text[TP_NAME_TEXT], const char *name, size_t len);

/* Names one after the other, "a, b, c and 12 more": what does not fit is counted. */
struct tp_name_list { /* {0} is empty and ready */
    char text[2048];
    size_t used, hidden_count, count;
};
void tp_name_list_add(struct tp_name_list *list, const char *name);
const char *tp_name_list_text(struct tp_name_list *list); /* once, at the end */

#endif
