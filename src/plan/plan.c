/* SPDX-License-Identifier: MIT */
/* From headers and options to the arrays of the output: selection, dtypes, the tree, and every refusal. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "checkpoint/checkpoint.h"
#include "plan/builder.h"
#include "plan/mapped.h"
#include "tensorport/text.h"

#define SHOWN_MAX 20u /* offenders named in one message; the rest is counted */

void tp_offend(struct tp_offenders *o, const char *name, size_t len, const char *why)
{
    char shown[160];
    o->count++;
    if (o->count > SHOWN_MAX)
        return;
    tp_text_printable(shown, sizeof shown, name, len);
    int n = snprintf(o->text + o->used, sizeof o->text - o->used, "\n%s%s%s", shown, *why ? ": " : "", why);
    if (n > 0 && (size_t)n < sizeof o->text - o->used)
        o->used += (size_t)n;
    else
        o->text[o->used] = '\0';
}

enum tp_status tp_offenders_refuse(const struct tp_plan_builder *b, const struct tp_offenders *o, enum tp_status code,
                                   const char *what)
{
    char more[64] = "";
    if (o->count > SHOWN_MAX)
        snprintf(more, sizeof more, "\nand %zu more", o->count - SHOWN_MAX);
    tp_fail(b->err, code, "%s:%s%s", what, o->text, more);
    return tp_err_path(b->err, code, tp_checkpoint_path(b->source));
}

int tp_path_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    /* The keys' separator is NUL, smaller than any byte of a key: comparing bytes compares key by key. */
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_paths(const void *a, const void *b)
{
    const struct tp_array *const *x = a, *const *y = b;
    return tp_path_compare((*x)->path, (*x)->path_len, (*y)->path, (*y)->path_len);
}

const struct tp_array **tp_plan_sorted(const struct tp_plan *plan)
{
    const struct tp_array **sorted = malloc((plan->array_count + 1) * sizeof *sorted);
    for (size_t i = 0; sorted && i < plan->array_count; i++)
        sorted[i] = &plan->arrays[i];
    if (sorted)
        qsort(sorted, plan->array_count, sizeof *sorted, compare_paths);
    return sorted;
}

void tp_path_join_keys(char *dst, const char *path, size_t path_len, char separator)
{
    for (size_t i = 0; i < path_len; i++)
        dst[i] = path[i] ? path[i] : separator;
    dst[path_len] = '\0';
}

bool tp_plan_add_small(struct tp_plan *plan, const char *name, uint32_t kind, uint32_t item, bool is_last)
{
    if (!tp_array_grow(&plan->small_files, &plan->small_capacity, plan->small_count + 1, sizeof *plan->small_files))
        return false;
    plan->small_files[plan->small_count++] = (struct tp_small_file){name, kind, item, is_last};
    return true;
}

/* ---- selection ---- */

static bool matches_any(const struct tp_glob_list *globs, const char *name)
{
    for (size_t i = 0; i < globs->count; i++)
        if (tp_glob_match(globs->items[i], name))
            return true;
    return false;
}

/* A glob that matches no tensor at all is a typing error, and would silently do nothing. */
static enum tp_status check_globs_match(const struct tp_plan_builder *b, const struct tp_glob_list *globs,
                                        const char *option)
{
    for (size_t g = 0; g < globs->count; g++) {
        bool hit = false;
        for (size_t i = 0; i < b->count && !hit; i++)
            hit = tp_glob_match(globs->items[g], tp_logical_name(&b->all[i]));
        if (!hit) {
            char shown[256];
            tp_text_printable(shown, sizeof shown, globs->items[g], strlen(globs->items[g]));
            tp_fail(b->err, TP_ERR_USAGE, "%s '%s' matches none of the %zu tensors", option, shown, b->count);
            return tp_err_hint(b->err, TP_ERR_USAGE, "tensorport inspect --all lists their names");
        }
    }
    return TP_OK;
}

