/* cli_dkim.c - merpati dkim: the keys that sign each domain's mail, and what DNS is to say of them. */
#include <stdio.h>

#include "mail/authentic/dkim_key.h"
#include "mail/authentic/dkim_ring.h"
#include "server/cli/cli_input.h"
#include "server/cli/cli_internal.h"

#define ROWS_MAX 10000

static int domain_argument(struct cli *c, struct str *domain, struct error *err)
{
    return domain_canonical(c->arena, c->args[0], domain, err);
}

static int read_keys(struct cli *c, struct dkim_key_row **rows, size_t *count, struct error *err)
{
    struct str domain;

    if (c->arg_count == 0)
        return dkim_key_store_list(c->arena, STR(""), ROWS_MAX, rows, count, err);
    return domain_argument(c, &domain, err) < 0
               ? -1
               : dkim_key_store_of(c->arena, domain, rows, count, err);
}

static void print_key(struct cli_output *out, const struct dkim_key_row *row)
{
    cli_row(out);
    cli_text(out, "domain", row->domain);
    cli_text(out, "selector", row->selector);
    cli_text(out, "algorithm", row->algorithm);
    cli_text(out, "state", str_c(dkim_key_state_name(row->state)));
    cli_time(out, "since", row->changed_us);
    cli_time(out, "seen_in_dns", row->seen_us);
}

static int list(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct dkim_key_row *rows;
    size_t count;

    if (read_keys(c, &rows, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (!str_empty(rows[i].selector))
            print_key(out, &rows[i]);
    cli_print_list(out);
    return 0;
}

/* ---- records ---------------------------------------------------------------------------------------- */

static int print_record(struct cli *c, struct cli_output *out, const struct dkim_key_row *row,
                        struct error *err)
{
    struct dkim_key *key = dkim_key_new(row->pem, err);

    if (key == NULL)
        return -1;
    if (c->is_json) {
        print_key(out, row);
        cli_text(out, "name",
                 arena_printf(c->arena, "%.*s._domainkey.%.*s", STR_ARG(row->selector),
                              STR_ARG(row->domain)));
        cli_text(out, "record", dkim_key_record(c->arena, key));
    } else {
        struct str line = dkim_key_zone_line(c->arena, key, row->selector, row->domain);
        printf("; %s, %.*s\n%.*s\n", dkim_key_state_name(row->state), STR_ARG(row->algorithm),
               STR_ARG(line));
    }
    dkim_key_free(&key);
    return 0;
}

/* What is to be published: retired keys too, as long as mail that they signed may be under way. */
static int show(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct dkim_key_row *rows;
    struct str domain;
    size_t count;

    if (domain_argument(c, &domain, err) < 0 || dkim_ring_make_first(domain, err) < 0 ||
        dkim_key_store_of(c->arena, domain, &rows, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (print_record(c, out, &rows[i], err) < 0)
            return -1;
    if (c->is_json)
        cli_print_list(out);
    return 0;
}

static int check(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct dkim_key_row *rows;
    size_t count;

    if (read_keys(c, &rows, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        struct error cause = {0};
        bool is_published;

        if (str_empty(rows[i].selector))
            continue;
        cli_row(out);
        cli_text(out, "domain", rows[i].domain);
        cli_text(out, "selector", rows[i].selector);
        cli_text(out, "state", str_c(dkim_key_state_name(rows[i].state)));
        if (dkim_ring_look(c->arena, &rows[i], &is_published, &cause) < 0)
            cli_text(out, "dns", arena_str(c->arena, str_c(cause.text)));
        else
            cli_text(out, "dns", is_published ? STR("published") : STR("not there"));
    }
    cli_print_list(out);
    return 0;
}

/* ---- changes ---------------------------------------------------------------------------------------- */

static int make_next(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    enum dkim_algorithm algorithm = DKIM_RSA_SHA256;
    struct str domain, selector;

    if (c->arg_count > 1 && !dkim_algorithm_parse(c->args[1], &algorithm))
        return fail(err, ERR_SYNTAX, "the algorithm is rsa or ed25519");
    if (domain_argument(c, &domain, err) < 0 ||
        dkim_ring_make_next(c->arena, domain, algorithm, &selector, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "domain", domain);
    cli_text(out, "selector", selector);
    cli_print_done(
        out,
        "Made the key %.*s. Publish its record (merpati dkim show %.*s); it signs when DNS has it.",
        STR_ARG(selector), STR_ARG(domain));
    return 0;
}

static int prepare_import(struct cli *c, struct error *err)
{
    struct str *pem = ARENA_NEW(c->arena, struct str);

    if (cli_read_file(c->arena, arena_c(c->arena, c->args[2]), pem, err) < 0)
        return -1;
    c->prepared = pem;
    return 0;
}

static int import(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str domain, selector = arena_lower(c->arena, c->args[1]);
    bool is_active;

    if (domain_argument(c, &domain, err) < 0 ||
        dkim_ring_import(c->arena, domain, selector, *(struct str *)c->prepared, &is_active, err) <
            0)
        return -1;
    cli_row(out);
    cli_text(out, "selector", selector);
    cli_flag(out, "active", is_active);
    cli_print_done(out,
                   is_active ? "Took over the key %.*s. It signs from now on (within a minute)."
                             : "Took over the key %.*s. It signs when DNS has its record.",
                   STR_ARG(selector));
    return 0;
}

/* One of the changes of state: a verb and what came of it. */
static int change(struct cli *c,
                  int (*run)(struct str domain, struct str selector, struct error *err),
                  const char *done, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct str domain, selector = arena_lower(c->arena, c->args[1]);

    if (domain_argument(c, &domain, err) < 0 || run(domain, selector, err) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "selector", selector);
    cli_print_done(out, "%s %.*s.", done, STR_ARG(selector));
    return 0;
}

static int activate(struct cli *c, struct error *err)
{
    return change(c, dkim_key_store_activate, "From now on (within a minute) mail is signed with",
                  err);
}

static int retire(struct cli *c, struct error *err)
{
    return change(c, dkim_key_store_retire, "No more mail is signed with", err);
}

static int remove_key(struct cli *c, struct error *err)
{
    return change(c, dkim_key_store_remove, "Deleted the key", err);
}

const struct cli_command cli_dkim_commands[] = {
    {"show", "DOMAIN", 1, 1, 0, NULL, show, false,
     "the records to publish in DNS; makes the first keys"},
    {"list", "[DOMAIN]", 0, 1, 0, NULL, list, false, "keys and their states"},
    {"check", "[DOMAIN]", 0, 1, 0, NULL, check, false, "which of their records DNS has"},
    {"new", "DOMAIN [rsa|ed25519]", 1, 2, 0, NULL, make_next, false,
     "make the next key; it takes over when its record is published"},
    {"import", "DOMAIN SELECTOR FILE", 3, 3, 0, prepare_import, import, false,
     "take over a key (PEM; - is standard input)"},
    {"activate", "DOMAIN SELECTOR", 2, 2, 0, NULL, activate, false,
     "sign with this key now, published or not"},
    {"retire", "DOMAIN SELECTOR", 2, 2, 0, NULL, retire, false, "sign with it no more"},
    {"remove", "DOMAIN SELECTOR", 2, 2, 0, NULL, remove_key, false,
     "delete a key that does not sign"},
    {0},
};
