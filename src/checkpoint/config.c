/* SPDX-License-Identifier: MIT */
/* The few facts of config.json that help: streamed, so that any size costs nothing, and never an error, since a
 * checkpoint is its tensors. Which key in which object says what is one table. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/json_file.h"

/* Objects that are looked into. A fact of an earlier one counts more. */
enum section { ROOT, TEXT, QUANT, META, GROUPS, GROUP, WEIGHTS, SECTION_COUNT, NO_SECTION };

static const struct {
    enum section in;
    const char *key; /* NULL: any */
    enum section to;
} doors[] = {
    {ROOT, "text_config", TEXT},
    {ROOT, "quantization_config", QUANT},
    {TEXT, "quantization_config", QUANT},
    {ROOT, "compression_config", QUANT},
    {ROOT, "quantization", QUANT}, /* MLX, and hf_quant_config.json */
    {QUANT, "meta", META},
    {QUANT, "config_groups", GROUPS},
    {GROUPS, NULL, GROUP},
    {GROUP, "weights", WEIGHTS},
};

/* In the order of their kinds, see kind_of. */
enum fact {
    ARCHITECTURE,
    MODEL_TYPE,
    TORCH_DTYPE,
    QUANT_METHOD,
    QUANT_ALGO,
    FORMAT,
    GROUP_FORMAT,
    GPTQ_FORMAT,
    VERSION,
    QUANTIZER,
    TIED,
    ZERO_POINT,
    PLANAR,
    MARLIN,
    EXPERTS,
    EXPERTS_PER_TOKEN,
    BITS,
    GROUP_SIZE,
    BLOCK,
    FACT_COUNT
};

enum kind { A_TEXT, A_TRUTH, A_NUMBER, A_PAIR };

static enum kind kind_of(enum fact fact)
{
    return fact < TIED ? A_TEXT : fact < EXPERTS ? A_TRUTH : fact < BLOCK ? A_NUMBER : A_PAIR;
}

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
    {QUANT, "format", FORMAT},
    {GROUP, "format", GROUP_FORMAT},
    {QUANT, "checkpoint_format", GPTQ_FORMAT},
    {QUANT, "version", VERSION},
    {META, "quantizer", QUANTIZER},
    {QUANT, "zero_point", ZERO_POINT},
    {QUANT, "planar", PLANAR},
    {META, "planar", PLANAR},
    {QUANT, "is_marlin_format", MARLIN},
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
    {QUANT, "weight_block_size", BLOCK},
    {WEIGHTS, "block_structure", BLOCK},
};

