/* SPDX-License-Identifier: MIT */
/* clang-format off */
#include "steps.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include "job/outdir.h"
#include "manifest/manifest.h"
#include "os/tree.h"
#include "scratch.h"

#define LAST "commit_success.txt"
#define PARTIAL ".tensorport-partial"

/* A conversion as this module sees it: files that are written, and then their names. */
struct job {
    const char *out;
    const char *tag;              /* what its files hold, before their name */
    const char *const *names;     /* ends with NULL; manifest.json comes besides */
    const char *const *originals; /* names that its manifest lists too, and that lie in `out` already; or NULL */
    bool overwrite, in_place, sync, has_last, resume;
};

static void put_file(const char *root, const char *name, const char *tag)
{
    char text[512];
    int len = snprintf(text, sizeof text, "%s:%s", tag, name);
    char *path = tp_path_join(root, name);
    int fd = -1;
    assert_int_equal(tp_tree_make(root, name, NULL), TP_OK);
    assert_int_equal(tp_file_create(&fd, path, 0, NULL), TP_OK);
    assert_int_equal(tp_file_write_at(fd, text, (size_t)len, 0, path, NULL), TP_OK);
    assert_int_equal(tp_file_close(fd, path, NULL), TP_OK);
    free(path);
}

/* Does the file hold what put_file writes? A "" tag: is it there at all? */
static bool holds(const char *root, const char *name, const char *tag)
{
    char text[512], found[512];
    struct tp_file_id id;
    int len = snprintf(text, sizeof text, "%s:%s", tag, name), fd = -1;
    char *path = tp_path_join(root, name);
    bool same = !tp_file_open_read(&fd, path, &id, NULL) &&
                (!*tag || (id.size_bytes == (uint64_t)len && !tp_file_read_at(fd, found, (size_t)len, 0, path, NULL) &&
                           memcmp(found, text, (size_t)len) == 0));
    tp_fd_close(fd);
    free(path);
    return same;
}

static void list_names(FILE *f, const char *const *names, const char *between)
{
    for (size_t i = 0; names && names[i]; i++)
        fprintf(f, "%s{\"name\":\"%s\",\"size\":1,\"xxh3\":\"%032d\"}", i > 0 ? "," : between, names[i], 0);
}

static void put_manifest(const char *folder, const struct job *job)
{
    static const char *const last[] = {LAST, NULL};
    char *path = tp_path_join(folder, TP_MANIFEST_NAME);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "{\"format\":\"tensorport\",\"version\":1,\"tool\":\"%s\",\"layout\":\"orbax\",\"tree\":\"flat\","
            "\"options\":{\"precision\":\"keep\",\"on_overflow\":\"error\",\"oversize\":\"split\",\"shard_size\":1,"
            "\"compat\":false,\"ignore_index\":false,\"keep_dtype\":[],\"include\":[],\"exclude\":[],"
            "\"orbax\":{\"zero_copy\":true%s}},\"source\":{\"files\":[]},\"files\":[],\"side_files\":[",
            job->tag, job->in_place ? ",\"in_place\":true" : "");
    list_names(f, job->names, "");
    list_names(f, job->originals, ",");
    list_names(f, job->has_last ? last : NULL, ",");
    fprintf(f, "],\"arrays\":[]}");
    fclose(f);
    free(path);
}

static enum tp_status check_job(struct tp_outdir *dir, const struct job *job, struct tp_error *err)
{
    const char *names[32] = {TP_MANIFEST_NAME, LAST};
    size_t count = job->has_last ? 2 : 1;
    for (size_t i = 0; job->names[i]; i++)
        names[count++] = job->names[i];
    enum tp_status st = tp_outdir_check(
        dir, job->out,
        (struct tp_outdir_ways){
            .overwrite = job->overwrite, .in_place = job->in_place, .resume = job->resume, .sync = job->sync},
        err);
    return st ? st : tp_outdir_check_names(dir, names, count, err);
}

