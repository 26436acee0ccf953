/* cli_trace.c - merpati trace: what became of a message, in plain words or JSON. */
#include <jansson.h>
#include <stdio.h>

#include "mail/store/trace.h"
#include "server/base/date.h"
#include "server/base/utf8.h"
#include "server/cli/cli_internal.h"

#define LIMIT_DEFAULT 20

/* --- the question ---------------------------------------------------------------------------------- */

static const struct {
    char letter;
    int64_t seconds;
} age_units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};

/* "90m", "2d": so long ago. */
static bool parse_age(struct str text, int64_t *unix_us)
{
    uint32_t count;

    if (text.n < 2 || !str_to_u32(str_head(text, text.n - 1), &count))
        return false;
    for (size_t i = 0; i < sizeof age_units / sizeof age_units[0]; i++)
        if (text.p[text.n - 1] == age_units[i].letter) {
            *unix_us = time_now_us() - count * age_units[i].seconds * 1000000;
            return true;
        }
    return false;
}

int cli_parse_time(struct cli *c, enum cli_option option, int64_t *unix_us, struct error *err)
{
    struct str text = cli_value(c, option);

    if (!cli_has(c, option) || parse_age(text, unix_us) || date_parse_rfc3339(text, unix_us))
        return 0;
    if (text.n == 10 &&
        date_parse_rfc3339(arena_printf(c->arena, "%.*sT00:00:00Z", STR_ARG(text)), unix_us))
        return 0;
    return fail(
        err, ERR_SYNTAX,
        "\"%.*s\" is no time: write 2026-11-23, 2026-11-23T10:00:00Z or an age as 90m, 12h, 2d",
        STR_ARG(str_head(text, 40)));
}

static int parse_id(struct str text, int64_t *id, struct error *err)
{
    return trace_id_parse(text, id)
               ? 0
               : fail(err, ERR_SYNTAX, "\"%.*s\" is no trace id: those have 13 letters and digits",
                      STR_ARG(str_head(text, 40)));
}

static int parse_limit(struct cli *c, struct trace_query *q, struct error *err)
{
    uint32_t limit = LIMIT_DEFAULT;

    if (cli_has(c, OPTION_LIMIT) &&
        (!str_to_u32(cli_value(c, OPTION_LIMIT), &limit) || limit == 0 || limit > TRACE_LIMIT_MAX))
        return fail(err, ERR_SYNTAX, "--limit is a number from 1 to %d", TRACE_LIMIT_MAX);
    q->limit = limit;
    return 0;
}

static int prepare(struct cli *c, struct error *err)
{
    struct trace_query *q = ARENA_NEW(c->arena, struct trace_query);

    c->prepared = q;
    q->sender = cli_value(c, OPTION_SENDER);
    q->recipient = cli_value(c, OPTION_RECIPIENT);
    q->subject = cli_value(c, OPTION_SUBJECT);
    q->message_id = cli_value(c, OPTION_MESSAGE_ID);
    if (c->arg_count > 0 && parse_id(c->args[0], &q->trace_id, err) < 0)
        return -1;
    if (cli_has(c, OPTION_ID) && parse_id(cli_value(c, OPTION_ID), &q->trace_id, err) < 0)
        return -1;
    if (cli_has(c, OPTION_BEFORE) && parse_id(cli_value(c, OPTION_BEFORE), &q->before_id, err) < 0)
        return -1;
    if (parse_limit(c, q, err) < 0 || cli_parse_time(c, OPTION_SINCE, &q->since_us, err) < 0 ||
        cli_parse_time(c, OPTION_UNTIL, &q->until_us, err) < 0)
        return -1;
    if (c->arg_count == 0 && !cli_has(c, OPTION_ID) && !cli_has(c, OPTION_ACCOUNT) &&
        q->sender.n + q->recipient.n + q->subject.n + q->message_id.n == 0 && q->since_us == 0 &&
        q->until_us == 0)
        return fail(err, ERR_SYNTAX,
                    "say which messages: an id, or --sender, --recipient, --subject, --message-id, "
                    "--account, --since or --until");
    return 0;
}

/* --- in plain words --------------------------------------------------------------------------------- */

