/* cli_queue.c - merpati queue: mail that waits for other servers.
 *
 * What is meant is said by number, sender, recipient, destination or account; to do something to all that waits, --all must
 * be said. Workers hear of it at commit, so that a command has its effect at once. */
#include "mail/queue/route_hosts.h"
#include "mail/store/outbound.h"
#include "mail/store/trace.h"
#include "server/cli/cli_internal.h"
#include "server/run/config.h"

#define PAGE_COUNT 1000

/* ---- what is meant --------------------------------------------------------------------------- */

static int take_number(struct str text, int64_t *out, struct error *err)
{
    uint64_t number;

    if (!str_to_u64(text, &number) || number == 0 || number > INT64_MAX)
        return fail(err, ERR_SYNTAX,
                    "\"%.*s\" is no number of a queued message: see \"merpati queue list\"",
                    STR_ARG(text));
    *out = (int64_t)number;
    return 0;
}

static int take_account(struct cli *c, struct outbound_filter *f, struct error *err)
{
    struct account account;

    if (!cli_has(c, OPTION_ACCOUNT))
        return 0;
    if (directory_find_account(c->arena, cli_value(c, OPTION_ACCOUNT), &account, err) < 0)
        return -1;
    f->account_id = account.account_id;
    return 0;
}

static int take_filter(struct cli *c, struct outbound_filter *f, struct error *err)
{
    *f = (struct outbound_filter){
        .sender = cli_value(c, OPTION_SENDER),
        .recipient = cli_value(c, OPTION_RECIPIENT),
        .destination = arena_lower(c->arena, cli_value(c, OPTION_DESTINATION)),
        .is_held = cli_has(c, OPTION_HELD),
    };
    if (c->arg_count > 0 && take_number(c->args[0], &f->queue_id, err) < 0)
        return -1;
    return take_account(c, f, err);
}

static bool is_narrow(const struct cli *c, const struct outbound_filter *f)
{
    return f->queue_id != 0 || f->account_id != 0 || !str_empty(f->sender) ||
           !str_empty(f->recipient) || !str_empty(f->destination) || f->is_held ||
           cli_has(c, OPTION_ALL);
}

/* For commands that change something. */
static int prepare(struct cli *c, struct error *err)
{
    struct outbound_filter f = {
        .sender = cli_value(c, OPTION_SENDER),
        .recipient = cli_value(c, OPTION_RECIPIENT),
        .destination = cli_value(c, OPTION_DESTINATION),
        .is_held = cli_has(c, OPTION_HELD),
    };

    if (c->arg_count > 0 && take_number(c->args[0], &f.queue_id, err) < 0)
        return -1;
    if (!is_narrow(c, &f) && !cli_has(c, OPTION_ACCOUNT))
        return fail(err, ERR_SYNTAX,
                    "say which: a number, --sender, --recipient, --destination, --account, --held "
                    "or --all");
    return 0;
}

/* ---- seeing ---------------------------------------------------------------------------------- */

static const char *state_of(const struct outbound_entry *e)
{
    return !str_empty(e->held) ? "held"
           : e->is_claimed     ? "active"
           : e->attempts > 0   ? "deferred"
                               : "queued";
}

static struct str trace_of(struct cli *c, int64_t trace_id)
{
    char text[TRACE_ID_TEXT_SIZE];

    return trace_id != 0 ? arena_str(c->arena, str_c(trace_id_text(trace_id, text))) : STR("");
}

static void print_short(struct cli *c, struct cli_output *out, const struct outbound_entry *e)
{
    cli_row(out);
    cli_number(out, "id", e->queue_id);
    cli_text(out, "state", str_c(state_of(e)));
    cli_time(out, "created", e->created_us);
    cli_bytes(out, "size", (int64_t)e->size);
    cli_text(out, "sender", e->sender);
    cli_text(out, "recipient", e->address);
    cli_number(out, "attempts", e->attempts);
    cli_time(out, "next", e->next_us == INT64_MAX ? 0 : e->next_us);
    cli_text(out, "reason", str_empty(e->held) ? e->last_text : e->held);
}