/* As convert.c does it. */
static enum tp_status do_job(const struct job *job, struct tp_error *err)
{
    struct tp_outdir dir;
    enum tp_status st = check_job(&dir, job, err);
    if (!st)
        st = tp_outdir_begin(&dir, err);
    if (!st) {
        for (size_t i = 0; job->names[i]; i++)
            put_file(dir.work, job->names[i], job->tag);
        put_file(dir.work, TP_RESUME_FOLDER "/journal", job->tag);
        put_manifest(dir.work, job);
        if (job->has_last) {
            put_file(dir.work, LAST, job->tag);
            st = tp_outdir_add_last(&dir, LAST, err);
        }
        if (!st)
            st = tp_outdir_commit(&dir, err);
        if (st)
            tp_outdir_discard(&dir);
    }
    tp_outdir_release(&dir);
    return st;
}

static int body_of_job(const void *arg)
{
    struct tp_error err;
    enum tp_status st = do_job(arg, &err);
    if (st)
        fprintf(stderr, "# %s: %s\n", err.path, err.message);
    return (int)st;
}

/* The tag of the manifest that is there, or "". */
static const char *manifest_tag(const char *folder)
{
    static char tag[64];
    struct tp_manifest m;
    char *path = tp_path_join(folder, TP_MANIFEST_NAME);
    tag[0] = '\0';
    if (!tp_manifest_read(&m, path, NULL)) {
        snprintf(tag, sizeof tag, "%s", m.tool);
        tp_manifest_release(&m);
    }
    free(path);
    return tag;
}

static bool all_hold(const char *root, const char *const *names, const char *tag)
{
    for (size_t i = 0; names[i]; i++)
        if (!holds(root, names[i], tag))
            return false;
    return true;
}

static bool listed(const struct tp_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i], name) == 0)
            return true;
    return false;
}

/* The folder holds the job's files, those that are not ours, and nothing else. */
static void assert_exactly(const struct job *job, const char *const *foreign)
{
    struct tp_names found;
    size_t count = 1 + job->has_last;
    assert_int_equal(tp_tree_list(&found, job->out, NULL), TP_OK);
    assert_string_equal(manifest_tag(job->out), job->tag);
    for (size_t i = 0; job->names[i]; i++, count++)
        assert_true(holds(job->out, job->names[i], job->tag));
    for (size_t i = 0; foreign && foreign[i]; i++, count++)
        assert_true(listed(&found, foreign[i]));
    if (job->has_last)
        assert_true(holds(job->out, LAST, job->tag));
    if (found.count != count)
        for (size_t i = 0; i < found.count; i++)
            print_error("# there is %s\n", found.items[i]);
    assert_int_equal(found.count, count);
    tp_names_release(&found);
}

static void clear(const char *root)
{
    struct tp_names names = {0};
    enum tp_path_kind kind;
    assert_int_equal(tp_path_kind_of(&kind, root, NULL), TP_OK);
    if (kind == TP_PATH_ABSENT)
        return;
    assert_int_equal(tp_tree_list(&names, root, NULL), TP_OK);
    for (size_t i = 0; i < names.count; i++)
        assert_int_equal(tp_tree_remove(root, names.items[i], NULL), TP_OK);
    tp_names_release(&names);
}

static void end(const struct scratch *s)
{
    clear(s->path);
    assert_int_equal(tp_path_remove(s->path, NULL), TP_OK);
}

/* ---- killed at each step ---- */

static const char *const old_names[] = {"a", "d/x", "d/deep/y", "f", "g/z/1", "g/z/2", NULL};
static const char *const new_names[] = {"a", "d/x", "d/new", "f/inside", "g", "default/n/1", NULL};
static const char *const third_names[] = {"a", "q/r", NULL};
static const char *const foreign[] = {"notes.txt", "d/mine", "own/.hidden", NULL};