/* Codes without their scales (or the reverse) cannot be used by anybody. */
static enum tp_status check_groups_whole(const struct tp_plan_builder *b)
{
    uint32_t group_count = tp_checkpoint_group_count(b->source);
    if (group_count == 0 || (b->options->include.count == 0 && b->options->exclude.count == 0))
        return TP_OK;
    uint32_t *chosen = calloc(group_count, sizeof *chosen);
    if (!chosen)
        return tp_fail_nomem(b->err);
    for (size_t i = 0; i < b->count; i++)
        if (b->selected[i] && tp_logical_group(&b->all[i]) != TP_NO_GROUP)
            chosen[tp_logical_group(&b->all[i])]++;
    struct tp_offenders o = {.count = 0};
    for (uint32_t g = 0; g < group_count; g++) {
        const struct tp_group *group = tp_checkpoint_group(b->source, g);
        char why[96];
        snprintf(why, sizeof why, "%" PRIu32 " of its %" PRIu32 " tensors (%s)", chosen[g], group->member_count,
                 group->scheme);
        if (chosen[g] > 0 && chosen[g] < group->member_count)
            tp_offend(&o, group->name, strlen(group->name), why);
    }
    free(chosen);
    return o.count ? tp_offenders_refuse(b, &o, TP_ERR_USAGE,
                                         "--include and --exclude take apart tensors that only together are a weight")
                   : TP_OK;
}

static enum tp_status select_tensors(struct tp_plan_builder *b)
{
    const struct tp_convert_options *opt = b->options;
    enum tp_status st = check_globs_match(b, &opt->include, "--include");
    if (!st)
        st = check_globs_match(b, &opt->exclude, "--exclude");
    if (!st)
        st = check_globs_match(b, &opt->keep_dtype, "--keep-dtype");
    if (st)
        return st;
    size_t chosen = 0;
    for (size_t i = 0; i < b->count; i++) {
        const char *name = tp_logical_name(&b->all[i]);
        b->selected[i] =
            (opt->include.count == 0 || matches_any(&opt->include, name)) && !matches_any(&opt->exclude, name);
        chosen += b->selected[i];
    }
    if (chosen == 0 && b->count > 0)
        return tp_fail(b->err, TP_ERR_USAGE, "--include and --exclude leave none of the %zu tensors", b->count);
    return check_groups_whole(b);
}

/* ---- dtypes ---- */

enum tp_dtype tp_precision_dtype(enum tp_precision precision)
{
    static const uint8_t dtypes[] = {[TP_PRECISION_FLOAT16] = TP_F16,
                                     [TP_PRECISION_FLOAT32] = TP_F32,
                                     [TP_PRECISION_BFLOAT16] = TP_BF16,
                                     [TP_PRECISION_KEEP] = TP_DTYPE_NONE};
    return (enum tp_dtype)dtypes[precision];
}

/* dtypes that releases of ml_dtypes, JAX or tensorstore still in use do not know: one of them fails a whole file there.
 */
static bool is_recent(enum tp_dtype dtype)
{
    return dtype == TP_F8_E8M0 || dtype == TP_F8_E4M3FNUZ || dtype == TP_F8_E5M2FNUZ || dtype == TP_F4 ||
           dtype == TP_F4_UNPACKED;
}

enum tp_dtype tp_model_dtype(const struct tp_checkpoint *source)
{
    const char *name = tp_checkpoint_facts(source)->torch_dtype;
    enum tp_dtype dtype = name ? tp_dtype_from_numpy_name(name, strlen(name)) : TP_DTYPE_NONE;
    return dtype == TP_F16 || dtype == TP_F32 ? dtype : TP_BF16;
}

static enum tp_dtype wanted_dtype(const struct tp_plan_builder *b, const struct tp_logical *l, enum tp_dtype from)
{
    enum tp_dtype kept = l->decoded ? tp_model_dtype(b->source) : from;
    enum tp_dtype wanted = tp_precision_dtype(b->options->precision);
    return wanted == TP_DTYPE_NONE || matches_any(&b->options->keep_dtype, tp_logical_name(l)) ? kept : wanted;
}

