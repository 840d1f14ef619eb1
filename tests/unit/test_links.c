/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include "steps.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "job/links.h"
#include "os/tree.h"
#include "scratch.h"

#define NAME "default/model.safetensors"

/* A source in s/source, of which `model` may be a link into s/blobs as in the cache of a hub; a work folder s/work. */
struct place {
    struct scratch s;
    char source[2 * SCRATCH_PATH], real[2 * SCRATCH_PATH], work[2 * SCRATCH_PATH], placed[2 * SCRATCH_PATH];
    struct tp_file_id id;
};

static void place_make(struct place *p, bool by_link)
{
    int fd = -1;
    scratch_make(&p->s);
    assert_int_equal(tp_folder_make(scratch_at(&p->s, "source"), NULL), TP_OK);
    assert_int_equal(tp_folder_make(scratch_at(&p->s, "blobs"), NULL), TP_OK);
    assert_int_equal(tp_folder_make(scratch_at(&p->s, "work"), NULL), TP_OK);
    scratch_put(&p->s, by_link ? "blobs/0123" : "source/model", "tensors", 7, 100000);
    if (by_link)
        assert_int_equal(symlink("../blobs/0123", scratch_at(&p->s, "source/model")), 0);
    snprintf(p->source, sizeof p->source, "%s", scratch_at(&p->s, "source/model"));
    snprintf(p->work, sizeof p->work, "%s", scratch_at(&p->s, "work"));
    snprintf(p->placed, sizeof p->placed, "%s", scratch_at(&p->s, "work/" NAME));
    char *real = realpath(p->source, NULL);
    snprintf(p->real, sizeof p->real, "%s", real);
    free(real);
    assert_int_equal(tp_file_open_read(&fd, p->source, &p->id, NULL), TP_OK);
    tp_fd_close(fd);
}

static void place_remove(const struct place *p)
{
    struct tp_names names = {0};
    assert_int_equal(tp_tree_list(&names, p->s.path, NULL), TP_OK);
    for (size_t i = 0; i < names.count; i++)
        assert_int_equal(tp_tree_remove(p->s.path, names.items[i], NULL), TP_OK);
    tp_names_release(&names);
    assert_int_equal(tp_path_remove(p->s.path, NULL), TP_OK);
}

