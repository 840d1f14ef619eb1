/* SPDX-License-Identifier: MIT */
/* The few facts of config.json that help: streamed, so that any size costs nothing, and never an error, since a
 * checkpoint is its tensors. Which key in which object says what is one table. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/json_file.h"

/* Objects that are looked into. A fact of an earlier one counts more. */
enum section {
    ROOT,
    TEXT,
    QUANT,
    META,
    GROUPS,
    GROUP,
    WEIGHTS,
    OVERRIDES,
    OVERRIDE,
    LAYERS,
    LAYER,
    SECTION_COUNT,
    NO_SECTION
};

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
    {QUANT, "dynamic", OVERRIDES}, /* of GPTQModel */
    {OVERRIDES, NULL, OVERRIDE},
    {QUANT, "quantized_layers", LAYERS}, /* of modelopt */
    {LAYERS, NULL, LAYER},
};

/* In the order of their kinds, see kind_of. */
enum fact {
    ARCHITECTURE,
    MODEL_TYPE,
    TORCH_DTYPE,
    QUANT_METHOD,
    QUANT_ALGO,
    FORMAT,
    STRATEGY,
    GPTQ_FORMAT,
    VERSION,
    QUANTIZER,
    TIED,
    ZERO_POINT,
    PLANAR,
    MARLIN,
    SYM,
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
    {GROUP, "format", FORMAT},
    {QUANT, "checkpoint_format", GPTQ_FORMAT},
    {QUANT, "version", VERSION},
    {META, "quantizer", QUANTIZER},
    {QUANT, "zero_point", ZERO_POINT},
    {QUANT, "planar", PLANAR},
    {META, "planar", PLANAR},
    {QUANT, "is_marlin_format", MARLIN},
    {QUANT, "sym", SYM},
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
    {WEIGHTS, "strategy", STRATEGY},
    {OVERRIDE, "bits", BITS},
    {OVERRIDE, "group_size", GROUP_SIZE},
    {OVERRIDE, "sym", SYM},
    {LAYER, "quant_algo", QUANT_ALGO},
    {LAYER, "group_size", GROUP_SIZE},
};

struct found { /* one fact, not yet believed: the file may turn out to be malformed */
    bool known;
    enum section in;
    const char *text;
    uint64_t number, second; /* `second` of a pair */
};

/* A way of quantising as it is listed. What an override does not say is as everywhere. */
struct listed {
    enum section in;
    bool has_group_size;
    struct tp_quant_way way;
};