/* What a line says before its recipient, and where there is none. */
static const struct {
    const char *with_recipient, *alone;
} line_words[TRACE_KIND_COUNT] = {
    [TRACE_VERDICT] = {"verdict for", "verdict"},
    [TRACE_ROUTED] = {"routed", "routed"},
    [TRACE_DELIVERED] = {"delivered to", "delivered"},
    [TRACE_QUEUED] = {"queued for", "queued"},
    [TRACE_ATTEMPT] = {"attempt for", "attempt"},
    [TRACE_DEFERRED] = {"put off for", "put off"},
    [TRACE_FAILED] = {"failed for", "failed"},
    [TRACE_BOUNCED] = {"sender told about", "sender told"},
    [TRACE_HELD] = {"held for", "held"},
    [TRACE_RELEASED] = {"released for", "released"},
    [TRACE_EXPIRED] = {"given up for", "given up"},
    [TRACE_DELETED] = {"deleted for", "deleted"},
    [TRACE_FORWARDED] = {"forwarded for", "forwarded"},
    [TRACE_FILTERED] = {"filtered for", "filtered"},
    [TRACE_REFUSED] = {"refused for", "refused"},
    [TRACE_EXPANDED] = {"expanded", "expanded"},
    [TRACE_REROUTED] = {"rerouted for", "rerouted"},
    [TRACE_NOTE] = {"note on", "note"},
};

static void print_time(int64_t unix_us)
{
    struct buf text;

    buf_init(&text, 64);
    date_add_rfc3339(&text, unix_us);
    printf("  %.*s  ", (int)text.n, text.p);
    buf_fini(&text);
}

static void print_line(const struct trace_line *l)
{
    bool has_recipient = !str_empty(l->recipient);
    const char *words = "event";

    if (l->kind > 0 && l->kind < TRACE_KIND_COUNT)
        words = has_recipient ? line_words[l->kind].with_recipient : line_words[l->kind].alone;
    print_time(l->time_us);
    printf("%s", words);
    if (has_recipient)
        printf(" %.*s", STR_ARG(l->recipient));
    if (!str_empty(l->account) && !str_ieq(l->account, l->recipient))
        printf(" (%.*s)", STR_ARG(l->account));
    if (!str_empty(l->text))
        printf(": %.*s", STR_ARG(l->text));
    printf("\n");
}

static void print_origin(const struct trace_message *m)
{
    const struct trace_facts *f = &m->facts;

    print_time(trace_id_time_us(m->trace_id));
    if (f->direction == TRACE_SYSTEM || f->direction == TRACE_LOCAL) {
        printf("made here");
    } else {
        printf("%s %.*s", f->direction == TRACE_SUBMITTED ? "submitted from" : "received from",
               STR_ARG(f->helo));
        if (!str_empty(f->client_ip))
            printf(" [%.*s]", STR_ARG(f->client_ip));
        if (!str_empty(f->protocol))
            printf(" with %.*s", STR_ARG(f->protocol));
        if (!str_empty(f->tls))
            printf(" (%.*s)", STR_ARG(f->tls));
    }
    if (!str_empty(m->account))
        printf(" by %.*s", STR_ARG(m->account));
    printf(", %llu bytes for %.*s", (unsigned long long)f->size, STR_ARG(m->recipient_list));
    if (f->recipient_count > TRACE_RECIPIENTS_MAX)
        printf(" and %zu more", f->recipient_count - TRACE_RECIPIENTS_MAX);
    printf("\n");
}

static void print_message(const struct trace_message *m)
{
    char id[TRACE_ID_TEXT_SIZE];

    printf("%s  from <%.*s>", trace_id_text(m->trace_id, id), STR_ARG(m->facts.sender));
    if (!str_empty(m->facts.subject))
        printf("  \"%.*s\"", STR_ARG(m->facts.subject));
    if (!str_empty(m->facts.message_id))
        printf("  <%.*s>", STR_ARG(m->facts.message_id));
    printf("\n");
    print_origin(m);
    for (size_t i = 0; i < m->line_count; i++)
        print_line(&m->lines[i]);
    if (m->has_more_lines)
        printf("  (more lines than %d)\n", TRACE_LINES_MAX);
}

