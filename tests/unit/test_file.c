/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "checkpoint/file_cache.h"
#include "checkpoint/name_index.h"
#include "codec/digest.h"
#include "os/copy.h"
#include "os/host.h"
#include "os/tree.h"
#include "scratch.h"

static void only_regular_files_are_opened(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    int fd = -1;
    scratch_make(&s);
    assert_int_equal(tp_file_open_read(&fd, scratch_at(&s, "absent"), NULL, &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "no such file");
    assert_string_equal(err.path, scratch_at(&s, "absent"));
    assert_int_equal(tp_file_open_read(&fd, s.path, NULL, &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "expected a file, found a folder");
    assert_int_equal(mkfifo(scratch_at(&s, "pipe"), 0600), 0);
    assert_int_equal(tp_file_open_read(&fd, scratch_at(&s, "pipe"), NULL, &err), TP_ERR_FORMAT); /* and does not wait */
    assert_string_equal(err.message, "expected a file, found a pipe");
    assert_int_equal(tp_file_open_read(&fd, "/dev/zero", NULL, &err), TP_ERR_FORMAT);
    assert_int_equal(symlink("nowhere", scratch_at(&s, "link")), 0);
    assert_int_equal(tp_file_open_read(&fd, scratch_at(&s, "link"), NULL, &err), TP_ERR_FORMAT);
    assert_string_equal(err.message, "a symbolic link to a file that does not exist");
    assert_int_equal(fd, -1);
    scratch_remove(&s);
}

static void a_file_that_ends_early_is_an_error_with_the_byte(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_file_id id;
    char bytes[16];
    int fd = -1;
    scratch_make(&s);
    scratch_put(&s, "file", "0123456789", 10, 10);
    assert_int_equal(tp_file_open_read(&fd, scratch_at(&s, "file"), &id, &err), TP_OK);
    assert_int_equal(id.size_bytes, 10);
    assert_int_equal(tp_file_read_at(fd, bytes, 4, 6, "file", &err), TP_OK);
    assert_memory_equal(bytes, "6789", 4);
    assert_int_equal(tp_file_read_at(fd, bytes, 5, 6, "file", &err), TP_ERR_IO);
    assert_string_equal(err.message, "ends at byte 10, 1 more were expected");
    assert_int_equal(tp_file_read_at(fd, bytes, 1, UINT64_MAX, "file", &err), TP_ERR_IO);
    assert_int_equal(tp_file_read_at(fd, bytes, 0, 99, "file", &err), TP_OK);
    tp_fd_close(fd);
    tp_fd_close(-1);
    scratch_remove(&s);
}

static void a_created_file_has_its_size_and_keeps_what_is_written(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_file_id id;
    char bytes[4];
    int fd = -1;
    scratch_make(&s);
    const char *path = scratch_at(&s, "file");
    assert_int_equal(tp_file_create(&fd, path, 100000, &err), TP_OK);
    assert_int_equal(tp_file_write_at(fd, "abcd", 4, 99996, path, &err), TP_OK);
    assert_int_equal(tp_file_sync(fd, path, &err), TP_OK);
    assert_int_equal(tp_file_close(fd, path, &err), TP_OK);
    assert_int_equal(tp_file_create(&fd, path, 99998, &err), TP_OK); /* again, and smaller */
    assert_int_equal(tp_file_id_of(fd, &id, path, &err), TP_OK);
    assert_int_equal(id.size_bytes, 99998);
    assert_int_equal(tp_file_read_at(fd, bytes, 2, 99996, path, &err), TP_OK);
    assert_memory_equal(bytes, "ab", 2);
    assert_int_equal(tp_file_close(fd, path, &err), TP_OK);
    assert_int_equal(tp_file_open_write(&fd, path, &err), TP_OK);
    assert_int_equal(tp_file_write_at(fd, "z", 1, 0, path, &err), TP_OK);
    assert_int_equal(tp_file_close(fd, path, &err), TP_OK);
    assert_int_equal(tp_file_open_write(&fd, scratch_at(&s, "absent"), &err), TP_ERR_IO);
    assert_int_equal(tp_file_create(&fd, scratch_at(&s, "no/folder"), 1, &err), TP_ERR_IO);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_int_equal(tp_file_create(&fd, path, UINT64_MAX, &err), TP_ERR_LIMIT);
    scratch_remove(&s);
}

static void a_full_disk_is_told_as_such(void **state)
{
    (void)state;
    struct tp_error err;
    int fd = -1;
    assert_int_equal(tp_file_open_write(&fd, "/dev/full", &err), TP_OK);
    assert_int_equal(tp_file_write_at(fd, "x", 1, 0, "/dev/full", &err), TP_ERR_SPACE);
    assert_int_equal(tp_status_exit_code(TP_ERR_SPACE), 5);
    tp_fd_close(fd);
}

static void folders_are_made_listed_renamed_and_removed(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_names names;
    enum tp_path_kind kind;
    scratch_make(&s);
    assert_int_equal(tp_folder_make(scratch_at(&s, "a/b//c/"), &err), TP_OK);
    assert_int_equal(tp_folder_make(scratch_at(&s, "a/b/c"), &err), TP_OK);
    scratch_put(&s, "a/Z", "", 0, 0);
    scratch_put(&s, "a/\xc3\xa9", "", 0, 0);
    assert_int_equal(tp_folder_make(scratch_at(&s, "a/Z/d"), &err), TP_ERR_IO);
    assert_int_equal(tp_folder_list(&names, scratch_at(&s, "a"), &err), TP_OK);
    assert_int_equal(names.count, 3);
    assert_string_equal(names.items[0], "Z");
    assert_string_equal(names.items[1], "b");
    assert_string_equal(names.items[2], "\xc3\xa9");
    tp_names_release(&names);
    assert_int_equal(tp_folder_sync(scratch_at(&s, "a"), &err), TP_OK);
    assert_int_equal(tp_folder_list(&names, scratch_at(&s, "x"), &err), TP_ERR_IO);

    assert_int_equal(tp_folder_make(scratch_at(&s, "empty"), &err), TP_OK);
    assert_int_equal(tp_path_rename(scratch_at(&s, "a"), scratch_at(&s, "empty"), &err), TP_ERR_EXISTS);
    assert_int_equal(tp_path_rename(scratch_at(&s, "a/Z"), scratch_at(&s, "empty"), &err), TP_ERR_EXISTS);
    assert_int_equal(tp_path_remove(scratch_at(&s, "empty"), &err), TP_OK);
    assert_int_equal(tp_path_remove(scratch_at(&s, "empty"), &err), TP_OK); /* absent is fine */
    assert_int_equal(tp_path_rename(scratch_at(&s, "a"), scratch_at(&s, "d"), &err), TP_OK);
    assert_int_equal(tp_path_rename(scratch_at(&s, "a"), scratch_at(&s, "e"), &err), TP_ERR_IO);
    assert_int_equal(tp_path_kind_of(&kind, scratch_at(&s, "d/b/c"), &err), TP_OK);
    assert_int_equal(kind, TP_PATH_FOLDER);
    assert_int_equal(tp_path_kind_of(&kind, scratch_at(&s, "d/Z/c"), &err), TP_OK);
    assert_int_equal(kind, TP_PATH_ABSENT);
    assert_int_equal(tp_path_remove(scratch_at(&s, "d"), &err), TP_ERR_IO); /* not empty */
    static const char *const rest[] = {"d/b/c", "d/b", "d/Z", "d/\xc3\xa9", "d"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(tp_path_remove(scratch_at(&s, rest[i]), &err), TP_OK);
    scratch_remove(&s);
}

/* ---- names below a folder ---- */

static void assert_tree(const char *root, const char *wanted)
{
    char text[4096] = "";
    struct tp_names names;
    assert_int_equal(tp_tree_list(&names, root, NULL), TP_OK);
    for (size_t i = 0, at = 0; i < names.count; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i > 0 ? " " : "", names.items[i]);
    tp_names_release(&names);
    assert_string_equal(text, wanted);
}

static void trees_are_listed_in_the_order_of_their_bytes(void **state)
{
    (void)state;
    static const char *const put[] = {"d/x", "d-1", "Z", "d/e/f", "d/e/a"};
    struct scratch s;
    struct tp_names names;
    scratch_make(&s);
    assert_tree(s.path, "");
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(tp_tree_make(s.path, put[i], NULL), TP_OK);
        scratch_put(&s, put[i], "", 0, 0);
    }
    assert_int_equal(tp_folder_make(scratch_at(&s, "empty/within"), NULL), TP_OK);
    assert_int_equal(symlink("d", scratch_at(&s, "link")), 0);
    assert_tree(s.path, "Z d-1 d/e/a d/e/f d/x empty/within/ link");
    assert_int_equal(tp_tree_list(&names, scratch_at(&s, "Z"), NULL), TP_ERR_IO);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(tp_tree_remove(s.path, put[i], NULL), TP_OK);
    assert_int_equal(tp_tree_remove(s.path, "empty/within/", NULL), TP_OK);
    assert_tree(s.path, "link");
    scratch_remove(&s);
}

static void folders_deeper_than_we_go_stand_for_themselves(void **state)
{
    (void)state;
    static const char deep[] = "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16";
    struct scratch s;
    struct tp_error err;
    char name[128], path[256];
    scratch_make(&s);
    snprintf(name, sizeof name, "%s/file", deep);
    assert_true(tp_tree_is_name(name));
    assert_int_equal(tp_tree_make(s.path, name, NULL), TP_OK);
    scratch_put(&s, name, "", 0, 0);
    assert_tree(s.path, name);
    snprintf(path, sizeof path, "%s/17/file", deep);
    assert_false(tp_tree_is_name(path));
    assert_int_equal(tp_tree_make(s.path, path, &err), TP_ERR_UNSUPPORTED);
    snprintf(path, sizeof path, "%s/17/", deep);
    assert_int_equal(tp_folder_make(scratch_at(&s, path), NULL), TP_OK);
    scratch_put(&s, "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/more", "", 0, 0);
    char wanted[512];
    snprintf(wanted, sizeof wanted, "%s %s", path, name);
    assert_tree(s.path, wanted);
    assert_int_equal(tp_path_remove(scratch_at(&s, "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/more"), NULL), TP_OK);
    assert_int_equal(tp_tree_remove(s.path, path, NULL), TP_OK);
    assert_int_equal(tp_tree_remove(s.path, name, NULL), TP_OK);
    scratch_remove(&s);
}

static void what_is_removed_takes_its_empty_folders_along_and_no_others(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    assert_int_equal(tp_folder_make(scratch_at(&s, "a/b/c"), NULL), TP_OK);
    scratch_put(&s, "a/b/c/x", "", 0, 0);
    scratch_put(&s, "a/mine", "", 0, 0);
    assert_int_equal(tp_tree_remove(s.path, "a/b/c", NULL), TP_OK); /* a folder where a file was meant */
    assert_tree(s.path, "a/b/c/x a/mine");
    assert_int_equal(tp_tree_remove(s.path, "a/b/c/x", NULL), TP_OK);
    assert_tree(s.path, "a/mine");
    assert_int_equal(tp_tree_remove(s.path, "a/b/c/x", NULL), TP_OK); /* absent is fine */
    assert_int_equal(tp_tree_remove(s.path, "a/mine/x", NULL), TP_OK);
    assert_int_equal(tp_folder_make(scratch_at(&s, "b/c"), NULL), TP_OK);
    assert_int_equal(tp_tree_remove(s.path, "b/c/gone/x", NULL), TP_OK); /* what a kill had left of it */
    assert_tree(s.path, "a/mine");
    assert_int_equal(tp_tree_remove(s.path, "../x", NULL), TP_ERR_UNSUPPORTED);
    assert_int_equal(tp_tree_remove(s.path, "a/mine", NULL), TP_OK);
    assert_tree(s.path, "");
    scratch_remove(&s);
}

static void moving_makes_folders_and_replaces_nothing(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    scratch_make(&s);
    char from[1024], to[1024];
    snprintf(from, sizeof from, "%s", scratch_at(&s, "from"));
    snprintf(to, sizeof to, "%s", scratch_at(&s, "to"));
    assert_int_equal(tp_folder_make(from, NULL), TP_OK);
    assert_int_equal(tp_folder_make(to, NULL), TP_OK);
    scratch_put(&s, "from/x", "", 0, 0);
    scratch_put(&s, "from/y", "", 0, 0);
    assert_int_equal(tp_tree_move(from, "x", to, "d/e/x", &err), TP_OK);
    assert_tree(to, "d/e/x");
    assert_int_equal(tp_tree_move(from, "y", to, "d/e/x", &err), TP_ERR_EXISTS);
    assert_int_equal(tp_tree_move(from, "y", to, "d/e", &err), TP_ERR_EXISTS);
    assert_int_equal(tp_tree_move(from, "y", to, "d/e/x/y", &err), TP_ERR_EXISTS);
    assert_non_null(strstr(err.message, "where a file or a link lies"));
    assert_int_equal(tp_tree_move(from, "absent", to, "d/z", &err), TP_ERR_IO);
    assert_int_equal(tp_tree_move(from, "../to/d/e/x", to, "z", &err), TP_ERR_UNSUPPORTED);
    assert_int_equal(link(scratch_at(&s, "from/y"), scratch_at(&s, "to/y")), 0);
    assert_int_equal(tp_tree_move(from, "y", to, "y", &err), TP_OK); /* one file already */
    assert_tree(from, "");
    assert_tree(to, "d/e/x y");
    assert_int_equal(tp_tree_remove(to, "d/e/x", NULL), TP_OK);
    assert_int_equal(tp_tree_remove(to, "y", NULL), TP_OK);
    scratch_remove(&s);
}

static void links_below_a_folder_are_never_followed(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    enum tp_path_kind kind;
    struct tp_names none = {0};
    scratch_make(&s);
    assert_int_equal(tp_folder_make(scratch_at(&s, "elsewhere/d"), NULL), TP_OK);
    assert_int_equal(tp_folder_make(scratch_at(&s, "root"), NULL), TP_OK);
    scratch_put(&s, "elsewhere/d/x", "", 0, 0);
    scratch_put(&s, "root/y", "", 0, 0);
    assert_int_equal(symlink("../elsewhere", scratch_at(&s, "root/out")), 0);
    char root[1024];
    snprintf(root, sizeof root, "%s", scratch_at(&s, "root"));
    assert_int_equal(tp_tree_kind_of(&kind, root, "out", &err), TP_OK);
    assert_int_equal(kind, TP_PATH_OTHER);
    assert_int_equal(tp_tree_kind_of(&kind, root, "out/d", &err), TP_OK);
    assert_int_equal(kind, TP_PATH_ABSENT);
    assert_int_equal(tp_tree_make(root, "out/x", &err), TP_ERR_EXISTS);
    assert_int_equal(tp_tree_make(root, "out/new/x", &err), TP_ERR_EXISTS);
    assert_int_equal(tp_tree_move(root, "y", root, "out/y", &err), TP_ERR_EXISTS);
    assert_int_equal(tp_tree_move(root, "out/d/x", root, "x", &err), TP_ERR_IO);
    assert_int_equal(tp_tree_remove(root, "out/d/x", &err), TP_OK);
    assert_tree(scratch_at(&s, "elsewhere"), "d/x");
    assert_int_equal(tp_tree_sync(root, &none, &err), TP_OK);
    assert_tree(root, "out y");
    assert_int_equal(tp_tree_kind_of(&kind, scratch_at(&s, "root/out"), "d/x", &err),
                     TP_OK); /* on the way to it, yes */
    assert_int_equal(kind, TP_PATH_FILE);
    assert_int_equal(tp_path_kind_of(&kind, scratch_at(&s, "root/out"), &err), TP_OK);
    assert_int_equal(kind, TP_PATH_FOLDER);
    assert_int_equal(tp_path_kind_of_itself(&kind, scratch_at(&s, "root/out"), &err), TP_OK);
    assert_int_equal(kind, TP_PATH_OTHER);
    assert_int_equal(tp_tree_remove(root, "out", &err), TP_OK); /* the link itself */
    assert_int_equal(tp_tree_remove(root, "y", &err), TP_OK);
    assert_int_equal(tp_tree_remove(s.path, "elsewhere/d/x", &err), TP_OK);
    scratch_remove(&s);
}

static void a_copy_is_whole_and_new_or_absent(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_file_id id;
    char bytes[4];
    int fd = -1;
    scratch_make(&s);
    scratch_put(&s, "from", "abc", 3, 20000000);
    assert_int_equal(tp_file_open_read(&fd, scratch_at(&s, "from"), &id, &err), TP_OK);
    assert_int_equal(tp_file_copy(fd, "from", scratch_at(&s, "to"), id.size_bytes, NULL, NULL, &err), TP_OK);
    assert_int_equal(tp_file_copy(fd, "from", scratch_at(&s, "to"), id.size_bytes, NULL, NULL, &err), TP_ERR_EXISTS);
    assert_int_equal(tp_file_copy(fd, "from", scratch_at(&s, "more"), id.size_bytes + 1, NULL, NULL, &err), TP_ERR_IO);
    assert_non_null(strstr(err.message, "ends at byte 20000000"));
    tp_fd_close(fd);
    assert_int_equal(tp_file_open_read(&fd, scratch_at(&s, "to"), &id, &err), TP_OK);
    assert_int_equal(id.size_bytes, 20000000);
    assert_int_equal(tp_file_read_at(fd, bytes, 4, 0, "to", &err), TP_OK);
    assert_memory_equal(bytes, "abc", 4);
    tp_fd_close(fd);
    assert_tree(s.path, "from to");
    scratch_remove(&s);
}

static void paths_are_joined_with_one_slash(void **state)
{
    (void)state;
    static const char *const rows[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < 4; i++) {
        char *path = tp_path_join(rows[i][0], rows[i][1]);
        assert_string_equal(path, rows[i][2]);
        free(path);
    }
}

static void free_space_is_that_of_the_nearest_parent(void **state)
{
    (void)state;
    uint64_t here = 0, there = 0;
    assert_int_equal(tp_path_free_bytes(&here, "/tmp", NULL), TP_OK);
    assert_int_equal(tp_path_free_bytes(&there, "/tmp/absent-4711/x/y/", NULL), TP_OK);
    assert_true(here > 0 && there > 0);
    assert_int_equal(tp_path_free_bytes(&there, "absent-4711/x", NULL), TP_OK);
    assert_int_equal(tp_path_free_bytes(&there, "absent-4711", NULL), TP_OK);
    assert_int_equal(tp_path_free_bytes(&there, "/absent-4711", NULL), TP_OK);
    assert_int_equal(tp_path_free_bytes(&there, "", NULL), TP_OK);
}

static void the_machine_answers(void **state)
{
    (void)state;
    assert_true(tp_host_cpu_count() >= 1);
    assert_true(tp_host_open_file_limit() >= 8);
    double t = tp_host_clock_s();
    assert_true(tp_host_clock_s() >= t);
    assert_true(tp_host_random() != tp_host_random());
    void *memory = tp_host_alloc_aligned(100000);
    assert_true((uintptr_t)memory % 4096 == 0);
    memset(memory, 1, 100000);
    tp_host_free_aligned(memory, 100000);
    tp_host_free_aligned(NULL, 1);
    assert_null(tp_host_alloc_aligned(UINT64_MAX));
}

/* ---- the cache of open files ---- */

#define FILE_COUNT 300u

static void fill_with_files(const struct scratch *s, struct tp_file_cache *cache)
{
    for (uint32_t i = 0; i < FILE_COUNT; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        scratch_put(s, name, &i, sizeof i, 0);
        assert_int_equal(tp_file_cache_add(cache, scratch_at(s, name), NULL), TP_OK);
    }
}

static void *read_many(void *user)
{
    struct tp_file_cache *cache = user;
    uintptr_t wrong = 0;
    for (uint32_t round = 0; round < 3000; round++) {
        uint32_t mixed = round * 7919u + (uint32_t)(uintptr_t)&wrong / 64u, found = 0;
        uint32_t file = mixed % (round % 3 == 0 ? FILE_COUNT : 7); /* some are mostly open, and wanted by all */
        int fd;
        if (tp_file_cache_get(cache, file, &fd, NULL) != TP_OK)
            return cache;
        wrong += tp_file_read_at(fd, &found, sizeof found, 0, "", NULL) != TP_OK || found != file;
        tp_file_cache_put(cache, file);
    }
    return wrong ? (void *)cache : NULL;
}

static void many_threads_share_few_descriptors(void **state)
{
    (void)state;
    struct scratch s;
    struct rlimit old, small;
    pthread_t threads[8];
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    small = (struct rlimit){.rlim_cur = 24, .rlim_max = old.rlim_max}; /* six slots for eight threads */
    scratch_make(&s);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    struct tp_file_cache *cache = tp_file_cache_new();
    fill_with_files(&s, cache);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_many, cache), 0);
    for (size_t i = 0; i < 8; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    tp_file_cache_free(cache);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    scratch_remove(&s);
}

static void a_file_that_changed_is_not_opened_again(void **state)
{
    (void)state;
    struct scratch s;
    struct rlimit old, small;
    struct tp_error err;
    int fd;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    small = (struct rlimit){.rlim_cur = 24, .rlim_max = old.rlim_max};
    scratch_make(&s);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    struct tp_file_cache *cache = tp_file_cache_new();
    fill_with_files(&s, cache);
    assert_int_equal(tp_file_cache_check(cache, 0, &err), TP_OK);
    scratch_put(&s, "0", "longer", 6, 0);
    assert_int_equal(tp_file_cache_check(cache, 0, &err), TP_ERR_IO);
    assert_string_equal(err.message, "changed while it was read");
    assert_int_equal(tp_file_cache_get(cache, 0, &fd, &err), TP_ERR_IO);
    assert_int_equal(tp_path_remove(scratch_at(&s, "1"), NULL), TP_OK);
    assert_int_equal(tp_file_cache_get(cache, 1, &fd, &err), TP_ERR_IO);
    assert_string_equal(err.message, "was removed or replaced while it was read");
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, scratch_at(&s, "2"), times, 0), 0); /* same bytes, another time */
    assert_int_equal(tp_file_cache_check(cache, 2, &err), TP_ERR_IO);
    assert_int_equal(tp_file_cache_get(cache, 3, &fd, &err), TP_OK);
    tp_file_cache_put(cache, 3);
    tp_file_cache_free(cache);
    tp_file_cache_free(NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    scratch_remove(&s);
}