struct found { /* one fact, not yet believed: the file may turn out to be malformed */
    bool known;
    enum section in;
    const char *text;
    uint64_t number, second; /* `second` of a pair */
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

/* An earlier section counts more, and in one section the first. */
static bool is_news(const struct config *c, enum fact fact, enum section in)
{
    return !c->facts[fact].known || in < c->facts[fact].in;
}

/* "-1" is how a group that is the whole row is written. */
static bool fits_kind(const struct tp_json_token *value, enum kind kind)
{
    switch (kind) {
    case A_TEXT:
        return value->type == TP_JSON_STRING && !value->has_nul && !value->cut;
    case A_TRUTH:
        return value->type == TP_JSON_TRUE || value->type == TP_JSON_FALSE;
    case A_NUMBER:
        return value->type == TP_JSON_UINT || (value->type == TP_JSON_NUMBER && strcmp(value->text, "-1") == 0);
    default:
        return false;
    }
}

static enum tp_status take_fact(struct config *c, enum fact fact, enum section in, const struct tp_json_token *value,
                                struct tp_error *err)
{
    enum kind kind = kind_of(fact);
    if (!is_news(c, fact, in) || !fits_kind(value, kind))
        return TP_OK;
    struct found f = {.known = true, .in = in, .text = ""};
    if (kind == A_TEXT)
        f.text = tp_arena_strndup(&c->ck->arena, value->text, value->len);
    else
        f.number = value->type == TP_JSON_UINT ? value->uint_value : value->type == TP_JSON_TRUE;
    c->facts[fact] = f;
    return f.text ? TP_OK : tp_fail_nomem(err);
}

/* After its '['. Of a list of texts (architectures) the first item counts; a pair is a list of just two numbers. */
static enum tp_status read_list(struct config *c, enum fact fact, enum section in, struct tp_json_token *value,
                                struct tp_error *err)
{
    uint64_t pair[2] = {0, 0}, count = 0;
    bool numbers = true;
    for (;; count++) {
        enum tp_status status = tp_json_next(c->json, value, err);
        if (status)
            return status;
        if (value->type == TP_JSON_ARRAY_END)
            break;
        if (value->type == TP_JSON_UINT && count < 2)
            pair[count] = value->uint_value;
        else
            numbers = false;
        if (count == 0 && kind_of(fact) == A_TEXT)
            status = take_fact(c, fact, in, value, err);
        if (!status)
            status = tp_json_skip(c->json, value, err);
        if (status)
            return status;
    }
    if (kind_of(fact) == A_PAIR && numbers && count == 2 && is_news(c, fact, in))
        c->facts[fact] = (struct found){.known = true, .in = in, .text = "", .number = pair[0], .second = pair[1]};
    return TP_OK;
}

/* The value of a key that is a fact. */
static enum tp_status read_fact(struct config *c, enum fact fact, enum section in, struct tp_json_token *value,
                                struct tp_error *err)
{
    bool may_be_list = fact == ARCHITECTURE || fact == QUANTIZER || kind_of(fact) == A_PAIR;
    if (may_be_list && value->type == TP_JSON_ARRAY_BEGIN)
        return read_list(c, fact, in, value, err);
    enum tp_status status = take_fact(c, fact, in, value, err);
    return status ? status : tp_json_skip(c->json, value, err);
}

/* The members of one object, after its '{'. It opens other sections, never its own kind: at most six levels. */
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
    char *path = tp_path_join(c->ck->side_folder ? c->ck->side_folder : c->ck->folder, name);
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

/* modelopt may say it in a file of its own, which then counts where config.json is silent. */
static enum tp_status read_modelopt(struct config *c, struct tp_error *err)
{
    const char *method = c->facts[QUANT_METHOD].known ? c->facts[QUANT_METHOD].text : NULL;
    if (method ? strcmp(method, "modelopt") != 0 : c->facts[BITS].known && !c->facts[QUANT_ALGO].known)
        return TP_OK;
    struct config own = {.ck = c->ck};
    enum tp_status status = read_file(&own, "hf_quant_config.json", err);
    for (size_t i = 0; i < FACT_COUNT; i++)
        if (!c->facts[i].known && own.facts[i].in >= QUANT) /* of quantisation alone */
            c->facts[i] = own.facts[i];
    return status;
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

static int truth_of(const struct config *c, enum fact fact)
{
    return c->facts[fact].known ? (int)c->facts[fact].number : -1;
}

static void keep_model_facts(const struct config *c)
{
    c->ck->facts = (struct tp_model_facts){
        .architecture = text_of(c, ARCHITECTURE),
        .model_type = text_of(c, MODEL_TYPE),
        .torch_dtype = text_of(c, TORCH_DTYPE),
        .quant_method = text_of(c, QUANT_METHOD),
        .tie_word_embeddings = truth_of(c, TIED),
        .expert_count = c->facts[EXPERTS].number,
        .experts_per_token = c->facts[EXPERTS_PER_TOKEN].number,
    };
    if (!c->ck->facts.quant_method && c->facts[QUANT_ALGO].known)
        c->ck->facts.quant_method = "modelopt";
}

static void keep_quant_facts(const struct config *c)
{
    const char *method = c->ck->facts.quant_method;
    enum fact format = c->facts[GROUP_FORMAT].known ? GROUP_FORMAT : FORMAT;
    /* early writers of GPTQ called it as everybody does */
    enum fact gptq_format =
        !c->facts[GPTQ_FORMAT].known && method && strcmp(method, "gptq") == 0 ? FORMAT : GPTQ_FORMAT;
    c->ck->quant = (struct tp_quant_facts){
        .bits = c->facts[BITS].number,
        .group_size = c->facts[GROUP_SIZE].number,
        .block_rows = c->facts[BLOCK].number,
        .block_columns = c->facts[BLOCK].second,
        .method = method,
        .algo = text_of(c, QUANT_ALGO),
        .format = text_of(c, format),
        .checkpoint_format = text_of(c, gptq_format),
        .version = text_of(c, VERSION),
        .quantizer = text_of(c, QUANTIZER),
        .zero_point = truth_of(c, ZERO_POINT),
        .planar = truth_of(c, PLANAR),
        .is_marlin = truth_of(c, MARLIN),
    };
}

enum tp_status tp_checkpoint_read_config(struct tp_checkpoint *ck, struct tp_error *err)
{
    struct config c = {.ck = ck};
    enum tp_status status = read_file(&c, "config.json", err);
    if (!status)
        status = read_modelopt(&c, err);
    if (status)
        return status;
    keep_model_facts(&c);
    keep_quant_facts(&c);
    return note_tied(ck, err);
}