void tp_choose_dtype(const struct tp_plan_builder *b, const struct tp_logical *l, enum tp_dtype rule_dtype,
                     struct tp_array *a, struct tp_piece *piece)
{
    enum tp_dtype from = (enum tp_dtype)l->dtype;
    enum tp_dtype to = from;
    a->view = TP_DTYPE_NONE;
    piece->op = TP_OP_COPY;
    if (tp_dtype_class(from) == TP_CLASS_FLOAT && tp_logical_group(l) == TP_NO_GROUP) {
        to = rule_dtype != TP_DTYPE_NONE ? rule_dtype : wanted_dtype(b, l, from);
        piece->op = to == from ? TP_OP_COPY : TP_OP_CAST;
    } else if (b->options->compat && is_recent(from)) {
        to = TP_U8;
        a->view = (uint8_t)from;
    } else if (from == TP_F4 && !b->traits.packed_small_floats) {
        to = TP_F4_UNPACKED;
        piece->op = TP_OP_UNPACK_F4;
    }
    a->dtype = (uint8_t)to;
    piece->source_dtype = (uint8_t)from;
}

static enum tp_status check_dtypes(const struct tp_plan_builder *b)
{
    struct tp_offenders six = {.count = 0}, odd = {.count = 0};
    for (size_t i = 0; i < b->count; i++) {
        const struct tp_tensor *t = b->all[i].tensor;
        if (!b->selected[i] || b->all[i].decoded)
            continue;
        if (t->dtype == TP_F6_E2M3 || t->dtype == TP_F6_E3M2)
            tp_offend(&six, t->name, t->name_len, tp_dtype_name((enum tp_dtype)t->dtype));
        if (b->options->compat && t->dtype == TP_F4 && (t->rank == 0 || t->shape[t->rank - 1] % 2 != 0))
            tp_offend(&odd, t->name, t->name_len, "odd last axis");
    }
    if (six.count && !b->traits.packed_small_floats)
        return tp_offenders_refuse(b, &six, TP_ERR_UNSUPPORTED,
                                   "six-bit floats cannot be converted (safetensors does not define their bit order)");
    if (odd.count)
        return tp_offenders_refuse(b, &odd, TP_ERR_UNSUPPORTED,
                                   "--compat keeps F4 as bytes of two codes, which an odd last axis does not allow");
    return TP_OK;
}

/* ---- the tree ---- */

static const char *const reserved_keys[] = {"__msgpack_chunked_array__", "__tensorport_parts__"};

static const char *bad_path(const char *path, size_t len, bool nested, bool has_reserved_keys)
{
    uint32_t depth = 0;
    for (size_t start = 0; start <= len;) {
        const char *end = memchr(path + start, '\0', len - start);
        size_t key_len = end ? (size_t)(end - path) - start : len - start;
        if (nested && key_len == 0)
            return "an empty key between dots";
        for (size_t r = 0; has_reserved_keys && r < TP_COUNT_OF(reserved_keys); r++)
            if (key_len == strlen(reserved_keys[r]) && memcmp(path + start, reserved_keys[r], key_len) == 0)
                return "a key that the format reserves";
        if (++depth > TP_TREE_DEPTH_MAX)
            return "nested deeper than 256 levels";
        start += key_len + 1;
    }
    return NULL;
}

/* In the order of paths an inner node stands just before its children, so a leaf that is also one is seen at once. */
static enum tp_status check_tree(const struct tp_plan_builder *b)
{
    struct tp_plan *plan = b->plan;
    bool nested = b->options->tree != TP_TREE_FLAT || b->options->map;
    struct tp_offenders bad = {.count = 0}, both = {.count = 0};
    const struct tp_array **sorted = tp_plan_sorted(plan);
    if (!sorted)
        return tp_fail_nomem(b->err);
    for (size_t i = 0; i < plan->array_count; i++) {
        const struct tp_array *a = &plan->arrays[i];
        const char *why = bad_path(a->path, a->path_len, nested, b->traits.reserved_keys);
        char name[TP_NAME_MAX_BYTES + 1];
        tp_path_join_keys(name, a->path, a->path_len, '.');
        if (why)
            tp_offend(&bad, name, a->path_len, why);
    }
    for (size_t i = 0; i + 1 < plan->array_count; i++) {
        const struct tp_array *a = sorted[i], *next = sorted[i + 1];
        if (next->path_len > a->path_len && memcmp(a->path, next->path, a->path_len) == 0 &&
            next->path[a->path_len] == '\0') {
            char why[400], name[TP_NAME_MAX_BYTES + 1], shown[300];
            tp_path_join_keys(name, next->path, next->path_len, '.');
            snprintf(why, sizeof why, "there is also '%s'",
                     tp_text_printable(shown, sizeof shown, name, next->path_len));
            tp_path_join_keys(name, a->path, a->path_len, '.');
            tp_offend(&both, name, a->path_len, why);
        }
    }
    free(sorted);
    enum tp_status st = TP_OK;
    if (bad.count)
        st = tp_offenders_refuse(b, &bad, TP_ERR_UNSUPPORTED, "these names cannot be keys of the output's tree");
    else if (both.count)
        st = tp_offenders_refuse(b, &both, TP_ERR_UNSUPPORTED,
                                 "these names would be an array and a folder of arrays at once");
    if (st && b->options->map)
        return tp_err_hint(b->err, st, "the map's names are at fault: tensorport map check shows them all");
    return st && nested ? tp_err_hint(b->err, st, "--tree flat keeps every name as one key") : st;
}