struct config {
    struct tp_checkpoint *ck;
    struct tp_json *json;
    struct found facts[FACT_COUNT];
    struct found *into; /* `facts`, or those of the way that is being read */
    struct listed ways[TP_QUANT_WAYS_MAX];
    size_t way_count;
    bool has_more_ways;
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
    return !c->into[fact].known || in < c->into[fact].in;
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

/* Of those that the ways have: a list of a million ways says the same few words. */
static const char *known_text(const struct config *c, const struct tp_json_token *value)
{
    for (size_t i = 0; i < c->way_count; i++) {
        const char *const texts[] = {c->ways[i].way.strategy, c->ways[i].way.format, c->ways[i].way.algo};
        for (size_t k = 0; k < TP_COUNT_OF(texts); k++)
            if (texts[k] && key_is(value, texts[k]))
                return texts[k];
    }
    return NULL;
}

static enum tp_status take_fact(struct config *c, enum fact fact, enum section in, const struct tp_json_token *value,
                                struct tp_error *err)
{
    enum kind kind = kind_of(fact);
    if (!is_news(c, fact, in) || !fits_kind(value, kind))
        return TP_OK;
    struct found f = {.known = true, .in = in, .text = ""};
    if (kind == A_TEXT) {
        const char *known = known_text(c, value);
        f.text = known ? known : tp_arena_strndup(&c->ck->arena, value->text, value->len);
    } else {
        f.number = value->type == TP_JSON_UINT ? value->uint_value : value->type == TP_JSON_TRUE;
    }
    c->into[fact] = f;
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
        c->into[fact] = (struct found){.known = true, .in = in, .text = "", .number = pair[0], .second = pair[1]};
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

/* ---- ways of quantising ---- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_way(const struct tp_quant_way *a, const struct tp_quant_way *b)
{
    return a->bits == b->bits && a->group_size == b->group_size && a->block_rows == b->block_rows &&
           a->block_columns == b->block_columns && a->sym == b->sym && same_text(a->strategy, b->strategy) &&
           same_text(a->format, b->format) && same_text(a->algo, b->algo);
}

static const char *text_in(const struct found *facts, enum fact fact)
{
    return facts[fact].known ? facts[fact].text : NULL;
}

static int truth_in(const struct found *facts, enum fact fact)
{
    return facts[fact].known ? (int)facts[fact].number : -1;
}

static struct tp_quant_way way_in(const struct found *facts)
{
    return (struct tp_quant_way){
        .bits = facts[BITS].number,
        .group_size = facts[GROUP_SIZE].number,
        .block_rows = facts[BLOCK].number,
        .block_columns = facts[BLOCK].second,
        .strategy = text_in(facts, STRATEGY),
        .format = text_in(facts, FORMAT),
        .algo = text_in(facts, QUANT_ALGO),
        .sym = truth_in(facts, SYM),
    };
}

static void list_way(struct config *c, const struct listed *listed)
{
    for (size_t i = 0; i < c->way_count; i++)
        if (c->ways[i].in == listed->in && c->ways[i].has_group_size == listed->has_group_size &&
            same_way(&c->ways[i].way, &listed->way))
            return;
    if (c->way_count == TP_COUNT_OF(c->ways))
        c->has_more_ways = true;
    else
        c->ways[c->way_count++] = *listed;
}

static enum tp_status read_section(struct config *c, enum section in, struct tp_error *err);

/* A config group, an override or a layer, after its '{': listed if it says anything. */
static enum tp_status read_way(struct config *c, enum section in, struct tp_error *err)
{
    struct found facts[FACT_COUNT] = {{.known = false}};
    bool says = false;
    c->into = facts;
    enum tp_status status = read_section(c, in, err);
    c->into = c->facts;
    for (size_t i = 0; i < FACT_COUNT; i++)
        says = says || facts[i].known;
    if (!status && says)
        list_way(c, &(struct listed){in, facts[GROUP_SIZE].known, way_in(facts)});
    return status;
}

/* "-:regex" is how GPTQModel leaves modules as they are: not a way of quantising. */
static bool is_skipped(enum section to, const struct tp_json_token *key)
{
    return to == OVERRIDE && key->len >= 2 && memcmp(key->text, "-:", 2) == 0;
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
        if (is_skipped(to, &token))
            to = NO_SECTION;
        enum fact fact = FACT_COUNT;
        for (size_t i = 0; i < TP_COUNT_OF(rows); i++)
            if (rows[i].in == in && key_is(&token, rows[i].key))
                fact = rows[i].fact;
        status = tp_json_next(c->json, &token, err);
        if (status)
            break;
        if (to != NO_SECTION && token.type == TP_JSON_OBJECT_BEGIN)
            status = to == GROUP || to == OVERRIDE || to == LAYER ? read_way(c, to, err) : read_section(c, to, err);
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
    c->into = c->facts;
    if (!status) {
        tp_json_allow_constants(c->json);
        status = read_all(c, &why);
    }
    tp_json_file_close(&file);
    free(path);
    if (!status)
        return TP_OK;
    memset(c->facts, 0, sizeof c->facts);
    c->way_count = 0;
    c->has_more_ways = false;
    if (status != TP_ERR_NOMEM && status != TP_ERR_IO)
        return tp_checkpoint_note_add(c->ck, err, "%s is ignored: %s", name, why.message);
    if (err)
        *err = why;
    return status;
}

#define CONFIG_TEXT_MAX ((uint64_t)4 << 20)

static enum tp_status read_text(char **text, size_t *len, const char *path, struct tp_error *err)
{
    int fd = -1;
    struct tp_file_id id;
    enum tp_status status = tp_file_open_read(&fd, path, &id, err);
    if (!status && id.size_bytes > CONFIG_TEXT_MAX)
        status = tp_err_path(err, tp_fail(err, TP_ERR_LIMIT, "has more than 4 MiB, which no map needs"), path);
    if (!status && !(*text = malloc((size_t)id.size_bytes + 1)))
        status = tp_fail_nomem(err);
    if (!status) {
        *len = (size_t)id.size_bytes;
        status = tp_file_read_at(fd, *text, *len, 0, path, err);
    }
    tp_fd_close(fd);
    return status;
}

enum tp_status tp_checkpoint_config_text(const struct tp_checkpoint *ck, char **text, size_t *len, struct tp_error *err)
{
    enum tp_path_kind kind = TP_PATH_ABSENT;
    *text = NULL;
    *len = 0;
    char *path = tp_path_join(ck->side_folder ? ck->side_folder : ck->folder, "config.json");
    enum tp_status status = path ? tp_path_kind_of(&kind, path, err) : tp_fail_nomem(err);
    if (!status && kind != TP_PATH_ABSENT)
        status = read_text(text, len, path, err);
    free(path);
    if (status) {
        free(*text);
        *text = NULL;
    }
    return status;
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
    for (size_t i = 0; i < own.way_count; i++)
        list_way(c, &own.ways[i]);
    c->has_more_ways = c->has_more_ways || own.has_more_ways;
    return status;
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

static void keep_model_facts(const struct config *c)
{
    c->ck->facts = (struct tp_model_facts){
        .architecture = text_in(c->facts, ARCHITECTURE),
        .model_type = text_in(c->facts, MODEL_TYPE),
        .torch_dtype = text_in(c->facts, TORCH_DTYPE),
        .quant_method = text_in(c->facts, QUANT_METHOD),
        .tie_word_embeddings = truth_in(c->facts, TIED),
        .expert_count = c->facts[EXPERTS].number,
        .experts_per_token = c->facts[EXPERTS_PER_TOKEN].number,
    };
    if (!c->ck->facts.quant_method && c->facts[QUANT_ALGO].known)
        c->ck->facts.quant_method = "modelopt";
}

static const struct listed *first_group(const struct config *c)
{
    for (size_t i = 0; i < c->way_count; i++)
        if (c->ways[i].in == GROUP)
            return &c->ways[i];
    return NULL;
}

/* What stands above all, and, where that is silent, the first config group. */
static struct tp_quant_way first_way(const struct config *c)
{
    struct tp_quant_way way = way_in(c->facts);
    const struct listed *group = first_group(c);
    if (!group)
        return way;
    way.bits = c->facts[BITS].known ? way.bits : group->way.bits;
    way.group_size = c->facts[GROUP_SIZE].known ? way.group_size : group->way.group_size;
    way.block_rows = c->facts[BLOCK].known ? way.block_rows : group->way.block_rows;
    way.block_columns = c->facts[BLOCK].known ? way.block_columns : group->way.block_columns;
    way.strategy = group->way.strategy;
    way.format = group->way.format ? group->way.format : way.format;
    return way;
}

/* A listed way with what it takes from the first. False: it is none. Config groups of modelopt repeat in part what
 * quant_algo and the layers say. */
static bool complete_way(struct tp_quant_way *way, const struct listed *listed, const struct config *c,
                         const struct tp_quant_way *first)
{
    const char *method = c->ck->facts.quant_method;
    *way = listed->way;
    if (listed->in == LAYER)
        return way->algo != NULL;
    if (listed->in == GROUP) {
        way->format = way->format ? way->format : text_in(c->facts, FORMAT);
        return !method || strcmp(method, "modelopt") != 0;
    }
    way->bits = way->bits ? way->bits : first->bits;
    way->group_size = listed->has_group_size ? way->group_size : first->group_size;
    way->sym = way->sym >= 0 ? way->sym : first->sym;
    return true;
}

static enum tp_status keep_ways(const struct config *c, struct tp_error *err)
{
    struct tp_quant_facts *facts = &c->ck->quant;
    const struct tp_quant_way first = first_way(c);
    struct tp_quant_way *others = tp_arena_alloc(&c->ck->arena, (c->way_count + 1) * sizeof *others);
    if (!others)
        return tp_fail_nomem(err);
    facts->bits = first.bits;
    facts->group_size = first.group_size;
    facts->block_rows = first.block_rows;
    facts->block_columns = first.block_columns;
    facts->strategy = first.strategy;
    facts->format = first.format;
    facts->algo = first.algo;
    facts->sym = first.sym;
    facts->others = others;
    facts->has_more = c->has_more_ways;
    for (size_t i = 0; i < c->way_count; i++) {
        struct tp_quant_way way;
        if (!complete_way(&way, &c->ways[i], c, &first) || same_way(&way, &first))
            continue;
        bool is_new = true;
        for (size_t k = 0; k < facts->other_count; k++)
            is_new = is_new && !same_way(&way, &others[k]);
        if (is_new)
            others[facts->other_count++] = way;
    }
    return TP_OK;
}

static void keep_quant_facts(const struct config *c)
{
    const char *method = c->ck->facts.quant_method;
    /* early writers of GPTQ called it as everybody does */
    enum fact gptq_format =
        !c->facts[GPTQ_FORMAT].known && method && strcmp(method, "gptq") == 0 ? FORMAT : GPTQ_FORMAT;
    c->ck->quant = (struct tp_quant_facts){
        .method = method,
        .checkpoint_format = text_in(c->facts, gptq_format),
        .version = text_in(c->facts, VERSION),
        .quantizer = text_in(c->facts, QUANTIZER),
        .zero_point = truth_in(c->facts, ZERO_POINT),
        .planar = truth_in(c->facts, PLANAR),
        .is_marlin = truth_in(c->facts, MARLIN),
    };
}

struct tp_quant_way tp_quant_way_at(const struct tp_quant_facts *facts, size_t index)
{
    if (index > 0)
        return facts->others[index - 1];
    return (struct tp_quant_way){
        .bits = facts->bits,
        .group_size = facts->group_size,
        .block_rows = facts->block_rows,
        .block_columns = facts->block_columns,
        .strategy = facts->strategy,
        .format = facts->format,
        .algo = facts->algo,
        .sym = facts->sym,
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
    status = keep_ways(&c, err);
    return status ? status : note_tied(ck, err);
}
