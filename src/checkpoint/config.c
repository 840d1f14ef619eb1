/* SPDX-License-Identifier: MIT */
/* The few facts of config.json that help: streamed, so that any size costs nothing, and never an error, since a
 * checkpoint is its tensors. Which key in which object says what is one table. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/json_file.h"

/* Objects that are looked into. A fact of an earlier one counts more. */
enum section { ROOT, TEXT, QUANT, GROUPS, GROUP, WEIGHTS, SECTION_COUNT, NO_SECTION };

static const struct {
    enum section in;
    const char *key; /* NULL: any */
    enum section to;
} doors[] = {
    {ROOT, "text_config", TEXT},          {ROOT, "quantization_config", QUANT},
    {TEXT, "quantization_config", QUANT}, {ROOT, "compression_config", QUANT},
    {ROOT, "quantization", QUANT}, /* MLX, and hf_quant_config.json */
    {QUANT, "config_groups", GROUPS},     {GROUPS, NULL, GROUP},
    {GROUP, "weights", WEIGHTS},
};

enum fact {
    ARCHITECTURE,
    MODEL_TYPE,
    TORCH_DTYPE,
    QUANT_METHOD,
    QUANT_ALGO,
    TIED,
    EXPERTS,
    EXPERTS_PER_TOKEN,
    BITS,
    GROUP_SIZE,
    FACT_COUNT
};

static const struct {
    enum section in;
    const char *key;
    enum fact fact;
} rows[] = {
    {ROOT, "architectures", ARCHITECTURE},
    {ROOT, "model_type", MODEL_TYPE},
    {ROOT, "torch_dtype", TORCH_DTYPE},
    {ROOT, "dtype", TORCH_DTYPE},
    {TEXT, "torch_dtype", TORCH_DTYPE},
    {TEXT, "dtype", TORCH_DTYPE},
    {QUANT, "quant_method", QUANT_METHOD},
    {QUANT, "quant_algo", QUANT_ALGO},
    {ROOT, "tie_word_embeddings", TIED},
    {TEXT, "tie_word_embeddings", TIED},
    {ROOT, "num_local_experts", EXPERTS},
    {ROOT, "num_experts", EXPERTS},
    {ROOT, "n_routed_experts", EXPERTS},
    {TEXT, "num_local_experts", EXPERTS},
    {TEXT, "num_experts", EXPERTS},
    {TEXT, "n_routed_experts", EXPERTS},
    {ROOT, "num_experts_per_tok", EXPERTS_PER_TOKEN},
    {ROOT, "experts_per_token", EXPERTS_PER_TOKEN},
    {TEXT, "num_experts_per_tok", EXPERTS_PER_TOKEN},
    {TEXT, "experts_per_token", EXPERTS_PER_TOKEN},
    {QUANT, "bits", BITS},
    {WEIGHTS, "num_bits", BITS},
    {QUANT, "group_size", GROUP_SIZE},
    {WEIGHTS, "group_size", GROUP_SIZE},
};

struct found { /* one fact, not yet believed: the file may turn out to be malformed */
    bool known;
    enum section in;
    const char *text;
    uint64_t number;
};

struct config {
    struct tp_checkpoint *ck;
    struct tp_json *json;
    struct found facts[FACT_COUNT];
};

static bool key_is(const struct tp_json_token *key, const char *text)
{
    return key->len == strlen(text) && memcmp(key->text, text, key->len) == 0;
}

static enum section door(enum section in, const struct tp_json_token *key)
{
    for (size_t i = 0; i < TP_COUNT_OF(doors); i++)
        if (doors[i].in == in && (!doors[i].key || key_is(key, doors[i].key)))
            return doors[i].to;
    return NO_SECTION;
}

static enum tp_status take_fact(struct config *c, enum fact fact, enum section in, const struct tp_json_token *value,
                                struct tp_error *err)
{
    struct found *f = &c->facts[fact];
    bool is_text = value->type == TP_JSON_STRING && !value->has_nul && !value->cut;
    bool is_truth = value->type == TP_JSON_TRUE || value->type == TP_JSON_FALSE;
    if ((f->known && f->in <= in) || (fact <= QUANT_ALGO ? !is_text
                                      : fact == TIED     ? !is_truth
                                                         : value->type != TP_JSON_UINT))
        return TP_OK;
    *f = (struct found){.known = true,
                        .in = in,
                        .number = is_truth ? value->type == TP_JSON_TRUE : value->uint_value,
                        .text = is_text ? tp_arena_strndup(&c->ck->arena, value->text, value->len) : ""};
    return f->text ? TP_OK : tp_fail_nomem(err);
}

/* The value of a key that is a fact. Of a list (architectures) the first item counts. */
static enum tp_status read_fact(struct config *c, enum fact fact, enum section in, struct tp_json_token *value,
                                struct tp_error *err)
{
    if (fact != ARCHITECTURE || value->type != TP_JSON_ARRAY_BEGIN) {
        enum tp_status status = take_fact(c, fact, in, value, err);
        return status ? status : tp_json_skip(c->json, value, err);
    }
    bool first = true;
    for (;;) {
        enum tp_status status = tp_json_next(c->json, value, err);
        if (status || value->type == TP_JSON_ARRAY_END)
            return status;
        if (first)
            status = take_fact(c, fact, in, value, err);
        if (!status)
            status = tp_json_skip(c->json, value, err);
        if (status)
            return status;
        first = false;
    }
}

