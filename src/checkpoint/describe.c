/* SPDX-License-Identifier: MIT */
#include "checkpoint/describe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tensorport/text.h"

const char *tp_describe_count(char text[TP_COUNT_TEXT], uint64_t count)
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, count);
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

const char *tp_describe_shape(char text[TP_SHAPE_TEXT], const uint64_t *shape, unsigned rank)
{
    size_t used = 1;
    text[0] = '[';
    for (unsigned i = 0; i < rank; i++) {
        if (used + 32 > TP_SHAPE_TEXT) {
            used += (size_t)snprintf(text + used, TP_SHAPE_TEXT - used, ", ...");
            break;
        }
        used += (size_t)snprintf(text + used, TP_SHAPE_TEXT - used, "%s%" PRIu64, i > 0 ? ", " : "", shape[i]);
    }
    memcpy(text + used, "]", 2);
    return text;
}

const char *tp_describe_name(char text[TP_NAME_TEXT], const char *name, size_t len)
{
    return tp_text_printable(text, TP_NAME_TEXT, name, len);
}

void tp_name_list_add(struct tp_name_list *list, const char *name)
{
    char printable[TP_NAME_TEXT];
    tp_describe_name(printable, name, strlen(name));
    size_t room = sizeof list->text - 32 - list->used; /* 32: " and N more" */
    list->count++;
    if (list->hidden_count > 0 || strlen(printable) + 2 > room) {
        list->hidden_count++;
        return;
    }
    list->used += (size_t)snprintf(list->text + list->used, sizeof list->text - list->used, "%s%s",
                                   list->used > 0 ? ", " : "", printable);
}

const char *tp_name_list_text(struct tp_name_list *list)
{
    if (list->hidden_count > 0)
        snprintf(list->text + list->used, sizeof list->text - list->used, " and %zu more", list->hidden_count);
    return list->text;
}
