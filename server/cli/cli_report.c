/* cli_report.c - merpati report: what other servers tell of mail in the name of our domains and of sessions with us, and what
 * we tell them. */
#include <stdio.h>

#include "mail/store/report_store.h"
#include "server/cli/cli_internal.h"
#include "server/pg/notify.h"

/* ---- list ------------------------------------------------------------------------------------ */

static int check_kind(struct cli *c, struct error *err)
{
    struct str kind = cli_value(c, OPTION_KIND);

    if (!cli_has(c, OPTION_KIND) || str_eq(kind, STR("dmarc")) || str_eq(kind, STR("tls")) ||
        str_eq(kind, STR("feedback")))
        return 0;
    return fail(err, ERR_SYNTAX, "--kind is dmarc, tls or feedback");
}

static int check_sources(struct cli *c, struct error *err)
{
    int64_t since_us;

    return check_kind(c, err) < 0 ? -1 : cli_parse_time(c, OPTION_SINCE, &since_us, err);
}

static void add_head(struct cli_output *out, const struct report_received *r)
{
    cli_number(out, "id", r->report_id);
    cli_text(out, "kind", r->kind);
    cli_text(out, "domain", r->domain);
    cli_text(out, "from", r->organization);
    cli_time(out, "begin", r->begin_us);
    cli_time(out, "end", r->end_us);
    cli_number(out, "passed", r->passed);
    cli_number(out, "failed", r->failed);
}

static int list(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str domain = arena_lower(c->arena, cli_value(c, OPTION_DOMAIN));
    struct report_received *v;
    size_t count;

    if (report_store_list(c->arena, cli_value(c, OPTION_KIND), domain, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        add_head(out, &v[i]);
    }
    cli_print_list(out);
    return 0;
}

/* ---- show ------------------------------------------------------------------------------------ */

static int read_id(struct cli *c, struct error *err)
{
    uint64_t id;

    if (!str_to_u64(c->args[0], &id) || id > INT64_MAX)
        return fail(err, ERR_SYNTAX,
                    "\"%.*s\" is no number of a report: see \"merpati report list\"",
                    STR_ARG(c->args[0]));
    return 0;
}

static void add_line(struct cli_output *out, const struct report_received_row *r)
{
    cli_row(out);
    cli_text(out, "source", r->source);
    cli_text(out, "about", r->subject);
    cli_text(out, "outcome", r->outcome);
    cli_flag(out, "pass", r->is_pass);
    cli_number(out, "count", r->count);
    cli_text(out, "detail", r->detail);
}

/* For people the report's head stands above its lines; programs get the lines, and the head from the list. */
static int show(struct cli *c, struct error *err)
{
    struct cli_output *head = cli_output_new(c->arena, false);
    struct cli_output *lines = cli_output_new(c->arena, c->is_json);
    struct report_received report;
    struct report_received_row *rows;
    uint64_t id = 0;
    size_t count;

    str_to_u64(c->args[0], &id);
    if (report_store_show(c->arena, (int64_t)id, &report, &rows, &count, err) < 0)
        return -1;
    cli_row(head);
    add_head(head, &report);
    cli_text(head, "report id", report.external_id);
    cli_text(head, "policy", report.policy);
    cli_time(head, "received", report.received_us);
    for (size_t i = 0; i < count; i++)
        add_line(lines, &rows[i]);
    if (!c->is_json) {
        cli_print_record(head);
        printf("\n");
    }
    cli_print_list(lines);
    return 0;
}

/* ---- those that we send ------------------------------------------------------------------------ */

static void add_due(struct cli_output *out, const struct report_due *r)
{
    cli_row(out);
    cli_text(out, "kind", r->kind);
    cli_text(out, "domain", r->domain);
    cli_time(out, "day", r->day_us);
    cli_time(out, "due", r->due_us);
    cli_time(out, "sent", r->sent_us);
    cli_number(out, "attempts", r->attempts);
    cli_text(out, "note", r->note);
}

static int due(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str domain = arena_lower(c->arena, cli_value(c, OPTION_DOMAIN));
    struct report_due *v;
    size_t count;

    if (report_store_list_due(c->arena, cli_value(c, OPTION_KIND), domain, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        add_due(out, &v[i]);
    cli_print_list(out);
    return 0;
}

static int send(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str domain = arena_lower(c->arena, cli_value(c, OPTION_DOMAIN));
    int64_t count;
    int rc;

    bus_start();
    rc = report_store_ask(domain, &count, err);
    bus_stop();
    if (rc < 0)
        return -1;
    cli_row(out);
    cli_number(out, "reports", count);
    cli_print_done(out,
                   "%lld reports of days that are over are sent now: see \"merpati report due\"",
                   (long long)count);
    return 0;
}

const struct cli_command cli_report_commands[] = {
    {"list", "", 0, 0, TAKES(KIND) | TAKES(DOMAIN), check_kind, list, false,
     "received DMARC, TLS and feedback reports, the newest first; --kind dmarc, tls or feedback"},
    {"show", "ID", 1, 1, 0, read_id, show, false, "one report, line by line"},
    {"sources", "", 0, 0, TAKES(KIND) | TAKES(DOMAIN) | TAKES(SINCE), check_sources,
     cli_report_sources, false,
     "what the reports of the last 30 days say of each sender and server, failures first, and what "
     "to do"},
    {"due", "", 0, 0, TAKES(KIND) | TAKES(DOMAIN), check_kind, due, false,
     "reports to other domains: when they are sent, and what became of them"},
    {"send", "", 0, 0, TAKES(DOMAIN), NULL, send, false,
     "send those of days that are over now, not at their time"},
    {0},
};