static void print_long(struct cli *c, struct cli_output *out, const struct outbound_entry *e)
{
    cli_row(out);
    cli_number(out, "id", e->queue_id);
    cli_number(out, "recipient_no", e->no);
    cli_text(out, "state", str_c(state_of(e)));
    cli_text(out, "sender", e->sender);
    cli_text(out, "recipient", e->address);
    cli_text(out, "destination", e->destination);
    cli_text(out, "next_hop", e->hop);
    cli_bytes(out, "size", (int64_t)e->size);
    cli_number(out, "account_id", e->account_id);
    cli_text(out, "trace", trace_of(c, e->trace_id));
    cli_text(out, "envid", e->envid);
    cli_time(out, "created", e->created_us);
    cli_time(out, "next", e->next_us == INT64_MAX ? 0 : e->next_us);
    cli_time(out, "expires", e->expires_us);
    cli_text(out, "held", e->held);
    cli_number(out, "attempts", e->attempts);
    cli_time(out, "last_attempt", e->last_us);
    cli_number(out, "last_code", e->last_code);
    cli_text(out, "last_status", e->last_enhanced);
    cli_text(out, "last_answer", e->last_text);
    cli_text(out, "last_host", e->last_host);
}

/* All pages; how many there were. */
static int each_entry(struct cli *c, const struct outbound_filter *f, struct cli_output *out,
                      void (*print)(struct cli *, struct cli_output *,
                                    const struct outbound_entry *),
                      size_t *total, struct error *err)
{
    int64_t after_id = 0;
    int32_t after_no = 0;
    size_t count = PAGE_COUNT;

    for (*total = 0; count == PAGE_COUNT; *total += count) {
        struct outbound_entry *v;

        if (outbound_list(c->arena, f, after_id, after_no, PAGE_COUNT, &v, &count, err) < 0)
            return -1;
        for (size_t i = 0; i < count; i++)
            print(c, out, &v[i]);
        if (count > 0) {
            after_id = v[count - 1].queue_id;
            after_no = v[count - 1].no;
        }
    }
    return 0;
}

/* The queue may be longer than memory: each page has an arena of its own. */
static int list(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct outbound_filter f;
    int64_t after_id = 0;
    int32_t after_no = 0;
    size_t count = PAGE_COUNT;

    if (take_filter(c, &f, err) < 0)
        return -1;
    while (count == PAGE_COUNT) {
        struct arena *page = arena_new();
        struct outbound_entry *v;
        int rc = outbound_list(page, &f, after_id, after_no, PAGE_COUNT, &v, &count, err);

        cli_print_part(out, page);
        for (size_t i = 0; rc == 0 && i < count; i++)
            print_short(c, out, &v[i]);
        if (rc == 0 && count > 0) {
            after_id = v[count - 1].queue_id;
            after_no = v[count - 1].no;
        }
        cli_print_part(out, c->arena);
        arena_free(&page);
        if (rc < 0)
            return -1;
    }
    cli_print_list(out);
    return 0;
}

static int show(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct outbound_filter f;
    size_t total;

    if (take_filter(c, &f, err) < 0 || each_entry(c, &f, out, print_long, &total, err) < 0)
        return -1;
    if (total == 0)
        return fail(err, ERR_NOT_FOUND, "message %lld is not in the queue (any more)",
                    (long long)f.queue_id);
    if (total == 1)
        cli_print_record(out);
    else
        cli_print_list(out);
    return 0;
}

static int status(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct outbound_counts counts;

    if (outbound_count(&counts, err) < 0)
        return -1;
    cli_row(out);
    cli_number(out, "messages", counts.messages);
    cli_number(out, "recipients", counts.recipients);
    cli_number(out, "held", counts.held);
    cli_number(out, "deferred", counts.deferred);
    cli_number(out, "destinations_waiting", counts.hops);
    cli_time(out, "oldest", counts.oldest_us);
    cli_print_record(out);
    return 0;
}

/* ---- doing ----------------------------------------------------------------------------------- */

