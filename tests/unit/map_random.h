/* SPDX-License-Identifier: MIT */
/* Random rules of maps in a test's own words, as the map's text, and their sources. */
#ifndef TP_TESTS_UNIT_MAP_RANDOM_H
#define TP_TESTS_UNIT_MAP_RANDOM_H

#include "map/rule.h"
#include "map_case.h"

#define HEAD "{\"tensorport_map\": 1, \"name\": \"test\", "
#define AXES 8u
#define NO_AXIS UINT8_MAX

enum kind { PLAIN, STACKED, LISTED, JOINED, TAKEN_APART, SLICED, UNSTACKED };

/* An axis of the rule: where it stands, and how long it is. */
struct axis {
    char name[4];
    uint8_t kind;
    unsigned size;   /* in the target; TAKEN_APART, UNSTACKED: in the source */
    unsigned padded; /* 0: not; only of axes of the right */
};

/* A rule in the test's own words. */
struct random_rule {
    struct axis axes[AXES];
    unsigned count;
    unsigned from_count, to_count;   /* LISTED or JOINED; TAKEN_APART or SLICED */
    unsigned part[4];                /* sizes of JOINED or SLICED */
    uint8_t left[AXES], right[AXES]; /* axes in the order of each side */
    unsigned left_count, right_count;
    bool left_cut[AXES], right_cut[AXES]; /* a group ends after it */
    bool doubles;                         /* layers are "{2*l+b}", b stays in the name of the target */
};

static inline unsigned pick(unsigned low, unsigned high)
{
    return low + (unsigned)rand() % (high - low + 1);
}

static inline bool is_left(uint8_t kind)
{
    return kind != STACKED && kind != LISTED;
}

static inline bool is_right(uint8_t kind)
{
    return kind != TAKEN_APART && kind != UNSTACKED;
}

static inline void shuffle(uint8_t *order, unsigned count)
{
    for (unsigned i = count; i > 1; i--) {
        unsigned k = pick(0, i - 1);
        uint8_t kept = order[i - 1];
        order[i - 1] = order[k];
        order[k] = kept;
    }
}

static inline void add_axis(struct random_rule *r, const char *name, uint8_t kind, unsigned size)
{
    struct axis *a = &r->axes[r->count];
    if (is_left(kind))
        r->left[r->left_count++] = (uint8_t)r->count;
    if (is_right(kind))
        r->right[r->right_count++] = (uint8_t)r->count;
    r->count++;
    *a = (struct axis){.kind = kind, .size = size};
    snprintf(a->name, sizeof a->name, "%s", name);
}

static inline unsigned add_parts(struct random_rule *r, unsigned count)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += r->part[i] = pick(1, 4);
    return sum;
}

static inline void make_rule(struct random_rule *r)
{
    static const char *const plain[] = {"a", "c", "d"};
    memset(r, 0, sizeof *r);
    r->from_count = r->to_count = 1;
    for (unsigned i = 0, n = pick(0, 3); i < n; i++)
        add_axis(r, plain[i], PLAIN, pick(1, 4));
    if (pick(0, 1))
        add_axis(r, "l", STACKED, pick(1, 4));
    if (pick(0, 2) == 0)
        add_axis(r, "e", STACKED, pick(1, 3));
    if (pick(0, 3) == 0)
        add_axis(r, "u", UNSTACKED, pick(1, 3));
    switch (pick(0, 4)) {
    case 0:
        r->from_count = pick(2, 3);
        add_axis(r, "s", LISTED, r->from_count);
        break;
    case 1:
        r->from_count = pick(2, 3);
        add_axis(r, "x", JOINED, add_parts(r, r->from_count));
        break;
    case 2:
        r->to_count = pick(2, 4);
        add_axis(r, pick(0, 1) ? "t" : r->to_count == 2 ? "2" : r->to_count == 3 ? "3" : "4", TAKEN_APART, r->to_count);
        break;
    case 3:
        r->to_count = pick(2, 3);
        add_axis(r, "y", SLICED, add_parts(r, r->to_count));
        break;
    }
    for (unsigned i = 0; i < r->right_count; i++)
        r->axes[r->right[i]].padded = pick(0, 7) ? 0 : pick(1, 6);
    r->doubles = pick(0, 1);
    shuffle(r->left, r->left_count);
    shuffle(r->right, r->right_count);
    for (unsigned i = 0; i < AXES; i++) {
        r->left_cut[i] = pick(0, 1);
        r->right_cut[i] = pick(0, 1);
    }
}

static const struct axis *find_kind(const struct random_rule *r, uint8_t kind, const char *name)
{
    for (unsigned i = 0; i < r->count; i++)
        if (r->axes[i].kind == kind && (!name || strcmp(r->axes[i].name, name) == 0))
            return &r->axes[i];
    return NULL;
}

/* How long the axis is in source number `from`. */
static inline unsigned source_size(const struct random_rule *r, const struct axis *a, unsigned from)
{
    return a->kind == JOINED ? r->part[from] : a->size;
}

/* ---- its text ---- */

static inline void put(char *text, const char *more)
{
    assert_true(strlen(text) + strlen(more) < 4096);
    memcpy(text + strlen(text), more, strlen(more) + 1);
}