/* Of renameat2 and linkat: what poorer file systems say. */
static const int fails[][2] = {{0, 0}, {EINVAL, 0}, {ENOSYS, EPERM}};

static void assert_sound(const struct job *old, const struct job *new)
{
    const char *tag = manifest_tag(new->out);
    assert_true(all_hold(new->out, foreign, "foreign") || !old);
    if (old && strcmp(tag, old->tag) == 0) {
        assert_true(all_hold(old->out, old->names, old->tag));
        assert_true(holds(old->out, LAST, old->tag));
    }
    if (strcmp(tag, new->tag) == 0)
        assert_true(all_hold(new->out, new->names, new->tag));
    if (holds(new->out, LAST, new->tag))
        assert_string_equal(tag, new->tag);
}

/* Kill `new` before its first change, its second, ... until it gets through; `again` always gets through after it, and
 * what is not ours is there at any time. */
static void kill_everywhere(const struct job *old, const struct job *new, const struct job *again)
{
    unsigned kill_at = 0;
    for (int done = STEPS_KILLED; done == STEPS_KILLED;) {
        clear(new->out);
        if (old) {
            assert_int_equal(do_job(old, NULL), TP_OK);
            for (size_t i = 0; foreign[i]; i++)
                put_file(old->out, foreign[i], "foreign");
        }
        done = steps_run(body_of_job, new, ++kill_at);
        assert_true(done == STEPS_KILLED || done == TP_OK);
        assert_sound(old, new);
        if (done == TP_OK)
            assert_exactly(new, old ? foreign : NULL);
        if (done == STEPS_KILLED && steps_run(body_of_job, again, 1 + 7 * kill_at % 30) == STEPS_KILLED)
            assert_true(!old || all_hold(old->out, foreign, "foreign")); /* killed once more while it goes on */
        assert_int_equal(steps_run(body_of_job, again, 0), TP_OK);
        assert_exactly(again, old ? foreign : NULL);
        assert_int_equal(steps_run(body_of_job, again, 0), TP_OK);
    }
    assert_true(kill_at > 20);
}

static void killed_at_any_step_of_an_exchange_it_is_finished_later(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    struct job old = {.out = out, .tag = "old", .names = old_names, .has_last = true};
    struct job new = {.out = out, .tag = "new", .names = new_names, .has_last = true, .overwrite = true};
    struct job third = {.out = out, .tag = "third", .names = third_names, .overwrite = true};
    for (size_t i = 0; i < 3; i++) {
        steps.renameat2_fails = fails[i][0];
        steps.linkat_fails = fails[i][1];
        kill_everywhere(&old, &new, i < 2 ? &third : &new);
    }
    steps.renameat2_fails = steps.linkat_fails = 0;
    new.sync = third.sync = true;
    kill_everywhere(&old, &new, &third);
    end(&s);
}

static void killed_at_any_step_in_an_empty_folder_it_is_finished_later(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    struct job new = {.out = out, .tag = "new", .names = new_names, .has_last = true, .overwrite = true};
    struct job third = {.out = out, .tag = "third", .names = third_names, .overwrite = true};
    for (size_t i = 0; i < 3; i++) {
        steps.renameat2_fails = fails[i][0];
        steps.linkat_fails = fails[i][1];
        assert_int_equal(tp_folder_make(out, NULL), TP_OK); /* and clear leaves it there */
        kill_everywhere(NULL, &new, &third);
    }
    steps.renameat2_fails = steps.linkat_fails = 0;
    end(&s);
}