/* The members of one object, after its '{'. It opens other sections, never its own kind: at most five levels. */
static enum tp_status read_section(struct config *c, enum section in, struct tp_error *err)
{
    struct tp_json_token token;
    enum tp_status status = TP_OK;
    while (!status) {
        status = tp_json_next(c->json, &token, err);
        if (status || token.type == TP_JSON_OBJECT_END)
            break;
        enum section to = door(in, &token);
        enum fact fact = FACT_COUNT;
        for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
            if (rows[i].in == in && key_is(&token, rows[i].key))
                fact = rows[i].fact;
        status = tp_json_next(c->json, &token, err);
        if (status)
            break;
        if (to != NO_SECTION && token.type == TP_JSON_OBJECT_BEGIN)
            status = read_section(c, to, err);
        else if (fact != FACT_COUNT)
            status = read_fact(c, fact, in, &token, err);
        else
            status = tp_json_skip(c->json, &token, err);
    }
    return status;
}

static enum tp_status read_all(struct config *c, struct tp_error *err)
{
    struct tp_json_token token;
    enum tp_status status = tp_json_expect(c->json, TP_JSON_OBJECT_BEGIN, "the whole", &token, err);
    if (!status)
        status = read_section(c, ROOT, err);
    return status ? status : tp_json_next(c->json, &token, err);
}

/* Read `name` beside the checkpoint into c->facts; without effect if it is not there, with a note if it is bad. */
static enum tp_status read_file(struct config *c, const char *name, struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    struct tp_error why = {.code = TP_OK};
    struct tp_json_file file = {.fd = -1};
    char *path = tp_path_join(c->ck->folder, name);
    if (!path)
        return tp_fail_nomem(err);
    enum tp_status status = tp_path_kind_of(&kind, path, &why);
    if (!status && kind == TP_PATH_ABSENT) {
        free(path);
        return TP_OK;
    }
    if (!status)
        status = tp_json_file_open(&file, path, "text", TP_HEADER_MAX_BYTES, &why);
    c->json = file.json;
    if (!status)
        status = read_all(c, &why);
    tp_json_file_close(&file);
    free(path);
    if (!status)
        return TP_OK;
    memset(c->facts, 0, sizeof c->facts);
    return status == TP_ERR_NOMEM ? tp_fail_nomem(err)
                                  : tp_checkpoint_note_add(c->ck, err, "%s is ignored: %s", name, why.message);
}

static const char *text_of(const struct config *c, enum fact fact)
{
    return c->facts[fact].known ? c->facts[fact].text : NULL;
}

/* Heads that are tied are rightly absent; others are missed. */
static enum tp_status note_tied(struct tp_checkpoint *ck, struct tp_error *err)
{
    const char *architecture = ck->facts.architecture ? ck->facts.architecture : "";
    bool has_head = tp_checkpoint_find(ck, "lm_head.weight") != NULL;
    if (!tp_checkpoint_find(ck, "model.embed_tokens.weight"))
        return TP_OK;
    if (ck->facts.tie_word_embeddings == 1 && has_head)
        return tp_checkpoint_note_add(ck, err,
                                      "lm_head.weight is present although config.json says tie_word_embeddings");
    if (ck->facts.tie_word_embeddings == 0 && !has_head && tp_name_ends(architecture, "ForCausalLM"))
        return tp_checkpoint_note_add(ck, err,
                                      "lm_head.weight is absent although config.json says that it is not tied");
    return TP_OK;
}

enum tp_status tp_checkpoint_read_config(struct tp_checkpoint *ck, struct tp_error *err)
{
    struct config c = {.ck = ck};
    enum tp_status status = read_file(&c, "config.json", err);
    if (status)
        return status;
    ck->facts = (struct tp_model_facts){
        .architecture = text_of(&c, ARCHITECTURE),
        .model_type = text_of(&c, MODEL_TYPE),
        .torch_dtype = text_of(&c, TORCH_DTYPE),
        .quant_method = text_of(&c, QUANT_METHOD),
        .tie_word_embeddings = c.facts[TIED].known ? (int)c.facts[TIED].number : -1,
        .expert_count = c.facts[EXPERTS].number,
        .experts_per_token = c.facts[EXPERTS_PER_TOKEN].number,
    };
    if (!ck->facts.quant_method && !c.facts[BITS].known) /* modelopt may say it in a file of its own */
        status = read_file(&c, "hf_quant_config.json", err);
    if (!ck->facts.quant_method && c.facts[QUANT_ALGO].known)
        ck->facts.quant_method = "modelopt";
    ck->quant = (struct tp_quant_facts){.bits = c.facts[BITS].number, .group_size = c.facts[GROUP_SIZE].number};
    return status ? status : note_tied(ck, err);
}
