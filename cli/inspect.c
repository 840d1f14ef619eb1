/* SPDX-License-Identifier: MIT */
/* tensorport inspect: what is in a checkpoint. Headers only, but for --tensor. */
#include "inspect.h"

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "json.h"
#include "line.h"
#include "parts.h"
#include "print.h"
#include "survey.h"
#include "text.h"

enum { PARTS_SHOWN = 40, NAME_WIDTH_MAX = INSPECT_NAME_WIDTH_MAX };

/* What is shown, counted and gathered beforehand. */
struct view {
    const struct inspect_args *args;
    const struct tp_checkpoint *ck;
    struct survey survey;
    struct parts parts;
    struct weights weights;
};

#define AT(member) offsetof(struct inspect_args, member)

static const struct option_row rows[] = {
    OPT_SECTION("What to show"),
    OPT_TEXT('t', "tensor", "NAME", tensor,
             "one tensor: dtype, shape, place, minimum, maximum, mean magnitude, NaN, Inf, zeros, first and last "
             "values; of a quantised weight also what belongs together. It may be the name that --dequantize gives it"),
    OPT_FLAG('a', "all", all,
             "every tensor, and every quantised weight, in a row of its own, instead of what is folded"),
    OPT_FLAG(0, "ignore-index", ignore_index,
             "read every .safetensors file of the folder, whatever model.safetensors.index.json says"),

    OPT_SECTION("Reporting"),
    OPT_JSON,
    OPT_HELP,
    OPT_END,
};

const char *inspect_file_of(const struct tp_checkpoint *ck, const struct tp_tensor *tensor)
{
    return tp_checkpoint_tensor_file(ck, tensor);
}

/* ---- words ---- */

/* "(19.1 B in mxfp4)", for the schemes that are there. */
static void add_parameters(struct line *l, const struct survey *survey)
{
    const char *open = " (";
    line_add(l, "%s parameters", text_about(survey->parameters).s);
    for (size_t i = 0; i < survey->row_count; i++) {
        if (!survey->rows[i].scheme)
            continue;
        line_add(l, "%s%s in %s", open, text_about(survey->rows[i].parameters).s, survey->rows[i].scheme);
        open = ", ";
    }
    line_add(l, "%s", *open == ',' ? ")" : "");
    if (survey->active_parameters)
        line_add(l, ", %s active a token", text_about(survey->active_parameters).s);
}

static void say_head(const struct view *v)
{
    const struct tp_checkpoint *ck = v->ck;
    struct line l;
    const struct tp_model_facts *facts = tp_checkpoint_facts(ck);
    const char *model = facts->architecture ? facts->architecture : facts->model_type;
    uint32_t files = tp_checkpoint_file_count(ck);
    uint32_t tensors = tp_checkpoint_tensor_count(ck);
    line_init(&l);
    line_add(&l, "%s  %s%s%s", text_name(tp_checkpoint_path(ck)).s, tp_checkpoint_format(ck), model ? ", " : "",
             model ? text_name(model).s : "");
    line_end(&l);
    line_add(&l, "  %s file%s, %s tensor%s, %s; ", text_count(files).s, text_s(files), text_count(tensors).s,
             text_s(tensors), text_size(v->survey.bytes).s);
    add_parameters(&l, &v->survey);
    line_end_words(&l);
    if (facts->expert_count) {
        line_add(&l, "  %s experts, %s a token", text_count(facts->expert_count).s,
                 facts->experts_per_token ? text_count(facts->experts_per_token).s : "unknown number");
        line_end_words(&l);
    }
    if (facts->quant_method) {
        line_add(&l, "  quantised: %s", text_name(facts->quant_method).s);
        line_end_words(&l);
    }
}

/* "(96 U8 tensors)": what the groups of a scheme are made of. */
static void add_members(struct line *l, const struct survey_row *row)
{
    uint64_t count = 0;
    const char *between = "  (";
    for (int d = 0; d < TP_DTYPE_COUNT; d++) {
        if (row->members[d] == 0)
            continue;
        line_add(l, "%s%s %s", between, text_count(row->members[d]).s, survey_dtype_name((enum tp_dtype)d));
        between = ", ";
        count = row->members[d];
    }
    line_add(l, " tensor%s)", text_s(count));
}

