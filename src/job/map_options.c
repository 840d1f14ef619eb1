/* SPDX-License-Identifier: MIT */
/* What a map says of its target's loader, as options of a conversion. */
#include <string.h>

#include "base/status.h"
#include "map/rule.h"
#include "tensorport/convert.h"
#include "tensorport/text.h"

struct word {
    const char *text;
    int value;
};

static const struct word formats[] = {{"msgpack", TP_OUTPUT_FLAX_MSGPACK},
                                      {"safetensors", TP_OUTPUT_SAFETENSORS},
                                      {"orbax", TP_OUTPUT_ORBAX},
                                      {"jax", TP_OUTPUT_JAX}};
static const struct word precisions[] = {{"float16", TP_PRECISION_FLOAT16},
                                         {"float32", TP_PRECISION_FLOAT32},
                                         {"bfloat16", TP_PRECISION_BFLOAT16},
                                         {"keep", TP_PRECISION_KEEP}};
static const struct word oversizes[] = {
    {"split", TP_OVERSIZE_SPLIT}, {"own-shard", TP_OVERSIZE_OWN_SHARD}, {"error", TP_OVERSIZE_ERROR}};
static const struct word trees[] = {{"flat", TP_TREE_FLAT}, {"nested", TP_TREE_NESTED}, {"lists", TP_TREE_LISTS}};
static const struct word layouts[] = {{"v0", TP_ORBAX_V0}, {"v1", TP_ORBAX_V1}};

/* A member of "output" that is one of some words. */
struct choice {
    const char *member, *text; /* NULL: the map does not say */
    const struct word *words;
    size_t count;
};

static enum tp_status choose(int *value, const struct choice *c, const struct tp_map *map, struct tp_error *err)
{
    char shown[64];
    for (size_t i = 0; c->text && i < c->count; i++) {
        if (strcmp(c->words[i].text, c->text) == 0) {
            *value = c->words[i].value;
            return TP_OK;
        }
    }
    if (!c->text)
        return TP_OK;
    tp_fail(err, TP_ERR_FORMAT, "\"output\": there is no %s '%s'", c->member,
            tp_text_printable(shown, sizeof shown, c->text, strlen(c->text)));
    return tp_err_path(err, TP_ERR_FORMAT, map->name);
}

/* Of Orbax alone. */
static void take_orbax(struct tp_orbax_options *orbax, const struct tp_map_output *said, unsigned given)
{
    if (said->has_step && !(given & TP_GIVEN_STEP)) {
        orbax->has_step = true;
        orbax->step = said->step;
    }
    if (said->item && !(given & TP_GIVEN_ITEM))
        orbax->item = said->item;
    if (said->zarr3 && !(given & TP_GIVEN_ZARR3))
        orbax->zarr3 = true;
}

static enum tp_status take_output(struct tp_convert_options *o, unsigned given, struct tp_error *err)
{
    const struct tp_map_output *said = tp_map_output_of(o->map);
    int format = (int)o->format, precision = (int)o->precision, oversize = (int)o->oversize, tree = (int)o->tree,
        layout = (int)o->orbax.layout;
    const struct {
        int *value;
        unsigned given;
        struct choice choice;
    } rows[] = {
        {&format, TP_GIVEN_FORMAT, {"format", said->format, formats, TP_COUNT_OF(formats)}},
        {&precision, TP_GIVEN_PRECISION, {"precision", said->precision, precisions, TP_COUNT_OF(precisions)}},
        {&oversize, TP_GIVEN_OVERSIZE, {"oversize", said->oversize, oversizes, TP_COUNT_OF(oversizes)}},
        {&tree, TP_GIVEN_TREE, {"tree", said->tree, trees, TP_COUNT_OF(trees)}},
        {&layout, TP_GIVEN_ORBAX_LAYOUT, {"orbax_layout", said->orbax_layout, layouts, TP_COUNT_OF(layouts)}},
    };
    if (!(given & TP_GIVEN_PRECISION))
        precision = TP_PRECISION_KEEP;
    for (size_t i = 0; i < TP_COUNT_OF(rows); i++) {
        int value = *rows[i].value;
        enum tp_status st = choose(&value, &rows[i].choice, o->map, err);
        if (st)
            return st;
        if (!(given & rows[i].given))
            *rows[i].value = value;
    }
    o->format = (enum tp_output_format)format;
    o->precision = (enum tp_precision)precision;
    o->tree = (enum tp_tree)tree;
    if (o->format == TP_OUTPUT_ORBAX) {
        o->orbax.layout = (enum tp_orbax_layout)layout;
        take_orbax(&o->orbax, said, given);
    }
    if (o->format == TP_OUTPUT_FLAX_MSGPACK || o->format == TP_OUTPUT_SAFETENSORS)
        o->oversize = (enum tp_oversize)oversize;
    if (said->wrap && !(given & TP_GIVEN_WRAP) && o->format != TP_OUTPUT_SAFETENSORS)
        o->wrap = said->wrap;
    return TP_OK;
}

enum tp_status tp_convert_options_take_map(struct tp_convert_options *options, unsigned given, struct tp_error *err)
{
    if (!options->map)
        return TP_OK;
    if (!options->reverse)
        return take_output(options, given, err);
    if (!(given & TP_GIVEN_FORMAT))
        options->format = TP_OUTPUT_SAFETENSORS;
    if (!(given & TP_GIVEN_PRECISION))
        options->precision = TP_PRECISION_KEEP;
    return TP_OK;
}