/* ---- names to numbers ---- */

#define NAME_COUNT 5000u

struct names {
    char text[NAME_COUNT][16];
};

static struct tp_name numbered_name(const void *table, uint32_t id)
{
    const struct names *names = table;
    const char *name = names->text[id % NAME_COUNT];
    return (struct tp_name){name, strlen(name)};
}

static void the_index_finds_every_name_and_no_other(void **state)
{
    (void)state;
    static struct names names;
    struct tp_name_index index = {0};
    uint32_t found;
    for (uint32_t i = 0; i < NAME_COUNT; i++)
        snprintf(names.text[i], sizeof names.text[i], "name%u", i);
    assert_int_equal(tp_name_index_find(&index, numbered_name, &names, "name0", 5), TP_NAME_NONE);
    for (uint32_t i = 0; i < 2 * NAME_COUNT; i++) {
        assert_true(tp_name_index_add(&index, numbered_name, &names, i, &found));
        assert_int_equal(found,
                         i < NAME_COUNT ? TP_NAME_NONE : i - NAME_COUNT); /* the second half has the same names */
    }
    assert_int_equal(index.count, NAME_COUNT);
    for (uint32_t i = 0; i < NAME_COUNT; i++) {
        struct tp_name name = numbered_name(&names, i);
        assert_int_equal(tp_name_index_find(&index, numbered_name, &names, name.text, name.len), i);
    }
    assert_int_equal(tp_name_index_find(&index, numbered_name, &names, "name5000", 8), TP_NAME_NONE);
    tp_name_index_clear(&index);
    assert_int_equal(tp_name_index_find(&index, numbered_name, &names, "name1", 5), TP_NAME_NONE);
    tp_name_index_release(&index);
}

