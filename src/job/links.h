/* SPDX-License-Identifier: MIT */
/* The source's files in the output (--zero-copy): by hard link, symbolic link or copy. */
#ifndef TP_JOB_LINKS_H
#define TP_JOB_LINKS_H

#include "os/copy.h"
#include "tensorport/convert.h"

enum tp_linked { TP_LINKED_HARD, TP_LINKED_SYMBOLIC, TP_LINKED_COPY };

struct tp_link_order {
    enum tp_link way;     /* not TP_LINK_IN_PLACE: that puts nothing anywhere */
    bool sync;            /* the bytes are on the disk when it is done */
    tp_copy_step_fn step; /* of a copy: told of bytes, may cancel; or NULL */
    void *user;
};

/* Put `source`, the file that the reader opened as `id`, into `folder` as `name`; folders on the way are made. *how
 * says which way it went (of AUTO: hard, else symbolic; the target of a symbolic link is absolute and canonical). What
 * lies there afterwards was looked at: a file that is not what the reader opened is TP_ERR_IO, and is taken away
 * again. TP_ERR_EXISTS: the name is taken. A hard link that was asked for and cannot be is TP_ERR_IO. */
enum tp_status tp_link_put(enum tp_linked *how, const struct tp_link_order *order, const char *source,
                           const struct tp_file_id *id, const char *folder, const char *name, struct tp_error *err);

/* Do these files of `folder` look as if they were still being downloaded? TP_ERR_FORMAT when a trace of a downloader
 * (NAME.incomplete, NAME.part, NAME.aria2, NAME.crdownload, huggingface_hub's own) lies beside one of them, or beside
 * the file that a symbolic link leads to. */
enum tp_status tp_link_check_finished(const char *folder, const char *const *names, size_t count, struct tp_error *err);

#endif
