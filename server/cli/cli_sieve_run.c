/* cli_sieve_run.c - merpati sieve run and test: what scripts do with mail that is here, or would do.
 *
 * A script is named as the account has it; what has a "/" in it, ends in ".sieve" or is "-" is a file. */
#include "mail/filter/filter_describe.h"
#include "mail/filter/filter_existing.h"
#include "server/cli/cli_input.h"
#include "server/cli/cli_internal.h"
#include "server/pg/notify.h"

#define ROWS_KEPT 500

struct source {
    bool is_file;
    struct str script, message;
};

/* ---- what is read first ---------------------------------------------------------------------- */

static int read_script(struct cli *c, struct source *s, struct str name, struct error *err)
{
    s->is_file = str_eq(name, STR("-")) || str_index(name, '/') >= 0 ||
                 str_ends(name, STR(".sieve")) || str_eq(c->args[0], STR("-"));
    return s->is_file ? cli_read_file(c->arena, arena_c(c->arena, name), &s->script, err) : 0;
}

int cli_prepare_sieve_run(struct cli *c, struct error *err)
{
    struct source *s = ARENA_NEW(c->arena, struct source);

    c->prepared = s;
    if (!cli_has(c, OPTION_MAILBOX))
        return fail(err, ERR_SYNTAX, "--mailbox says which mailbox, as in --mailbox INBOX");
    return c->arg_count > 1 ? read_script(c, s, c->args[1], err) : 0;
}

int cli_prepare_sieve_test(struct cli *c, struct error *err)
{
    struct source *s = ARENA_NEW(c->arena, struct source);

    c->prepared = s;
    if (read_script(c, s, c->args[1], err) < 0)
        return -1;
    return cli_read_file(c->arena, arena_c(c->arena, c->args[2]), &s->message, err);
}

static int get_script(struct cli *c, int64_t account_id, struct sieve_script **out,
                      struct error *err)
{
    const struct source *s = c->prepared;
    struct str name = c->arg_count > 1 ? c->args[1] : STR("");
    struct sieve_fault fault;

    if (!s->is_file)
        return filter_existing_script(c->arena, account_id, name, out, err);
    if (sieve_compile(s->script, out, c->arena, &fault) == 0)
        return 0;
    return fail(err, ERR_SYNTAX, "%.*s:%u:%u: %.*s", STR_ARG(name), fault.line, fault.column,
                STR_ARG(str_head(fault.text, 300)));
}

static int find_account(struct cli *c, struct account *out, struct error *err)
{
    if (directory_find_account(c->arena, c->args[0], out, err) < 0)
        return -1;
    return out->kind != ACCOUNT_GROUP
               ? 0
               : fail(err, ERR_DENIED, "%.*s is a group: it has no mailboxes",
                      STR_ARG(out->address));
}

/* ---- run ------------------------------------------------------------------------------------- */

/* The rows of a large mailbox are printed as they come. */
struct listing {
    struct cli_output *out;
    struct arena *rows;
    size_t count;
};

static void add_step(struct listing *l, const struct filter_existing_message *m,
                     const struct filter_step *step)
{
    cli_row(l->out);
    cli_number(l->out, "uid", m->uid);
    cli_time(l->out, "date", m->received_us);
    cli_text(l->out, "subject", arena_str(l->rows, m->subject));
    cli_text(l->out, "what", str_c(filter_step_name(step->kind)));
    cli_text(l->out, "object",
             step->makes ? arena_printf(l->rows, "%.*s (new)", STR_ARG(step->object))
                         : arena_str(l->rows, step->object));
    cli_number(l->out, "line", step->line);
    cli_text(l->out, "script", arena_str(l->rows, step->included));
    l->count++;
}

static int list_message(void *arg, const struct filter_existing_message *m, struct error *err)
{
    struct listing *l = arg;

    for (size_t i = 0; i < m->step_count; i++)
        add_step(l, m, &m->steps[i]);
    if (l->count < ROWS_KEPT)
        return 0;
    cli_print_part(l->out, l->rows);
    arena_reset(l->rows);
    l->count = 0;
    return 0;
}

static int run_on(struct cli *c, struct sieve_script *script, struct mailbox_key mailbox,
                  struct filter_existing *r, struct error *err)
{
    struct listing l = {.out = cli_output_new(c->arena, c->is_json), .rows = arena_new()};
    int rc;

    cli_print_part(l.out, l.rows);
    *r = (struct filter_existing){.mailbox = mailbox,
                                  .script = script,
                                  .is_dry_run = cli_has(c, OPTION_DRY_RUN),
                                  .each = list_message,
                                  .arg = &l};
    bus_start();
    rc = filter_existing_run(r, err);
    bus_stop();
    if (rc == 0 || r->seen > 0)
        cli_print_list(l.out);
    arena_free(&l.rows);
    return rc;
}

/* A script that failed on a message is told by the exit status, too. */
int cli_sieve_run(struct cli *c, struct error *err)
{
    struct sieve_script *script;
    struct filter_existing r;
    struct account account;
    struct mailbox mailbox;
    int rc;

    if (find_account(c, &account, err) < 0 ||
        mailbox_find(c->arena, account.account_id, cli_value(c, OPTION_MAILBOX), &mailbox, err) <
            0 ||
        get_script(c, account.account_id, &script, err) < 0)
        return -1;
    rc = run_on(c, script, (struct mailbox_key){account.account_id, mailbox.mailbox_id}, &r, err);
    sieve_script_free(&script);
    return rc < 0 ? -1 : r.failed > 0;
}

/* ---- test ------------------------------------------------------------------------------------ */

static void add_row(struct cli_output *out, const char *kind, unsigned line, struct str included,
                    struct str text)
{
    cli_row(out);
    cli_text(out, "kind", str_c(kind));
    cli_number(out, "line", line);
    cli_text(out, "script", included);
    cli_text(out, "text", text);
}

static int print_outcome(struct cli *c, const struct sieve_outcome *o)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    for (size_t i = 0; i < o->notes_count; i++)
        add_row(out, o->notes[i].is_true ? "true" : "false", o->notes[i].line, o->notes[i].included,
                filter_describe_note(c->arena, &o->notes[i]));
    for (size_t i = 0; i < o->n; i++)
        add_row(out, "action", o->v[i].line, o->v[i].included,
                filter_describe_action(c->arena, &o->v[i]));
    if (o->keeps_implicitly)
        add_row(out, "action", 0, STR(""), filter_describe_action(c->arena, &o->implicit));
    if (o->end == SIEVE_FAILED)
        add_row(out, "fault", o->fault.line, o->fault_included, o->fault.text);
    cli_print_list(out);
    return o->end == SIEVE_FAILED;
}

int cli_sieve_test(struct cli *c, struct error *err)
{
    const struct source *s = c->prepared;
    struct account account = {0};
    struct sieve_script *script;
    struct sieve_outcome outcome;
    int rc;

    if ((!str_eq(c->args[0], STR("-")) && find_account(c, &account, err) < 0) ||
        get_script(c, account.account_id, &script, err) < 0)
        return -1;
    rc = filter_try(c->arena, account.account_id, script, s->message, &outcome, err);
    if (rc == 0)
        rc = print_outcome(c, &outcome);
    sieve_script_free(&script);
    return rc;
}
