/* rspamd.c - the envelope as fields of a request, the message as its content, JSON back. */
#include "mail/spam/rspamd.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "server/base/json_depth.h"
#include "server/run/config.h"
#include "server/run/http_fetch.h"

#define NESTING_MAX      16
#define SCORE_MAX        99999.0
#define NAME_SIZE_MAX    80
#define MESSAGE_SIZE_MAX 200
#define FIELDS_MAX       (RSPAMD_RCPTS_TOLD + 9)

/* ---- the answer --------------------------------------------------------------------------------------- */

/* One line of printable ASCII: it goes into answers, logs and the trace. */
static struct str text_of(struct arena *a, const json_t *value, size_t size_max)
{
    struct str out;
    char *p;

    if (!json_is_string(value))
        return STR("");
    out = arena_str(
        a, str_head(str_of(json_string_value(value), json_string_length(value)), size_max));
    p = (char *)out.p;
    for (size_t i = 0; i < out.n; i++)
        if (p[i] < ' ' || p[i] >= 127)
            p[i] = '?';
    return str_trim(out);
}

static double score_of(const json_t *value)
{
    double score = json_number_value(value); /* 0 of what is no number */

    return isfinite(score) ? fmax(-SCORE_MAX, fmin(SCORE_MAX, score)) : 0;
}

static enum rspamd_action action_of(struct str name)
{
    static const char *const names[] = {
        [RSPAMD_NO_ACTION] = "no action",     [RSPAMD_GREYLIST] = "greylist",
        [RSPAMD_ADD_HEADER] = "add header",   [RSPAMD_REWRITE_SUBJECT] = "rewrite subject",
        [RSPAMD_SOFT_REJECT] = "soft reject", [RSPAMD_REJECT] = "reject",
        [RSPAMD_QUARANTINE] = "quarantine",   [RSPAMD_DISCARD] = "discard",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq(name, str_c(names[i])))
            return (enum rspamd_action)i;
    return RSPAMD_OTHER;
}

static int by_weight(const void *a, const void *b)
{
    double left = fabs(((const struct rspamd_symbol *)a)->score);
    double right = fabs(((const struct rspamd_symbol *)b)->score);

    return (left < right) - (left > right);
}

static void read_symbols(struct arena *a, json_t *symbols, struct rspamd_answer *out)
{
    size_t size = json_object_size(symbols);
    const char *name;
    json_t *value;

    out->symbols = ARENA_ARRAY(a, size < RSPAMD_SYMBOLS_MAX ? size + 1 : RSPAMD_SYMBOLS_MAX,
                               struct rspamd_symbol);
    json_object_foreach(symbols, name, value)
    {
        struct rspamd_symbol *symbol = &out->symbols[out->symbol_count];

        if (out->symbol_count == RSPAMD_SYMBOLS_MAX)
            break;
        symbol->name = text_of(a, json_object_get(value, "name"), NAME_SIZE_MAX);
        symbol->score = score_of(json_object_get(value, "score"));
        out->symbol_count += symbol->name.n > 0;
    }
    qsort(out->symbols, out->symbol_count, sizeof *out->symbols, by_weight);
}

static int read_answer(struct arena *a, json_t *root, struct rspamd_answer *out, struct error *err)
{
    struct str problem = text_of(a, json_object_get(root, "error"), MESSAGE_SIZE_MAX);

    if (problem.n > 0)
        return fail(err, ERR_UNSUPPORTED, "Rspamd says: %.*s", STR_ARG(problem));
    out->action_name = text_of(a, json_object_get(root, "action"), NAME_SIZE_MAX);
    if (out->action_name.n == 0)
        return fail(err, ERR_SYNTAX, "what answers there is no Rspamd: it names no action");
    out->action = action_of(out->action_name);
    out->is_skipped = json_is_true(json_object_get(root, "is_skipped"));
    out->score = score_of(json_object_get(root, "score"));
    out->required_score = score_of(json_object_get(root, "required_score"));
    out->message = text_of(a, json_object_get(json_object_get(root, "messages"), "smtp_message"),
                           MESSAGE_SIZE_MAX);
    read_symbols(a, json_object_get(root, "symbols"), out);
    return 0;
}

int rspamd_answer_read(struct arena *a, struct str json, struct rspamd_answer *out,
                       struct error *err)
{
    json_error_t problem;
    json_t *root;
    int status;

    *out = (struct rspamd_answer){.action_name = STR("")};
    if (json.n > RSPAMD_ANSWER_SIZE_MAX)
        return fail(err, ERR_TOO_BIG, "Rspamd's answer is longer than %u KiB",
                    RSPAMD_ANSWER_SIZE_MAX >> 10);
    if (json_is_deeper_than(json, NESTING_MAX))
        return fail(err, ERR_SYNTAX, "Rspamd's answer is nested too deeply");
    root = json_loadb(json.n > 0 ? json.p : "", json.n, 0, &problem);
    if (root == NULL)
        return fail(err, ERR_SYNTAX, "what answers there is no Rspamd: its answer is not JSON");
    status = read_answer(a, root, out, err);
    json_decref(root);
    return status;
}

/* ---- the request ---------------------------------------------------------------------------------------- */

struct fields {
    struct http_fetch_field v[FIELDS_MAX];
    size_t n;
};

static void add_field(struct fields *f, struct str name, struct str value)
{
    if (value.n > 0)
        f->v[f->n++] = (struct http_fetch_field){name, value};
}

static struct str path_of(struct arena *a, struct str address)
{
    return arena_printf(a, "<%.*s>", STR_ARG(address));
}

static const struct fields *describe(struct arena *a, const struct rspamd_mail *mail)
{
    struct fields *f = ARENA_NEW(a, struct fields);

    add_field(f, STR("Ip"), mail->client_ip);
    add_field(f, STR("Hostname"), mail->client_name);
    add_field(f, STR("Helo"), mail->helo);
    add_field(f, STR("User"), mail->user);
    add_field(f, STR("Queue-Id"), mail->queue_id);
    add_field(f, STR("MTA-Name"), str_c(config.hostname));
    add_field(f, STR("From"), path_of(a, mail->sender));
    if (mail->rcpt_count == 1)
        add_field(f, STR("Deliver-To"), mail->rcpts[0]);
    for (size_t i = 0; i < mail->rcpt_count && i < RSPAMD_RCPTS_TOLD; i++)
        add_field(f, STR("Rcpt"), path_of(a, mail->rcpts[i]));
    return f;
}

PARKS int rspamd_check(struct arena *a, const struct dial_target *target,
                       const struct rspamd_mail *mail, int64_t timeout_ms,
                       struct rspamd_answer *out, struct error *err)
{
    const struct fields *fields = describe(a, mail);
    struct http_fetch f = {
        .host = STR("rspamd"),
        .plain = target,
        .target = STR("/checkv2"),
        .accept = "application/json",
        .content_type = "message/rfc822",
        .content = mail->message,
        .fields = fields->v,
        .field_count = fields->n,
        .timeout_ms = timeout_ms,
        .size_max = RSPAMD_ANSWER_SIZE_MAX,
    };

    *out = (struct rspamd_answer){.action_name = STR("")};
    if (http_fetch(a, &f, err) < 0)
        return -1;
    if (f.status != 200)
        return fail(err, ERR_UNSUPPORTED, "Rspamd answered with status %d", f.status);
    return rspamd_answer_read(a, f.body, out, err);
}