/* --- JSON -------------------------------------------------------------------------------------------- */

static json_t *json_text(struct str s)
{
    json_t *value = json_stringn(s.p == NULL ? "" : s.p, s.n);

    return value == NULL ? json_null() : value;
}

static json_t *json_time(int64_t unix_us)
{
    struct buf text;
    json_t *value;

    buf_init(&text, 64);
    date_add_rfc3339(&text, unix_us);
    value = json_text(buf_str(&text));
    buf_fini(&text);
    return value;
}

static json_t *line_json(const struct trace_line *l)
{
    json_t *o = json_object();

    json_object_set_new(o, "at", json_time(l->time_us));
    json_object_set_new(o, "kind", json_string(trace_kind_name(l->kind)));
    json_object_set_new(o, "recipient", json_text(l->recipient));
    json_object_set_new(o, "account", json_text(l->account));
    json_object_set_new(o, "text", json_text(l->text));
    return o;
}

static json_t *message_json(const struct trace_message *m)
{
    json_t *o = json_object(), *lines = json_array();
    char id[TRACE_ID_TEXT_SIZE];

    json_object_set_new(o, "id", json_string(trace_id_text(m->trace_id, id)));
    json_object_set_new(o, "at", json_time(trace_id_time_us(m->trace_id)));
    json_object_set_new(o, "direction", json_string(trace_direction_name(m->facts.direction)));
    json_object_set_new(o, "sender", json_text(m->facts.sender));
    json_object_set_new(o, "account", json_text(m->account));
    json_object_set_new(o, "recipients", json_text(m->recipient_list));
    json_object_set_new(o, "recipient_count", json_integer((json_int_t)m->facts.recipient_count));
    json_object_set_new(o, "subject", json_text(m->facts.subject));
    json_object_set_new(o, "message_id", json_text(m->facts.message_id));
    json_object_set_new(o, "size", json_integer((json_int_t)m->facts.size));
    json_object_set_new(o, "client_ip", json_text(m->facts.client_ip));
    json_object_set_new(o, "client_name", json_text(m->facts.client_name));
    json_object_set_new(o, "helo", json_text(m->facts.helo));
    json_object_set_new(o, "protocol", json_text(m->facts.protocol));
    json_object_set_new(o, "tls", json_text(m->facts.tls));
    for (size_t i = 0; i < m->line_count; i++)
        json_array_append_new(lines, line_json(&m->lines[i]));
    json_object_set_new(o, "events", lines);
    return o;
}

static void print_json(const struct trace_message *v, size_t count)
{
    json_t *all = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(all, message_json(&v[i]));
    json_dumpf(all, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(all);
}

/* --- the command ------------------------------------------------------------------------------------- */

static int run(struct cli *c, struct error *err)
{
    struct trace_query *q = c->prepared;
    struct trace_message *v;
    struct account account;
    size_t count;

    if (cli_has(c, OPTION_ACCOUNT)) {
        if (directory_find_account(c->arena, cli_value(c, OPTION_ACCOUNT), &account, err) < 0)
            return -1;
        q->account_id = account.account_id;
    }
    if (trace_search(c->arena, q, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (trace_read_lines(c->arena, &v[i], err) < 0)
            return -1;
    if (c->is_json) {
        print_json(v, count);
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        print_message(&v[i]);
    if (count == 0)
        printf("No such message is traced.\n");
    else if (count == q->limit)
        printf("These are the newest %zu; for older ones add --before %s\n", count,
               trace_id_text(v[0].trace_id, (char[TRACE_ID_TEXT_SIZE]){0}));
    return 0;
}

const struct cli_command cli_trace_commands[] = {
    {"", "[ID]", 0, 1,
     TAKES(ID) | TAKES(MESSAGE_ID) | TAKES(SENDER) | TAKES(RECIPIENT) | TAKES(SUBJECT) |
         TAKES(ACCOUNT) | TAKES(SINCE) | TAKES(UNTIL) | TAKES(LIMIT) | TAKES(BEFORE),
     prepare, run, false, "what became of messages, the newest that fit, oldest first"},
    {0},
};