/* In each group one axis may be left to the shape. */
static inline void put_side(char *text, char *dims, const struct random_rule *r, const uint8_t *order, unsigned count,
                            const bool *cut, bool on_left, bool all_known)
{
    for (unsigned i = 0; i < count;) {
        unsigned end = i + 1;
        while (end < count && !cut[end - 1])
            end++;
        unsigned free = pick(i, end - 1);
        for (unsigned k = i; k < end; k++)
            if (r->axes[order[k]].kind == JOINED)
                free = k; /* its sizes differ: "dims" cannot have it */
        put(text, end > i + 1 ? "(" : "");
        for (unsigned k = i; k < end; k++) {
            const struct axis *a = &r->axes[order[k]];
            char dim[64];
            put(text, k > i ? " " : "");
            put(text, a->name);
            snprintf(dim, sizeof dim, "%s\"%s\": %u", dims[0] ? ", " : "", a->name,
                     a->kind == JOINED ? r->part[0] : a->size);
            if ((on_left ? k != free || all_known : all_known && a->kind == STACKED) && a->name[0] > '9')
                put(dims, dim);
        }
        put(text, end > i + 1 ? ") " : " ");
        i = end;
    }
}

/* ["w0 and the rest", "w1 and the rest"] */
static inline void put_list(char *text, unsigned count, char letter, const char *rest)
{
    for (unsigned i = 0; i < count; i++) {
        char item[128];
        snprintf(item, sizeof item, "%s\"%c%u%s\"", i ? ", " : "[", letter, i, rest);
        put(text, item);
    }
    put(text, "]");
}

/* `all_known`: "dims" has the sizes of all axes, as the way back may need. */
static inline void write_map(const struct random_rule *r, char *text, bool all_known)
{
    char dims[512] = "", sides[256] = "", rest[64], member[128];
    const struct axis *l = find_kind(r, STACKED, "l"), *e = find_kind(r, STACKED, "e");
    const struct axis *parts = find_kind(r, TAKEN_APART, NULL), *slices = find_kind(r, SLICED, NULL);
    const struct axis *listed = find_kind(r, LISTED, NULL), *joined = find_kind(r, JOINED, NULL);
    text[0] = '\0';
    put(text, "\"from\": ");
    snprintf(rest, sizeof rest, ".%s.%s", !l ? "7" : r->doubles ? "{2*l+b}" : "{l}", e ? "{e}" : "x");
    put_list(text, r->from_count, 'w', rest);
    put(text, ", \"to\": ");
    snprintf(rest, sizeof rest, "/%s/%s", l && r->doubles ? "{b}" : "x", find_kind(r, UNSTACKED, NULL) ? "{u}" : "x");
    put_list(text, r->to_count, 't', rest);
    put_side(sides, dims, r, r->left, r->left_count, r->left_cut, true, all_known);
    put(sides, "-> ");
    put_side(sides, dims, r, r->right, r->right_count, r->right_cut, false, all_known);
    put(text, ", \"axes\": \"");
    put(text, sides);
    put(text, "\"");
    if (listed || joined || parts) {
        snprintf(member, sizeof member, ", \"%s\": \"%s\"",
                 listed   ? "stack"
                 : joined ? "cat"
                          : "split",
                 (listed   ? listed
                  : joined ? joined
                           : parts)
                     ->name);
        put(text, member);
    }
    if (slices) {
        snprintf(member, sizeof member, ", \"split\": {\"axis\": \"%s\", \"sizes\": [%u, %u", slices->name, r->part[0],
                 r->part[1]);
        put(text, member);
        snprintf(member, sizeof member, ", %u", r->part[2]);
        put(text, r->to_count == 3 ? member : "");
        put(text, "]}");
    }
    char pads[128] = "";
    for (unsigned i = 0; i < r->count; i++) {
        snprintf(member, sizeof member, "%s\"%s\": %u", pads[0] ? ", " : "", r->axes[i].name, r->axes[i].padded);
        put(pads, r->axes[i].padded ? member : "");
    }
    if (pads[0]) {
        put(text, ", \"pad\": {");
        put(text, pads);
        put(text, "}");
    }
    char whole[5120];
    snprintf(whole, sizeof whole, HEAD "\"dims\": {%s}, \"rules\": [{%s}]}", dims, text);
    assert_true(strlen(whole) < 4096);
    memcpy(text, whole, strlen(whole) + 1);
}

/* ---- its sources ---- */

static inline void source_name(const struct random_rule *r, char *name, size_t cap, unsigned from, unsigned l,
                               unsigned b, unsigned e)
{
    unsigned layer = !find_kind(r, STACKED, "l") ? 7 : r->doubles ? 2 * l + b : l;
    int n = snprintf(name, cap, "w%u.%u.", from, layer);
    snprintf(name + n, cap - (size_t)n, find_kind(r, STACKED, "e") ? "%u" : "x", e);
}

static inline void add_sources(const struct random_rule *r, struct map_case *c)
{
    const struct axis *l = find_kind(r, STACKED, "l"), *e = find_kind(r, STACKED, "e");
    unsigned b_count = l && r->doubles ? 2 : 1;
    for (unsigned n = (l ? l->size : 1) * (e ? e->size : 1) * r->from_count * b_count; n-- > 0;) {
        unsigned rest = n, from = rest % r->from_count;
        char name[64], shape[128] = "F32";
        rest /= r->from_count;
        unsigned b = rest % b_count;
        rest /= b_count;
        source_name(r, name, sizeof name, from, rest % (l ? l->size : 1), b, rest / (l ? l->size : 1));
        for (unsigned i = 0; i < r->left_count;) {
            unsigned size = 1;
            do
                size *= source_size(r, &r->axes[r->left[i]], from);
            while (++i < r->left_count && !r->left_cut[i - 1]);
            snprintf(shape + strlen(shape), sizeof shape - strlen(shape), " %u", size);
        }
        case_source(c, name, shape);
    }
}

#endif