/* ---- digests ---- */

static void sha256_is_sha256(void **state)
{
    (void)state;
    char hex[TP_SHA256_HEX];
    struct tp_sha256 *sha = tp_sha256_new();
    for (int round = 0; round < 2; round++) { /* ready for the next */
        assert_true(tp_sha256_update(sha, "a", 1));
        assert_true(tp_sha256_update(sha, "bc", 2));
        assert_true(tp_sha256_finish(sha, hex));
        assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
    tp_sha256_free(sha);
    tp_sha256_free(NULL);
}

static void a_hasher_gives_what_xxhsum_prints(void **state)
{
    (void)state;
    struct tp_kernels kernels;
    char hex[TP_DIGEST_HEX];
    assert_true(tp_kernels_init(&kernels, NULL));
    struct tp_hasher *h = tp_hasher_new(&kernels);
    struct tp_digest digest = tp_hasher_digest(h);
    tp_digest_print(hex, &digest);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f"); /* of nothing */
    tp_hasher_update(h, "a", 1);
    tp_hasher_update(h, "bc", 2);
    tp_hasher_update(h, NULL, 0);
    for (int i = 0; i < 2; i++) { /* asking changes nothing */
        digest = tp_hasher_digest(h);
        tp_digest_print(hex, &digest);
        assert_string_equal(hex, "06b05ab6733a618578af5f94892f3950");
    }
    tp_hasher_reset(h);
    digest = tp_hasher_digest(h);
    tp_digest_print(hex, &digest);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
    tp_hasher_free(h);
    tp_hasher_free(NULL);
}

static void digests_are_printed_and_parsed(void **state)
{
    (void)state;
    struct tp_digest digest;
    char hex[TP_DIGEST_HEX];
    static const char text[] = "00112233445566778899aabbccddeeff";
    assert_true(tp_digest_parse(&digest, text, 32));
    tp_digest_print(hex, &digest);
    assert_string_equal(hex, text);
    assert_false(tp_digest_parse(&digest, text, 31));
    assert_false(tp_digest_parse(&digest, "00112233445566778899AABBCCDDEEFF", 32));
    assert_false(tp_digest_parse(&digest, "0011223344556677889 aabbccddeeff", 32));
}

static void hashes_of_keys_depend_on_every_byte_and_on_the_seed(void **state)
{
    (void)state;
    assert_true(tp_hash_bytes("ab", 2, 1) != tp_hash_bytes("ac", 2, 1));
    assert_true(tp_hash_bytes("ab", 2, 1) != tp_hash_bytes("ab", 2, 2));
    assert_true(tp_hash_bytes("ab", 2, 1) == tp_hash_bytes("abc", 2, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(a_file_that_ends_early_is_an_error_with_the_byte),
        cmocka_unit_test(a_created_file_has_its_size_and_keeps_what_is_written),
        cmocka_unit_test(a_full_disk_is_told_as_such),
        cmocka_unit_test(folders_are_made_listed_renamed_and_removed),
        cmocka_unit_test(trees_are_listed_in_the_order_of_their_bytes),
        cmocka_unit_test(folders_deeper_than_we_go_stand_for_themselves),
        cmocka_unit_test(what_is_removed_takes_its_empty_folders_along_and_no_others),
        cmocka_unit_test(moving_makes_folders_and_replaces_nothing),
        cmocka_unit_test(links_below_a_folder_are_never_followed),
        cmocka_unit_test(a_copy_is_whole_and_new_or_absent),
        cmocka_unit_test(paths_are_joined_with_one_slash),
        cmocka_unit_test(free_space_is_that_of_the_nearest_parent),
        cmocka_unit_test(the_machine_answers),
        cmocka_unit_test(many_threads_share_few_descriptors),
        cmocka_unit_test(a_file_that_changed_is_not_opened_again),
        cmocka_unit_test(the_index_finds_every_name_and_no_other),
        cmocka_unit_test(sha256_is_sha256),
        cmocka_unit_test(a_hasher_gives_what_xxhsum_prints),
        cmocka_unit_test(digests_are_printed_and_parsed),
        cmocka_unit_test(hashes_of_keys_depend_on_every_byte_and_on_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