static enum tp_status put(const struct place *p, enum tp_link way, enum tp_linked *how, struct tp_error *err)
{
    return tp_link_put(how, &(struct tp_link_order){.way = way, .sync = true}, p->source, &p->id, p->work, NAME, err);
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* A hard link has the inode, a symbolic link says the canonical path, a copy is another file; all have the bytes. */
static void assert_placed(const struct place *p, enum tp_linked how)
{
    char target[2 * SCRATCH_PATH] = "", bytes[8] = "";
    struct stat st;
    int fd = -1;
    assert_int_equal(lstat(p->placed, &st), 0);
    assert_int_equal(S_ISLNK(st.st_mode), how == TP_LINKED_SYMBOLIC);
    assert_int_equal(st.st_ino == p->id.inode, how == TP_LINKED_HARD);
    if (how == TP_LINKED_SYMBOLIC) {
        assert_true(readlink(p->placed, target, sizeof target - 1) > 0);
        assert_string_equal(target, p->real);
    }
    struct tp_file_id id;
    assert_int_equal(tp_file_open_read(&fd, p->placed, &id, NULL), TP_OK);
    assert_int_equal(id.size_bytes, 100000);
    assert_int_equal(tp_file_read_at(fd, bytes, 7, 0, p->placed, NULL), TP_OK);
    assert_string_equal(bytes, "tensors");
    tp_fd_close(fd);
}

static void each_way_puts_the_file_that_a_link_leads_to(void **state)
{
    (void)state;
    static const struct {
        enum tp_link way;
        enum tp_linked how;
    } rows[] = {{TP_LINK_AUTO, TP_LINKED_HARD},
                {TP_LINK_HARD, TP_LINKED_HARD},
                {TP_LINK_SYMBOLIC, TP_LINKED_SYMBOLIC},
                {TP_LINK_COPY, TP_LINKED_COPY}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int by_link = 0; by_link < 2; by_link++) {
            struct place p;
            struct tp_error err;
            enum tp_linked how = TP_LINKED_COPY;
            place_make(&p, by_link);
            assert_int_equal(put(&p, rows[i].way, &how, &err), TP_OK);
            assert_int_equal(how, rows[i].how);
            assert_placed(&p, how);
            assert_int_equal(put(&p, rows[i].way, &how, &err), TP_ERR_EXISTS);
            assert_string_equal(err.message, "is already there");
            assert_placed(&p, rows[i].how);
            place_remove(&p);
        }
}

static void without_hard_links_auto_goes_by_symbolic_link_and_hard_fails(void **state)
{
    (void)state;
    static const int errnos[] = {EXDEV, EPERM, EMLINK, EOPNOTSUPP};
    for (size_t i = 0; i < sizeof errnos / sizeof *errnos; i++) {
        struct place p;
        struct tp_error err;
        enum tp_linked how = TP_LINKED_COPY;
        place_make(&p, i % 2);
        steps.linkat_fails = errnos[i];
        assert_int_equal(put(&p, TP_LINK_HARD, &how, &err), TP_ERR_IO);
        assert_non_null(strstr(err.message, "a hard link cannot be made"));
        assert_non_null(strstr(err.hint, "--link copy"));
        assert_false(is_there(p.placed));
        assert_int_equal(put(&p, TP_LINK_AUTO, &how, &err), TP_OK);
        assert_int_equal(how, TP_LINKED_SYMBOLIC);
        assert_placed(&p, how);
        steps.linkat_fails = 0;
        place_remove(&p);
    }
}

static void what_hinders_both_ways_is_not_tried_twice(void **state)
{
    (void)state;
    struct place p;
    struct tp_error err;
    enum tp_linked how;
    place_make(&p, false);
    steps.linkat_fails = ENOSPC;
    assert_int_equal(put(&p, TP_LINK_AUTO, &how, &err), TP_ERR_SPACE);
    steps.linkat_fails = 0;
    assert_false(is_there(p.placed));
    place_remove(&p);
}

static void a_source_that_is_not_what_was_read_is_refused_and_taken_away(void **state)
{
    (void)state;
    static const enum tp_link ways[] = {TP_LINK_AUTO, TP_LINK_HARD, TP_LINK_SYMBOLIC, TP_LINK_COPY};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        for (int grows = 0; grows < 2; grows++) {
            struct place p;
            struct tp_error err;
            enum tp_linked how;
            place_make(&p, i % 2);
            if (grows)
                assert_int_equal(truncate(p.source, 100001), 0);
            else
                assert_int_equal(unlink(p.real), 0);
            if (!grows)
                scratch_put(&p.s, i % 2 ? "blobs/0123" : "source/model", "another", 7, 99999);
            assert_int_equal(put(&p, ways[i], &how, &err), TP_ERR_IO);
            assert_string_equal(err.message, "changed after it was read, or was replaced");
            assert_false(is_there(p.placed));
            place_remove(&p);
        }
}

static int count_and_stop(void *user, uint64_t bytes)
{
    uint64_t *left = user;
    if (bytes >= *left)
        return 1;
    *left -= bytes;
    return 0;
}

static void a_copy_tells_of_its_bytes_and_can_be_cancelled(void **state)
{
    (void)state;
    struct place p;
    struct tp_error err;
    enum tp_linked how;
    uint64_t left = UINT64_MAX;
    place_make(&p, false);
    struct tp_link_order order = {.way = TP_LINK_COPY, .step = count_and_stop, .user = &left};
    assert_int_equal(tp_link_put(&how, &order, p.source, &p.id, p.work, NAME, &err), TP_OK);
    assert_true(left == UINT64_MAX - 100000);
    assert_int_equal(unlink(p.placed), 0);
    left = 1;
    assert_int_equal(tp_link_put(&how, &order, p.source, &p.id, p.work, NAME, &err), TP_ERR_CANCELLED);
    assert_false(is_there(p.placed));
    assert_true(is_there(p.source));
    place_remove(&p);
}

static void folders_planted_as_links_are_not_followed(void **state)
{
    (void)state;
    struct place p;
    struct tp_error err;
    enum tp_linked how;
    struct tp_names names;
    place_make(&p, false);
    assert_int_equal(tp_folder_make(scratch_at(&p.s, "elsewhere"), NULL), TP_OK);
    assert_int_equal(symlink("../elsewhere", scratch_at(&p.s, "work/default")), 0);
    assert_int_equal(put(&p, TP_LINK_AUTO, &how, &err), TP_ERR_EXISTS);
    assert_int_equal(tp_folder_list(&names, scratch_at(&p.s, "elsewhere"), NULL), TP_OK);
    assert_int_equal(names.count, 0);
    tp_names_release(&names);
    place_remove(&p);
}

static int put_as_nobody(const void *arg)
{
    const struct place *p = arg;
    struct tp_error err;
    enum tp_linked how;
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return 98;
    enum tp_status st = put(p, TP_LINK_AUTO, &how, &err);
    return st ? (int)st : 10 + (int)how;
}

/* Linux lets nobody link another's file that he cannot write (fs.protected_hardlinks); pointing at it he may. */
static void a_read_only_source_is_linked_one_way_or_the_other(void **state)
{
    (void)state;
    struct place p;
    place_make(&p, false);
    assert_int_equal(chmod(p.s.path, 0755), 0);
    assert_int_equal(chmod(p.source, 0444), 0);
    assert_int_equal(chmod(scratch_at(&p.s, "source"), 0555), 0);
    assert_int_equal(chmod(p.work, 0777), 0);
    int how = steps_run(put_as_nobody, &p, 0);
    assert_true(how == 10 + TP_LINKED_HARD || how == 10 + TP_LINKED_SYMBOLIC);
    assert_placed(&p, (enum tp_linked)(how - 10));
    assert_int_equal(unlink(p.placed), 0);
    assert_int_equal(rmdir(scratch_at(&p.s, "work/default")), 0);
    assert_int_equal(chmod(p.work, 0555), 0);
    assert_int_equal(steps_run(put_as_nobody, &p, 0), TP_ERR_IO);
    assert_int_equal(chmod(scratch_at(&p.s, "source"), 0755), 0);
    assert_int_equal(chmod(p.work, 0755), 0);
    place_remove(&p);
}

static void unfinished_downloads_are_refused(void **state)
{
    (void)state;
    static const char *const traces[] = {
        "source/model.incomplete",
        "source/model.part",
        "source/model.aria2",
        "source/model.crdownload",
        "blobs/0123.incomplete",
        "source/.cache/huggingface/download/model.abcdef.incomplete",
        "source/.cache/huggingface/download/model.incomplete",
        "source/.cache/huggingface/download/sub/other.abcdef.incomplete",
    };
    static const char *const fine[] = {
        "source/model2.incomplete",
        "source/model.parts",
        "source/.cache/huggingface/download/model.metadata",
        "source/.cache/huggingface/download/model2.abcdef.incomplete",
        "source/.cache/huggingface/download/sub/model.abcdef.incomplete",
        "source/other.part",
    };
    static const char *const names[] = {"model", "sub/other"};
    struct place p;
    struct tp_error err;
    place_make(&p, true);
    assert_int_equal(tp_folder_make(scratch_at(&p.s, "source/sub"), NULL), TP_OK);
    scratch_put(&p.s, "source/sub/other", "", 0, 0);
    char folder[2 * SCRATCH_PATH];
    snprintf(folder, sizeof folder, "%s", scratch_at(&p.s, "source"));
    assert_int_equal(tp_link_check_finished(folder, names, 2, &err), TP_OK);
    for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
        assert_int_equal(tp_tree_make(p.s.path, traces[i], NULL), TP_OK);
        scratch_put(&p.s, traces[i], "", 0, 0);
        assert_int_equal(tp_link_check_finished(folder, names, 2, &err), TP_ERR_FORMAT);
        assert_non_null(strstr(err.message, "looks unfinished"));
        assert_non_null(strstr(err.message, strrchr(traces[i], '/') + 1));
        assert_int_equal(tp_tree_remove(p.s.path, traces[i], NULL), TP_OK);
    }
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        assert_int_equal(tp_tree_make(p.s.path, fine[i], NULL), TP_OK);
        scratch_put(&p.s, fine[i], "", 0, 0);
    }
    assert_int_equal(tp_link_check_finished(folder, names, 2, &err), TP_OK);
    place_remove(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_way_puts_the_file_that_a_link_leads_to),
        cmocka_unit_test(without_hard_links_auto_goes_by_symbolic_link_and_hard_fails),
        cmocka_unit_test(what_hinders_both_ways_is_not_tried_twice),
        cmocka_unit_test(a_source_that_is_not_what_was_read_is_refused_and_taken_away),
        cmocka_unit_test(a_copy_tells_of_its_bytes_and_can_be_cancelled),
        cmocka_unit_test(folders_planted_as_links_are_not_followed),
        cmocka_unit_test(a_read_only_source_is_linked_one_way_or_the_other),
        cmocka_unit_test(unfinished_downloads_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
