/* SPDX-License-Identifier: MIT */
/* Files below a folder, by names with '/' between folders: "default/d/data-00001-of-00002". Symbolic links are followed
 * on the way to `root` and never below it: one that was planted in an output does not lead us out of it. */
#ifndef TP_OS_TREE_H
#define TP_OS_TREE_H

#include "os/file.h"

#define TP_FOLDER_DEPTH_MAX 16u /* folders of one name */

/* No empty component, no "." or "..", none too long for a file system, at most TP_FOLDER_DEPTH_MAX folders. Every
 * function below refuses another name with TP_ERR_UNSUPPORTED. */
bool tp_tree_is_name(const char *name);

/* A link is TP_PATH_OTHER wherever it leads; below what is not a folder everything is absent. */
enum tp_status tp_tree_kind_of(enum tp_path_kind *kind, const char *root, const char *name, struct tp_error *err);
/* Everything below `root` that is not a folder, sorted bytewise. A folder that is empty, or lies deeper than we go,
 * stands for itself as "name/". */
enum tp_status tp_tree_list(struct tp_names *out, const char *root, struct tp_error *err);
/* Make the folders that `name` needs; TP_ERR_EXISTS where something else lies in their place. */
enum tp_status tp_tree_make(const char *root, const char *name, struct tp_error *err);
/* Rename a file, not a folder, on one file system; the folders of `to` are made. Never replaces anything: TP_ERR_EXISTS
 * where `to` is there, unless both are one file (a kill came between two steps): then `from` goes. */
enum tp_status tp_tree_move(const char *from_root, const char *from, const char *to_root, const char *to,
                            struct tp_error *err);
/* Remove a file and the folders that are empty without it, never `root`. "name/" is an empty folder. What is absent
 * is fine; a folder where a file was meant stays. */
enum tp_status tp_tree_remove(const char *root, const char *name, struct tp_error *err);
/* Sync the folders that these names lie in, as far as they are there: children before parents, `root` last. */
enum tp_status tp_tree_sync(const char *root, const struct tp_names *names, struct tp_error *err);

#endif