static void killed_at_any_step_beside_the_output_it_is_absent_or_whole(void **state)
{
    (void)state;
    struct scratch s;
    enum tp_path_kind kind;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/deep/out", s.path);
    struct job new = {.out = out, .tag = "new", .names = new_names, .has_last = true, .overwrite = true};
    unsigned kill_at = 0;
    for (int done = STEPS_KILLED; done == STEPS_KILLED;) {
        clear(s.path);
        done = steps_run(body_of_job, &new, ++kill_at);
        assert_int_equal(tp_path_kind_of(&kind, out, NULL), TP_OK);
        if (kind != TP_PATH_ABSENT)
            assert_exactly(&new, NULL);
        assert_int_equal(steps_run(body_of_job, &new, 0), TP_OK);
        assert_exactly(&new, NULL);
    }
    assert_true(kill_at > 15);
    end(&s);
}

/* Without --overwrite: what was begun is gone on from, what was on its way into place is finished (and said). */
static void killed_at_any_step_it_is_resumed(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    struct job new = {.out = out, .tag = "new", .names = new_names, .has_last = true, .sync = true};
    struct job again = new;
    again.resume = true;
    for (int inside = 0; inside < 2; inside++) {
        unsigned kill_at = 0;
        for (int done = STEPS_KILLED; done == STEPS_KILLED;) {
            clear(s.path);
            if (inside)
                assert_int_equal(tp_folder_make(out, NULL), TP_OK);
            done = steps_run(body_of_job, &new, ++kill_at);
            int resumed = steps_run(body_of_job, &again, 0);
            assert_true(resumed == TP_OK || resumed == TP_ERR_EXISTS);
            assert_exactly(&new, NULL);
        }
        assert_true(kill_at > 15);
    }
    end(&s);
}

/* ---- in place ---- */

static const char *const in_place_names[] = {"d/data-1", "manifest.ocdbt", "_METADATA", NULL};
static const char *const originals[] = {"model-1.safetensors", "model-2.safetensors", NULL};
static const char *const in_place_foreign[] = {"model-1.safetensors", "model-2.safetensors", "config.json", "d/mine",
                                               NULL};

static void in_place_adds_names_and_survives_a_kill_at_any_step(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    scratch_make(&s);
    struct job job = {.out = s.path,
                      .tag = "new",
                      .names = in_place_names,
                      .originals = originals,
                      .in_place = true,
                      .has_last = true};
    struct job again = job;
    again.overwrite = true;
    for (size_t way = 0; way < 3; way++) {
        unsigned kill_at = 0;
        for (int done = STEPS_KILLED; done == STEPS_KILLED;) {
            steps.renameat2_fails = fails[way][0];
            steps.linkat_fails = fails[way][1];
            clear(s.path);
            for (size_t i = 0; in_place_foreign[i]; i++)
                put_file(s.path, in_place_foreign[i], "original");
            done = steps_run(body_of_job, &job, ++kill_at);
            assert_true(all_hold(s.path, in_place_foreign, "original"));
            if (strcmp(manifest_tag(s.path), "new") == 0)
                assert_true(all_hold(s.path, in_place_names, "new"));
            if (done == TP_OK)
                break;
            assert_int_equal(done, STEPS_KILLED);
            int later = steps_run(body_of_job, &again, 0); /* done, or finished what was there, or it had come so far */
            assert_true(later == TP_OK || later == TP_ERR_EXISTS);
            assert_int_equal(tp_tree_remove(s.path, PARTIAL "/", NULL), TP_OK); /* killed before that very last step */
            assert_exactly(&job, in_place_foreign);
            assert_true(all_hold(s.path, in_place_foreign, "original"));
        }
        assert_exactly(&job, in_place_foreign);
        assert_true(kill_at > 15);
    }
    steps.renameat2_fails = steps.linkat_fails = 0;
    assert_int_equal(do_job(&again, &err), TP_ERR_EXISTS);
    assert_string_equal(err.message, "the folder already holds a checkpoint that TensorPort made");
    struct job other = {.out = s.path, .tag = "other", .names = third_names, .overwrite = true};
    assert_int_equal(do_job(&other, &err), TP_ERR_EXISTS); /* its manifest lists the originals */
    assert_non_null(strstr(err.message, "holds the originals"));
    assert_exactly(&job, in_place_foreign);
    end(&s);
}