static double share_of(uint64_t part, uint64_t whole)
{
    return whole ? 100 * (double)part / (double)whole : 0;
}

static void say_dtypes(const struct survey *survey)
{
    struct line l;
    size_t width = 5;
    for (size_t i = 0; i < survey->row_count; i++) {
        size_t len = strlen(survey_row_name(&survey->rows[i]));
        width = len > width ? len : width;
    }
    line_init(&l);
    line_add(&l, "  %-*s  %9s  %8s   share", (int)width, "dtype", "tensors", "bytes");
    line_end(&l);
    for (size_t i = 0; i < survey->row_count; i++) {
        const struct survey_row *row = &survey->rows[i];
        line_add(&l, "  %-*s  %9s  %8s  %4.1f %%", (int)width, text_lower(survey_row_name(row)).s,
                 text_count(row->count).s, text_size(row->bytes).s, share_of(row->bytes, survey->bytes));
        if (row->scheme)
            add_members(&l, row);
        line_end(&l);
    }
}

static const char *tied_note(const struct tp_checkpoint *ck, const struct part *part)
{
    int tied = tp_checkpoint_facts(ck)->tie_word_embeddings;
    if (part->child || strcmp(part->name, "lm_head") != 0 || tied < 0)
        return "";
    return tied ? "  (tied to the embedding, yet stored)" : "  (not tied)";
}

static void say_parts(const struct tp_checkpoint *ck, const struct parts *parts)
{
    struct line l;
    size_t shown = parts->count < PARTS_SHOWN ? parts->count : PARTS_SHOWN;
    size_t width = 24;
    for (size_t i = 0; i < shown; i++) {
        size_t columns = text_columns(text_name(parts->rows[i].name).s) + (parts->rows[i].child ? 2 : 0);
        width = columns > width && columns <= NAME_WIDTH_MAX ? columns : width;
    }
    line_init(&l);
    line_add(&l, "  ");
    line_cell(&l, "part", width);
    line_add(&l, "%9s  %8s", "tensors", "bytes");
    line_end(&l);
    for (size_t i = 0; i < shown; i++) {
        const struct part *part = &parts->rows[i];
        line_add(&l, "%s", part->child ? "    " : "  ");
        line_cell(&l, text_name(part->name).s, part->child ? width - 2 : width);
        line_add(&l, "%9s  %8s%s", text_count(part->tensor_count).s, text_size(part->bytes).s, tied_note(ck, part));
        line_end(&l);
    }
    if (shown < parts->count) {
        line_add(&l, "  and %s more parts; --all lists every tensor", text_count(parts->count - shown).s);
        line_end_words(&l);
    }
}

static void say_tensors(const struct tp_checkpoint *ck)
{
    struct line l;
    size_t width = 6;
    uint32_t count = tp_checkpoint_tensor_count(ck);
    for (uint32_t i = 0; i < count; i++) {
        size_t columns = text_columns(text_name(tp_checkpoint_tensor(ck, i)->name).s);
        width = columns > width && columns <= NAME_WIDTH_MAX ? columns : width;
    }
    line_init(&l);
    line_add(&l, "  ");
    line_cell(&l, "tensor", width);
    line_add(&l, "%-8s  %-16s  %8s  file", "dtype", "shape", "bytes");
    line_end(&l);
    for (uint32_t i = 0; i < count; i++) {
        const struct tp_tensor *t = tp_checkpoint_tensor(ck, i);
        line_add(&l, "  ");
        line_cell(&l, text_name(t->name).s, width);
        line_add(&l, "%-8s  %-16s  %8s  %s", survey_dtype_name((enum tp_dtype)t->dtype),
                 text_shape(t->shape, t->rank).s, text_size(t->size_bytes).s, text_name(inspect_file_of(ck, t)).s);
        line_end(&l);
    }
}