/* Decoding gives new names, which may be taken already: by a tensor, or by what another group is decoded to. */
static enum tp_status check_twins(const struct tp_plan_builder *b)
{
    struct tp_plan *plan = b->plan;
    struct tp_offenders twins = {.count = 0};
    if (plan->decoded_count == 0 || b->options->map)
        return TP_OK;
    const struct tp_array **sorted = tp_plan_sorted(plan);
    if (!sorted)
        return tp_fail_nomem(b->err);
    for (size_t i = 0; i + 1 < plan->array_count; i++) {
        const struct tp_array *a = sorted[i], *next = sorted[i + 1];
        if (tp_path_compare(a->path, a->path_len, next->path, next->path_len) != 0)
            continue;
        const struct tp_tensor *one = plan->logicals[a - plan->arrays].tensor;
        const struct tp_tensor *other = plan->logicals[next - plan->arrays].tensor;
        char why[600], shown[2][260];
        snprintf(why, sizeof why, "from '%s' and from '%s'",
                 tp_text_printable(shown[0], sizeof shown[0], one->name, one->name_len),
                 tp_text_printable(shown[1], sizeof shown[1], other->name, other->name_len));
        tp_offend(&twins, tp_logical_name(&plan->logicals[a - plan->arrays]), a->path_len, why);
    }
    free(sorted);
    if (twins.count == 0)
        return TP_OK;
    enum tp_status st = tp_offenders_refuse(b, &twins, TP_ERR_UNSUPPORTED, "these names would be given twice");
    return tp_err_hint(b->err, st, "without --dequantize everything is kept as it is, under its own name");
}

/* ---- arrays ---- */

static void replace_bytes(char *text, size_t len, char from, char to)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] == from)
            text[i] = to;
}

/* The tensor's name, split at its dots where a tree is wanted, under the keys that wrap the tree. */
static enum tp_status set_path(const struct tp_plan_builder *b, struct tp_array *a, const struct tp_logical *l)
{
    const char *name = tp_logical_name(l), *wrap = b->options->wrap;
    size_t name_len = tp_logical_name_len(l), wrap_len = wrap ? strlen(wrap) + 1 : 0;
    bool nested = b->options->tree != TP_TREE_FLAT && !b->traits.flat_names;
    a->path = name;
    a->path_len = (uint16_t)name_len;
    if (!wrap && !(nested && memchr(name, '.', name_len)))
        return TP_OK;
    if (wrap_len + name_len > TP_NAME_MAX_BYTES)
        return tp_err_tensor(
            b->err, tp_fail(b->err, TP_ERR_LIMIT, "with --wrap its path has more than %u bytes", TP_NAME_MAX_BYTES),
            name, name_len);
    char *path = tp_arena_alloc(&b->plan->arena, wrap_len + name_len + 1);
    if (!path)
        return tp_fail_nomem(b->err);
    if (wrap) {
        memcpy(path, wrap, wrap_len);
        replace_bytes(path, wrap_len, '/', '\0');
    }
    memcpy(path + wrap_len, name, name_len + 1);
    if (nested)
        replace_bytes(path + wrap_len, name_len, '.', '\0');
    a->path = path;
    a->path_len = (uint16_t)(wrap_len + name_len);
    return TP_OK;
}

enum tp_status tp_halve_last_axis(const struct tp_plan_builder *b, struct tp_array *a)
{
    uint64_t *halved = tp_arena_alloc(&b->plan->arena, a->rank * sizeof *halved);
    if (!halved)
        return tp_fail_nomem(b->err);
    memcpy(halved, a->shape, a->rank * sizeof *halved);
    halved[a->rank - 1] /= 2;
    a->shape = halved;
    return TP_OK;
}