static void in_place_refuses_every_name_that_is_taken(void **state)
{
    (void)state;
    static const char *const taken[] = {"d", "d/data-1", "manifest.ocdbt", "manifest.json", LAST, "_METADATA/x"};
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    scratch_make(&s);
    struct job job = {.out = s.path, .tag = "new", .names = in_place_names, .in_place = true, .has_last = true};
    for (int overwrite = 0; overwrite < 2; overwrite++)
        for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
            put_file(s.path, "model.safetensors", "original");
            put_file(s.path, taken[i], "foreign");
            job.overwrite = overwrite;
            assert_int_equal(check_job(&dir, &job, &err), TP_ERR_EXISTS);
            tp_outdir_release(&dir);
            assert_int_equal(do_job(&job, NULL), TP_ERR_EXISTS);
            assert_true(holds(s.path, taken[i], "foreign"));
            assert_int_equal(tp_tree_remove(s.path, taken[i], NULL), TP_OK);
            struct tp_names names;
            assert_int_equal(tp_tree_list(&names, s.path, NULL), TP_OK);
            assert_int_equal(names.count, 1);
            tp_names_release(&names);
        }
    job.out = scratch_at(&s, "absent");
    assert_int_equal(check_job(&dir, &job, &err), TP_ERR_USAGE);
    tp_outdir_release(&dir);
    end(&s);
}

static void a_name_taken_while_in_place_worked_is_not_replaced(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    enum tp_path_kind kind;
    scratch_make(&s);
    struct job job = {.out = s.path, .tag = "new", .names = in_place_names, .in_place = true};
    assert_int_equal(check_job(&dir, &job, &err), TP_OK);
    assert_int_equal(tp_outdir_begin(&dir, &err), TP_OK);
    for (size_t i = 0; in_place_names[i]; i++)
        put_file(dir.work, in_place_names[i], "new");
    put_manifest(dir.work, &job);
    put_file(s.path, "_METADATA", "foreign");
    assert_int_equal(tp_outdir_commit(&dir, &err), TP_ERR_EXISTS);
    assert_true(holds(s.path, "_METADATA", "foreign"));
    tp_outdir_discard(&dir);
    assert_int_equal(tp_tree_kind_of(&kind, s.path, PARTIAL, NULL), TP_OK);
    assert_int_equal(kind, TP_PATH_ABSENT);
    assert_int_equal(tp_tree_kind_of(&kind, s.path, "manifest.ocdbt", NULL), TP_OK);
    assert_int_equal(kind, TP_PATH_ABSENT);
    tp_outdir_release(&dir);
    end(&s);
}

/* ---- what is not ours ---- */

static void what_is_not_ours_is_refused_before_a_byte_is_written(void **state)
{
    (void)state;
    static const struct {
        const char *put, *name;
    } rows[] = {
        {"mine", "mine"},        /* a file in the place of a file */
        {"mine", "mine/x"},      /* ... of a folder */
        {"mine", "mine/x/y"},    /* ... of a folder further up */
        {"mine/deep/x", "mine"}, /* a folder in the place of a file */
        {"d/mine", "d"},         /* one that holds ours too */
        {"d/x/mine", "d/x"},     /* in a folder of ours */
    };
    static const char *const d_names[] = {"d/x", "d/deep/y", NULL};
    static const char *const nothing[] = {"a", NULL};
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        clear(out);
        bool below_x = strcmp(rows[i].put, "d/x/mine") == 0;
        struct job old = {.out = out, .tag = "old", .names = below_x ? nothing : d_names};
        assert_int_equal(do_job(&old, &err), TP_OK);
        put_file(out, rows[i].put, "foreign");
        const char *const names[] = {rows[i].name, NULL};
        struct job new = {.out = out, .tag = "new", .names = names, .overwrite = true};
        assert_int_equal(check_job(&dir, &new, &err), TP_ERR_EXISTS);
        assert_non_null(strstr(err.message, "TensorPort did not make"));
        tp_outdir_release(&dir);
        const char *const mine[] = {rows[i].put, NULL};
        assert_exactly(&old, mine);
    }
    end(&s);
}