static void say_all(struct view *v)
{
    struct line l;
    const struct tp_tensor *largest = v->survey.largest;
    say_head(v);
    if (v->weights.refused)
        inspect_say_refused("  --dequantize refuses it: ", v->weights.refused);
    if (v->survey.row_count)
        say_dtypes(&v->survey);
    if (v->weights.count)
        inspect_say_weights(&v->weights, v->args->all);
    if (v->args->all)
        say_tensors(v->ck);
    else if (v->parts.count)
        say_parts(v->ck, &v->parts);
    if (!largest)
        return;
    line_init(&l);
    line_add(&l, "  largest: %s  %s %s  %s", text_name(largest->name).s,
             survey_dtype_name((enum tp_dtype)largest->dtype), text_shape(largest->shape, largest->rank).s,
             text_size(largest->size_bytes).s);
    line_end(&l);
}

/* ---- --json ---- */

static void json_facts(struct json *j, const struct tp_model_facts *facts)
{
    json_open(j, "config", '{');
    json_text(j, "architecture", facts->architecture);
    json_text(j, "model_type", facts->model_type);
    json_text(j, "torch_dtype", facts->torch_dtype);
    json_text(j, "quant_method", facts->quant_method);
    if (facts->tie_word_embeddings < 0)
        json_null(j, "tie_word_embeddings");
    else
        json_bool(j, "tie_word_embeddings", facts->tie_word_embeddings > 0);
    json_count(j, "expert_count", facts->expert_count);
    json_count(j, "experts_per_token", facts->experts_per_token);
    json_close(j, '}');
}