static int tell_count(struct cli *c, int64_t count, const char *what)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    cli_row(out);
    cli_number(out, "recipients", count);
    cli_print_done(out, "%lld recipient%s %s.", (long long)count, count == 1 ? "" : "s", what);
    return 0;
}

static int hold(struct cli *c, struct error *err)
{
    struct str reason =
        cli_has(c, OPTION_REASON) ? cli_value(c, OPTION_REASON) : STR("by an administrator");
    struct outbound_filter f;
    int64_t count;

    if (take_filter(c, &f, err) < 0 || outbound_hold(&f, reason, &count, err) < 0)
        return -1;
    return tell_count(c, count, "held");
}

static int release(struct cli *c, struct error *err)
{
    struct outbound_filter f;
    int64_t count;

    if (take_filter(c, &f, err) < 0 || outbound_release(&f, &count, err) < 0)
        return -1;
    return tell_count(c, count, "released");
}

static int retry(struct cli *c, struct error *err)
{
    struct outbound_filter f;
    int64_t count;

    if (take_filter(c, &f, err) < 0 || outbound_retry(&f, &count, err) < 0)
        return -1;
    return tell_count(c, count, "due now");
}

static int delete (struct cli *c, struct error *err)
{
    struct outbound_filter f;
    int64_t count;

    if (take_filter(c, &f, err) < 0)
        return -1;
    if (cli_has(c, OPTION_BOUNCE))
        return outbound_bounce(&f, &count, err) < 0
                   ? -1
                   : tell_count(c, count, "going back to the sender");
    if (outbound_delete(&f, &count, err) < 0)
        return -1;
    return tell_count(c, count, "deleted");
}

/* As in delivery_routes; "mx": by the domain's own hosts, whatever the settings say; "settings": as they say. */
static int prepare_reroute(struct cli *c, struct error *err)
{
    struct str route = cli_value(c, OPTION_TO);
    struct route_way way;

    if (!cli_has(c, OPTION_TO))
        return fail(err, ERR_SYNTAX, "say where to: --to host:port, --to mx or --to settings");
    if (str_eq(route, STR("mx")))
        route = STR(OUTBOUND_ROUTE_MX);
    else if (str_eq(route, STR("settings")))
        route = STR("");
    else if (route_way_parse(route, &way, err) < 0)
        return -1;
    c->prepared = arena_copy(c->arena, &route, sizeof route);
    return prepare(c, err);
}

static int reroute(struct cli *c, struct error *err)
{
    struct outbound_filter f;
    int64_t count;

    if (take_filter(c, &f, err) < 0 ||
        outbound_reroute(&f, *(struct str *)c->prepared, &count, err) < 0)
        return -1;
    return tell_count(c, count, "rerouted");
}

#define FILTER                                                                                     \
    (TAKES(SENDER) | TAKES(RECIPIENT) | TAKES(DESTINATION) | TAKES(ACCOUNT) | TAKES(HELD))

const struct cli_command cli_queue_commands[] = {
    {"list", "", 0, 0, FILTER, NULL, list, false, "what waits, a line for each recipient"},
    {"show", "ID", 1, 1, 0, prepare, show, false, "all that is known of one message"},
    {"status", "", 0, 0, 0, NULL, status, false, "how much waits, and for how long"},
    {"hold", "[ID]", 0, 1, FILTER | TAKES(ALL) | TAKES(REASON), prepare, hold, false,
     "let it wait until it is released"},
    {"release", "[ID]", 0, 1, FILTER | TAKES(ALL), prepare, release, false,
     "send held mail, and what was to wait for a time"},
    {"retry", "[ID]", 0, 1, FILTER | TAKES(ALL), prepare, retry, false, "try it now"},
    {"reroute", "[ID]", 0, 1, FILTER | TAKES(ALL) | TAKES(TO), prepare_reroute, reroute, false,
     "send it through another server"},
    {"delete", "[ID]", 0, 1, FILTER | TAKES(ALL) | TAKES(BOUNCE), prepare, delete, false,
     "take it away; nobody is told, or with --bounce the sender"},
    {0},
};