static void an_empty_folder_in_the_place_of_a_file_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"a", NULL};
    struct scratch s;
    struct tp_outdir dir;
    scratch_make(&s);
    struct job job = {.out = s.path, .tag = "old", .names = third_names};
    assert_int_equal(do_job(&job, NULL), TP_OK);
    assert_int_equal(tp_folder_make(scratch_at(&s, "q/empty"), NULL), TP_OK);
    static const char *const q[] = {"q", NULL};
    struct job new = {.out = s.path, .tag = "new", .names = q, .overwrite = true};
    assert_int_equal(check_job(&dir, &new, NULL), TP_ERR_EXISTS);
    tp_outdir_release(&dir);
    new.names = names;
    assert_int_equal(do_job(&new, NULL), TP_OK); /* q/r has gone, q/empty has not */
    static const char *const empty[] = {"q/empty/", NULL};
    assert_exactly(&new, empty);
    end(&s);
}

static void a_folder_that_was_a_link_is_not_followed(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    put_file(s.path, "elsewhere/y", "foreign");
    put_file(s.path, "elsewhere/r", "foreign");
    struct job old = {.out = out, .tag = "old", .names = third_names};
    assert_int_equal(do_job(&old, NULL), TP_OK);
    assert_int_equal(tp_tree_remove(out, "q/r", NULL), TP_OK);
    assert_int_equal(symlink("../elsewhere", scratch_at(&s, "out/q")), 0);
    static const char *const below[] = {"q/y", NULL}, *const plain[] = {"a", NULL};
    struct job new = {.out = out, .tag = "new", .names = below, .overwrite = true};
    assert_int_equal(check_job(&dir, &new, &err), TP_ERR_EXISTS);
    tp_outdir_release(&dir);
    new.names = plain;
    assert_int_equal(do_job(&new, &err), TP_OK); /* the old q/r is no file of that link's target */
    assert_true(holds(s.path, "elsewhere/r", "foreign"));
    static const char *const link[] = {"q", NULL};
    assert_exactly(&new, link);

    new.names = below; /* and one that appears while we work */
    assert_int_equal(unlink(scratch_at(&s, "out/q")), 0);
    assert_int_equal(check_job(&dir, &new, &err), TP_OK);
    assert_int_equal(tp_outdir_begin(&dir, &err), TP_OK);
    put_file(dir.work, "q/y", "new");
    put_manifest(dir.work, &new);
    assert_int_equal(symlink("../elsewhere", scratch_at(&s, "out/q")), 0);
    assert_int_equal(tp_outdir_commit(&dir, &err), TP_ERR_EXISTS);
    assert_true(holds(s.path, "elsewhere/y", "foreign"));
    tp_outdir_discard(&dir);
    tp_outdir_release(&dir);
    assert_string_equal(manifest_tag(out), "new");
    end(&s);
}

static void a_link_in_the_place_of_the_work_folder_is_not_ours(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    put_file(s.path, "elsewhere/UNFINISHED.txt", "foreign");
    assert_int_equal(tp_folder_make(out, NULL), TP_OK);
    assert_int_equal(symlink("../elsewhere", scratch_at(&s, "out/" PARTIAL)), 0);
    struct job job = {.out = out, .tag = "new", .names = third_names, .overwrite = true};
    assert_int_equal(check_job(&dir, &job, &err), TP_ERR_EXISTS);
    tp_outdir_release(&dir);
    assert_true(holds(s.path, "elsewhere/UNFINISHED.txt", "foreign"));
    end(&s);
}

