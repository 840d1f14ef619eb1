/* SPDX-License-Identifier: MIT */
/* What an Orbax checkpoint cannot hold, found before a byte is written. */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/describe.h"
#include "format/key_tree.h"
#include "format/orbax.h"

#define FILE_NAME_MAX 255u /* bytes, of most file systems */

const char *tp_orbax_item(const struct tp_orbax_options *options)
{
    if (options->item)
        return options->item;
    if (options->layout == TP_ORBAX_V1)
        return "state";
    return options->has_step ? "default" : NULL;
}

static bool ends_with(const char *text, size_t len, const char *end)
{
    size_t end_len = strlen(end);
    return len >= end_len && memcmp(text + len - end_len, end, end_len) == 0;
}

/* Files and folders that are ours or Orbax's own, in the folder of the arrays or in that of the whole checkpoint. */
static const char *const taken[] = {
    "_METADATA",
    "_CHECKPOINT_METADATA",
    "_sharding",
    "array_metadatas",
    "checkpoint",
    "commit_success.txt",
    "d",
    "manifest.json",
    "descriptor",
    "manifest.ocdbt",
    "orbax.checkpoint",
    "SHA256SUMS",
    ".gitattributes",
};

static bool is_taken(const char *name)
{
    for (size_t i = 0; i < TP_COUNT_OF(taken); i++)
        if (strcmp(taken[i], name) == 0)
            return true;
    return false;
}

/* Why a name cannot be that of one folder beside ours; NULL: it can. */
static const char *folder_fault(const char *name, size_t len)
{
    if (len == 0)
        return "empty";
    if (memchr(name, '/', len) || memchr(name, '\\', len) || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return "not the name of a folder";
    if (len > FILE_NAME_MAX)
        return "longer than 255 bytes";
    if (strstr(name, ".orbax-checkpoint-tmp") || strstr(name, ".tensorport-partial"))
        return "what is unfinished is called so";
    if (ends_with(name, len, ".__lock"))
        return "TensorStore keeps names that end in .__lock for itself";
    return is_taken(name) ? "reserved" : NULL;
}

bool tp_orbax_can_link(const char *name)
{
    return tp_ocdbt_path_is_safe(name, strlen(name)) && !is_taken(name) && strncmp(name, "d/", 2) != 0;
}

/* As TensorStore takes a name apart: below one that ends in '/' there would be no key of ours. */
static const char *name_fault(const char *name, size_t len, bool has_database)
{
    if (!has_database)
        return folder_fault(name, len);
    if (len == 0)
        return "empty";
    return name[len - 1] == '/' ? "ends in '/'" : NULL;
}

static const char *array_fault(const struct tp_array *a, const char *name, bool has_database)
{
    const char *fault = tp_store_fault(a);
    return fault ? fault : name_fault(name, a->path_len, has_database);
}

static enum tp_status check_arrays(const struct tp_plan *plan, bool has_database, struct tp_error *err)
{
    struct tp_name_list faults = {.count = 0};
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        char name[TP_NAME_MAX_BYTES + 1], shown[TP_NAME_TEXT], line[TP_NAME_TEXT + 80];
        tp_path_join_keys(name, a->path, a->path_len, '.');
        const char *fault = array_fault(a, name, has_database);
        if (fault) {
            snprintf(line, sizeof line, "'%s' (%s)", tp_describe_name(shown, name, a->path_len), fault);
            tp_name_list_add(&faults, line);
        }
    }
    if (faults.count == 0)
        return TP_OK;
    return tp_fail(err, TP_ERR_UNSUPPORTED, "%zu arrays cannot be held by an Orbax checkpoint%s: %s", faults.count,
                   has_database ? "" : " without OCDBT", tp_name_list_text(&faults));
}

/* Lists that a map asks for. */
static enum tp_status check_lists(const struct tp_plan *plan, const struct tp_convert_options *options,
                                  struct tp_error *err)
{
    struct tp_key_tree tree;
    enum tp_status st = tp_key_tree_build(&tree, plan, options->tree == TP_TREE_LISTS, true, err);
    tp_key_tree_release(&tree);
    return st;
}

enum tp_status tp_orbax_check(const struct tp_plan *plan, const struct tp_convert_options *options,
                              struct tp_error *err)
{
    const struct tp_orbax_options *orbax = &options->orbax;
    const char *item = tp_orbax_item(orbax);
    const char *fault = item ? folder_fault(item, strlen(item)) : NULL;
    if (fault) {
        char shown[TP_NAME_TEXT];
        return tp_fail(err, TP_ERR_USAGE, "--item '%s' cannot be a folder of the checkpoint: %s",
                       tp_describe_name(shown, item, strlen(item)), fault);
    }
    if (orbax->no_ocdbt && orbax->zero_copy)
        return tp_fail(err, TP_ERR_USAGE,
                       "--no-ocdbt has nothing that could refer to the source, as --zero-copy wants");
    if (plan->array_count == 0)
        return tp_fail(err, TP_ERR_UNSUPPORTED, "there are no tensors, and Orbax restores no empty checkpoint");
    enum tp_status st = check_arrays(plan, !orbax->no_ocdbt, err);
    return st ? st : check_lists(plan, options, err);
}