static enum tp_status set_shape(const struct tp_plan_builder *b, struct tp_array *a, const struct tp_logical *l)
{
    a->rank = tp_logical_rank(l);
    a->shape = tp_logical_shape(l);
    bool packed = tp_dtype_bits((enum tp_dtype)a->dtype) < 8;
    a->elem_count = packed ? l->tensor->size_bytes : tp_logical_elem_count(l);
    if (a->view != TP_F4)
        return TP_OK;
    a->elem_count /= 2;
    return tp_halve_last_axis(b, a);
}

static bool is_counted(const struct tp_array *a)
{
    enum tp_dtype from = tp_array_source_dtype(a);
    return tp_dtype_class(from) == TP_CLASS_FLOAT || from == TP_BOOL;
}

void tp_plan_count_array(struct tp_plan *plan, struct tp_array *a)
{
    if (a->piece_count > 0 && is_counted(a))
        a->result = plan->result_count++;
    plan->payload_bytes += a->elem_count * tp_array_item_bytes(a);
}

/* The logical tensors that are chosen; an array of one uses it alone. */
static enum tp_status add_logicals(struct tp_plan_builder *b)
{
    struct tp_plan *plan = b->plan;
    plan->logicals = malloc((b->count + 1) * sizeof *plan->logicals);
    if (!plan->logicals)
        return tp_fail_nomem(b->err);
    for (size_t i = 0; i < b->count; i++) {
        const struct tp_logical *l = &b->all[i];
        if (!b->selected[i])
            continue;
        plan->logicals[plan->logical_count++] = *l;
        plan->decoded_count += l->decoded != NULL;
        plan->chunked_count += l->tensor->chunks != NULL;
    }
    return TP_OK;
}

/* A logical tensor under its own name. */
static enum tp_status add_array(struct tp_plan_builder *b, uint32_t logical)
{
    struct tp_plan *plan = b->plan;
    struct tp_array *a = &plan->arrays[plan->array_count];
    struct tp_logical *l = &plan->logicals[logical];
    struct tp_piece *piece = tp_arena_alloc(&plan->arena, sizeof *piece);
    if (!piece)
        return tp_fail_nomem(b->err);
    *a = (struct tp_array){
        .pieces = piece, .piece_count = 1, .first_extent = TP_NONE, .result = TP_NONE, .group = tp_logical_group(l)};
    *piece = (struct tp_piece){.logical = logical};
    tp_choose_dtype(b, l, TP_DTYPE_NONE, a, piece);
    enum tp_status st = set_path(b, a, l);
    if (!st)
        st = set_shape(b, a, l);
    if (st)
        return st;
    if (a->view != TP_DTYPE_NONE || tp_dtype_bits((enum tp_dtype)a->dtype) < 8)
        l->dtype = TP_U8;
    piece->run_elems = a->elem_count;
    plan->array_count++;
    plan->read_bytes += tp_logical_source_bytes(l);
    tp_plan_count_array(plan, a);
    return TP_OK;
}

/* A map may leave out some of what is selected. */
static enum tp_status deselect_unused(struct tp_plan_builder *b)
{
    const struct tp_plan *plan = b->plan;
    bool *used = calloc(plan->logical_count + 1, sizeof *used);
    if (!used)
        return tp_fail_nomem(b->err);
    for (size_t i = 0; i < plan->array_count; i++)
        for (uint32_t p = 0; p < plan->arrays[i].piece_count; p++)
            used[plan->arrays[i].pieces[p].logical] = true;
    for (size_t i = 0, k = 0; i < b->count; i++)
        b->selected[i] = b->selected[i] && used[k++];
    free(used);
    return TP_OK;
}

/* Values that the arrays stand for: codes count as what they encode, their scales as nothing. */
static void count_parameters(struct tp_plan_builder *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct tp_logical *l = &b->all[i];
        uint32_t group = tp_logical_group(l);
        if (!b->selected[i])
            continue;
        if (group == TP_NO_GROUP)
            b->plan->parameter_count += tp_logical_elem_count(l);
        else if (tp_checkpoint_tensor(b->source, tp_checkpoint_group(b->source, group)->codes) == l->tensor)
            b->plan->parameter_count += tp_checkpoint_group(b->source, group)->parameter_count;
    }
}