static void names_that_lead_out_or_are_our_own_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "/x",
                                      "x/",
                                      "x//y",
                                      "../x",
                                      "x/../y",
                                      "./x",
                                      "x/.",
                                      "UNFINISHED.txt",
                                      "manifest.old.json",
                                      ".last",
                                      ".last/x",
                                      PARTIAL "/x",
                                      "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r"};
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    scratch_make(&s);
    for (int inside = 0; inside < 2; inside++) {
        const char *out = inside ? s.path : scratch_at(&s, "out");
        assert_int_equal(tp_outdir_check(&dir, out, (struct tp_outdir_ways){.overwrite = false}, &err), TP_OK);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            assert_int_equal(tp_outdir_check_names(&dir, &bad[i], 1, &err), TP_ERR_UNSUPPORTED);
            assert_int_equal(tp_outdir_add_last(&dir, bad[i], &err), TP_ERR_UNSUPPORTED);
        }
        static const char *const good[] = {"x/UNFINISHED.txt", ".lasting", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q"};
        assert_int_equal(tp_outdir_check_names(&dir, good, 3, &err), TP_OK);
        tp_outdir_release(&dir);
    }
    end(&s);
}

/* ---- the rest ---- */

static void what_is_discarded_leaves_nothing_not_even_folders_on_the_way(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    struct tp_names names;
    scratch_make(&s);
    char deep[2 * SCRATCH_PATH];
    snprintf(deep, sizeof deep, "%s/deep//down/out", s.path);
    const char *const outs[] = {s.path, deep};
    for (size_t k = 0; k < 2; k++) {
        struct job job = {.out = outs[k], .tag = "new", .names = new_names};
        assert_int_equal(check_job(&dir, &job, &err), TP_OK);
        assert_int_equal(tp_outdir_begin(&dir, &err), TP_OK);
        for (size_t i = 0; new_names[i]; i++)
            put_file(dir.work, new_names[i], "half");
        tp_outdir_discard(&dir);
        assert_int_equal(tp_tree_list(&names, s.path, NULL), TP_OK);
        assert_int_equal(names.count, 0);
        tp_outdir_release(&dir);
    }
    end(&s);
}

static void hard_links_to_what_is_there_already_are_exchanged(void **state)
{
    (void)state;
    static const char *const names[] = {"default/model", NULL};
    struct scratch s;
    struct tp_error err;
    struct tp_outdir dir;
    scratch_make(&s);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    put_file(s.path, "model", "original");
    for (int round = 0; round < 3; round++) { /* over itself: rename(2) would do nothing at all */
        struct job job = {.out = out, .tag = "new", .names = names, .overwrite = round > 0};
        assert_int_equal(check_job(&dir, &job, &err), TP_OK);
        assert_int_equal(tp_outdir_begin(&dir, &err), TP_OK);
        assert_int_equal(tp_tree_make(dir.work, names[0], NULL), TP_OK);
        char *to = tp_path_join(dir.work, names[0]);
        assert_int_equal(link(scratch_at(&s, "model"), to), 0);
        free(to);
        put_manifest(dir.work, &job);
        assert_int_equal(tp_outdir_commit(&dir, &err), TP_OK);
        tp_outdir_release(&dir);
        struct stat st;
        assert_int_equal(stat(scratch_at(&s, "model"), &st), 0);
        assert_int_equal(st.st_nlink, 2);
        assert_true(tp_path_same(scratch_at(&s, "model"), scratch_at(&s, "out/default/model")));
    }
    end(&s);
}

static size_t first_sync(const char *path)
{
    size_t i = 0;
    while (i < steps.sync_count && strcmp(steps.syncs[i], path) != 0)
        i++;
    assert_true(i < steps.sync_count);
    return i;
}