static void json_dtypes(struct json *j, const struct survey *survey)
{
    json_open(j, "dtypes", '[');
    for (size_t i = 0; i < survey->row_count; i++) {
        const struct survey_row *row = &survey->rows[i];
        json_open(j, NULL, '{');
        json_text(j, row->scheme ? "scheme" : "dtype", survey_row_name(row));
        json_count(j, row->scheme ? "groups" : "tensors", row->count);
        json_count(j, "bytes", row->bytes);
        json_count(j, "parameters", row->parameters);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_files(struct json *j, const struct tp_checkpoint *ck)
{
    json_open(j, "files", '[');
    for (uint32_t i = 0; i < tp_checkpoint_file_count(ck); i++) {
        const struct tp_file_info *file = tp_checkpoint_file(ck, i);
        json_open(j, NULL, '{');
        json_text(j, "name", file->name);
        json_count(j, "bytes", file->size_bytes);
        json_count(j, "header_bytes", file->header_bytes);
        json_count(j, "tensors", file->tensor_count);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_parts(struct json *j, const struct parts *parts)
{
    json_open(j, "parts", '[');
    for (size_t i = 0; i < parts->count; i++) {
        const struct part *part = &parts->rows[i];
        json_open(j, NULL, '{');
        json_text(j, "name", part->name);
        json_bool(j, "within_previous", part->child);
        json_count(j, "tensors", part->tensor_count);
        json_count(j, "bytes", part->bytes);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void json_tensor(struct json *j, const struct tp_checkpoint *ck, const struct tp_tensor *t)
{
    json_open(j, NULL, '{');
    json_text(j, "name", t->name);
    json_text(j, "dtype", survey_dtype_name((enum tp_dtype)t->dtype));
    json_shape(j, "shape", t->shape, t->rank);
    json_count(j, "bytes", t->size_bytes);
    if (t->group != TP_NO_GROUP)
        json_text(j, "group", tp_checkpoint_group(ck, t->group)->scheme);
    json_open(j, "extents", '[');
    for (uint32_t i = 0; i < t->extent_count; i++) {
        const struct tp_extent *e = &t->extents[i];
        json_open(j, NULL, '{');
        const struct tp_file_info *file = tp_checkpoint_file(ck, e->file); /* a chunk may stand in the metadata */
        json_text(j, "file", file ? file->name : NULL);
        json_count(j, "offset", e->offset_bytes);
        json_count(j, "length", e->size_bytes);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_close(j, '}');
}

static void json_quantised(struct json *j, const struct view *v)
{
    json_open(j, "quantised", '{');
    json_text(j, "refused", v->weights.refused);
    json_open(j, "weights", '[');
    for (size_t i = 0; i < v->weights.count; i++)
        weight_json(j, NULL, v->ck, &v->weights.rows[i]);
    json_close(j, ']');
    json_close(j, '}');
}

static void json_lists(struct json *j, const struct view *v)
{
    json_open(j, "notes", '[');
    for (uint32_t i = 0; i < tp_checkpoint_note_count(v->ck); i++)
        json_text(j, NULL, tp_checkpoint_note(v->ck, i));
    json_close(j, ']');
    if (!v->args->all)
        return;
    json_open(j, "tensors", '[');
    for (uint32_t i = 0; i < tp_checkpoint_tensor_count(v->ck); i++)
        json_tensor(j, v->ck, tp_checkpoint_tensor(v->ck, i));
    json_close(j, ']');
}

static void json_all(const struct view *v)
{
    struct json j = {.out = stdout};
    const struct survey *survey = &v->survey;
    json_open(&j, NULL, '{');
    json_text(&j, "path", tp_checkpoint_path(v->ck));
    json_text(&j, "format", tp_checkpoint_format(v->ck));
    json_count(&j, "tensor_count", tp_checkpoint_tensor_count(v->ck));
    json_count(&j, "bytes", survey->bytes);
    json_count(&j, "parameters", survey->parameters);
    if (survey->active_parameters)
        json_count(&j, "active_parameters", survey->active_parameters);
    json_text(&j, "largest", survey->largest ? survey->largest->name : NULL);
    json_facts(&j, tp_checkpoint_facts(v->ck));
    json_dtypes(&j, survey);
    json_quantised(&j, v);
    json_files(&j, v->ck);
    json_parts(&j, &v->parts);
    json_lists(&j, v);
    json_close(&j, '}');
    putchar('\n');
}

/* ---- the run ---- */

static int inspect_checkpoint(const struct inspect_args *args, const struct tp_checkpoint *ck)
{
    struct view v = {.args = args, .ck = ck};
    int code = 0;
    bool taken = parts_take(&v.parts, ck);
    if (taken && weights_take(&v.weights, ck)) {
        survey_take(&v.survey, ck);
        if (args->json)
            json_all(&v);
        else
            say_all(&v);
    } else {
        code = print_out_of_memory();
    }
    weights_release(&v.weights);
    if (taken)
        parts_release(&v.parts);
    return code;
}

static int inspect_run(const void *args_)
{
    const struct inspect_args *args = args_;
    struct tp_open_options options = {.ignore_index = args->ignore_index};
    struct tp_checkpoint *ck = NULL;
    struct tp_error err;
    if (!args->path)
        return print_usage_error("inspect needs a path; for example: tensorport inspect MODEL");
    if (tp_checkpoint_open(&ck, args->path, &options, &err) != TP_OK)
        return print_error(&err);
    print_checkpoint_notes(ck);
    int code = args->tensor ? inspect_tensor(args, ck) : inspect_checkpoint(args, ck);
    tp_checkpoint_close(ck);
    return code;
}

const struct command command_inspect = {
    .name = "inspect",
    .synopsis = "inspect PATH [options]",
    .summary = "show what a checkpoint holds",
    .description =
        "Shows files, tensors, dtypes, parameters and sizes of a safetensors or Orbax checkpoint or of an output of "
        "TensorPort. "
        "Only headers are read. Layers that repeat fold into one row. Parameters are logical ones: codes of a "
        "quantised tensor count as the values that they stand for. Quantised weights are listed with the name and the "
        "shape that convert --dequantize gives them, or with the reason why it refuses them.",
    .examples = "  tensorport inspect models/gpt-oss-20b\n"
                "  tensorport inspect models/llama-jax --tensor model.norm.weight\n"
                "  tensorport inspect model.safetensors --json --all\n",
    .operand = "PATH",
    .operand_help = "a folder or a .safetensors file",
    .operand_offset = offsetof(struct inspect_args, path),
    .options = rows,
    .args_size = sizeof(struct inspect_args),
    .run = inspect_run,
};