/* The largest array, as bytes written, must still be countable: an F4 tensor doubles, a cast at most quadruples. */
static enum tp_status check_sizes(const struct tp_plan_builder *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct tp_logical *l = &b->all[i];
        if (b->selected[i] && tp_logical_elem_count(l) > (UINT64_MAX >> 8)) {
            tp_fail(b->err, TP_ERR_LIMIT, "%" PRIu64 " elements are more than can be converted",
                    tp_logical_elem_count(l));
            return tp_err_tensor(b->err, TP_ERR_LIMIT, tp_logical_name(l), tp_logical_name_len(l));
        }
    }
    return TP_OK;
}

static enum tp_status note_what_stays(const struct tp_plan_builder *b)
{
    size_t dropped = 0;
    for (size_t i = 0; i < b->count; i++)
        dropped += !b->selected[i];
    if (dropped && !tp_list_add(&b->plan->notes, "%zu tensors left out by --include and --exclude", dropped))
        return tp_fail_nomem(b->err);
    return TP_OK;
}

static enum tp_status add_arrays(struct tp_plan_builder *b)
{
    struct tp_plan *plan = b->plan;
    enum tp_status st = add_logicals(b);
    if (!st && b->options->map)
        return tp_plan_add_mapped(b);
    if (!st && !(plan->arrays = malloc((plan->logical_count + 1) * sizeof *plan->arrays)))
        st = tp_fail_nomem(b->err);
    for (size_t i = 0; i < plan->logical_count && !st; i++)
        st = add_array(b, (uint32_t)i);
    return st;
}

static enum tp_status check_wrap(const struct tp_plan_builder *b)
{
    const char *wrap = b->options->wrap;
    if (!wrap)
        return TP_OK;
    if (b->traits.flat_names)
        return tp_fail(b->err, TP_ERR_USAGE, "--wrap is for formats that hold a tree; this one has flat names");
    size_t len = strlen(wrap);
    if (len == 0 || wrap[0] == '/' || wrap[len - 1] == '/' || strstr(wrap, "//"))
        return tp_fail(b->err, TP_ERR_USAGE, "--wrap needs keys with a '/' between them, as in params/params");
    return TP_OK;
}

static enum tp_status gather(struct tp_plan_builder *b)
{
    enum tp_status st =
        tp_logicals_build(&b->all, &b->count, &b->plan->arena, &b->plan->notes, b->source, b->options, b->err);
    if (st == TP_ERR_FORMAT && b->options->map)
        tp_err_finding(b->err, "E12"); /* one of the map's findings */
    if (st)
        return st;
    b->selected = calloc(b->count + 1, sizeof *b->selected);
    return b->selected ? TP_OK : tp_fail_nomem(b->err);
}

enum tp_status tp_plan_build(struct tp_plan *plan, const struct tp_checkpoint *source,
                             const struct tp_convert_options *options, struct tp_plan_traits traits,
                             struct tp_error *err)
{
    struct tp_convert_options all = tp_mapped_options(options, source);
    *plan = (struct tp_plan){.source = source};
    struct tp_plan_builder b = {.plan = plan, .source = source, .options = &all, .traits = traits, .err = err};
    enum tp_status st = check_wrap(&b);
    if (!st)
        st = gather(&b);
    if (!st)
        st = select_tensors(&b);
    if (!st)
        st = check_dtypes(&b);
    if (!st)
        st = check_sizes(&b);
    if (!st)
        st = add_arrays(&b);
    if (!st && !traits.flat_names)
        st = check_tree(&b);
    if (!st)
        st = check_twins(&b);
    if (!st)
        st = note_what_stays(&b);
    if (!st)
        st = deselect_unused(&b);
    if (!st)
        count_parameters(&b);
    free(b.selected);
    free(b.all);
    if (st)
        tp_plan_release(plan);
    return st;
}

void tp_plan_release(struct tp_plan *plan)
{
    free(plan->logicals);
    free(plan->arrays);
    free(plan->extents);
    free(plan->files);
    free(plan->small_files);
    free(plan->leaves);
    tp_arena_release(&plan->arena);
    tp_list_release(&plan->notes);
    *plan = (struct tp_plan){.array_count = 0};
}