static void folders_are_synced_children_before_parents(void **state)
{
    (void)state;
    struct scratch s;
    scratch_make(&s);
    char *root = realpath(s.path, NULL), path[3][2 * SCRATCH_PATH];
    assert_int_equal(tp_folder_make(scratch_at(&s, "out"), NULL), TP_OK);
    struct job job = {.out = scratch_at(&s, "out"), .tag = "new", .names = new_names, .has_last = true, .sync = true};
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s", job.out);
    job.out = out;
    for (int inside = 1; inside >= 0; inside--) {
        const char *unit = inside ? "out" : "out.tensorport-partial";
        steps.sync_count = 0;
        assert_int_equal(do_job(&job, NULL), TP_OK);
        snprintf(path[0], sizeof path[0], "%s/%s/default/n", root, unit);
        snprintf(path[1], sizeof path[1], "%s/%s/default", root, unit);
        snprintf(path[2], sizeof path[2], "%s/%s", root, unit);
        assert_true(first_sync(path[0]) < first_sync(path[1]));
        assert_true(first_sync(path[1]) < first_sync(path[2]));
        if (!inside)
            assert_true(first_sync(path[2]) < first_sync(root));
        clear(out);
        (void)!tp_path_remove(out, NULL);
    }
    free(root);
    end(&s);
}

static int in_read_only(const void *arg)
{
    const struct job *job = arg;
    struct tp_error err;
    if (getuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) /* root may write anywhere */
        return 98;
    return (int)do_job(job, &err);
}

static void a_read_only_folder_is_an_error_and_stays_as_it_is(void **state)
{
    (void)state;
    struct scratch s;
    struct tp_names names;
    scratch_make(&s);
    assert_int_equal(tp_folder_make(scratch_at(&s, "out/sub"), NULL), TP_OK);
    assert_int_equal(chmod(s.path, 0755), 0);
    assert_int_equal(rmdir(scratch_at(&s, "out/sub")), 0);
    char out[2 * SCRATCH_PATH];
    snprintf(out, sizeof out, "%s/out", s.path);
    assert_int_equal(chmod(out, 0555), 0);
    struct job job = {.out = out, .tag = "new", .names = new_names};
    assert_int_equal(steps_run(in_read_only, &job, 0), TP_ERR_IO);
    job.in_place = true;
    assert_int_equal(steps_run(in_read_only, &job, 0), TP_ERR_IO);
    job.in_place = false;
    job.out = scratch_at(&s, "out/below");
    assert_int_equal(steps_run(in_read_only, &job, 0), TP_ERR_IO);
    assert_int_equal(chmod(out, 0755), 0);
    assert_int_equal(tp_tree_list(&names, s.path, NULL), TP_OK);
    assert_int_equal(names.count, 1);
    assert_string_equal(names.items[0], "out/");
    tp_names_release(&names);
    end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_step_of_an_exchange_it_is_finished_later),
        cmocka_unit_test(killed_at_any_step_in_an_empty_folder_it_is_finished_later),
        cmocka_unit_test(killed_at_any_step_beside_the_output_it_is_absent_or_whole),
        cmocka_unit_test(killed_at_any_step_it_is_resumed),
        cmocka_unit_test(in_place_adds_names_and_survives_a_kill_at_any_step),
        cmocka_unit_test(in_place_refuses_every_name_that_is_taken),
        cmocka_unit_test(a_name_taken_while_in_place_worked_is_not_replaced),
        cmocka_unit_test(what_is_not_ours_is_refused_before_a_byte_is_written),
        cmocka_unit_test(an_empty_folder_in_the_place_of_a_file_is_refused),
        cmocka_unit_test(a_folder_that_was_a_link_is_not_followed),
        cmocka_unit_test(a_link_in_the_place_of_the_work_folder_is_not_ours),
        cmocka_unit_test(names_that_lead_out_or_are_our_own_are_refused),
        cmocka_unit_test(what_is_discarded_leaves_nothing_not_even_folders_on_the_way),
        cmocka_unit_test(hard_links_to_what_is_there_already_are_exchanged),
        cmocka_unit_test(folders_are_synced_children_before_parents),
        cmocka_unit_test(a_read_only_folder_is_an_error_and_stays_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
