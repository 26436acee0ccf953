/* cli_sieve.c - merpati sieve: scripts that filter mail, of accounts and of whole domains.
 *
 * Whose they are is said by an address or a domain. What does not compile is never stored. */
#include "mail/sieve/sieve.h"
#include "mail/store/sieve_store.h"
#include "server/cli/cli_input.h"
#include "server/cli/cli_internal.h"

/* ---- checking -------------------------------------------------------------------------------- */

static int prepare_check(struct cli *c, struct error *err)
{
    struct str *text = ARENA_NEW(c->arena, struct str);

    c->prepared = text;
    return cli_read_file(c->arena, arena_c(c->arena, c->args[0]), text, err);
}

/* One line as compilers write it, so that editors find the place. */
static int check(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    const struct str *text = c->prepared;
    struct sieve_script *script;
    struct sieve_fault fault;
    bool is_right = sieve_compile(*text, &script, c->arena, &fault) == 0;

    sieve_script_free(&script);
    cli_row(out);
    cli_text(out, "file", c->args[0]);
    cli_flag(out, "is_right", is_right);
    if (is_right) {
        cli_print_done(out, "%.*s is right.", STR_ARG(c->args[0]));
        return 0;
    }
    cli_number(out, "line", fault.line);
    cli_number(out, "column", fault.column);
    cli_text(out, "fault", fault.text);
    cli_print_done(out, "%.*s:%u:%u: %.*s", STR_ARG(c->args[0]), fault.line, fault.column,
                   STR_ARG(fault.text));
    return 1;
}

/* ---- whose ----------------------------------------------------------------------------------- */

struct owner {
    bool is_domain;
    struct str domain;
    struct account account;
};

static int find_owner(struct cli *c, struct owner *out, struct error *err)
{
    struct str typed = c->args[0];

    *out = (struct owner){.is_domain = str_index(typed, '@') < 0};
    if (out->is_domain)
        return domain_canonical(c->arena, typed, &out->domain, err);
    if (directory_find_account(c->arena, typed, &out->account, err) < 0)
        return -1;
    return out->account.kind != ACCOUNT_GROUP
               ? 0
               : fail(err, ERR_DENIED, "%.*s is a group: it has no mailboxes, and no scripts",
                      STR_ARG(out->account.address));
}

/* ---- reading --------------------------------------------------------------------------------- */

static int list_of_domain(struct cli *c, struct str domain, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct sieve_domain_listed *v;
    size_t count;

    if (sieve_store_domain_list(c->arena, domain, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_text(out, "name", v[i].name);
        cli_text(out, "place", str_c(sieve_place_name(v[i].place)));
        cli_bytes(out, "size", v[i].size);
        cli_time(out, "changed", v[i].changed_us);
    }
    cli_print_list(out);
    return 0;
}

static int list(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct sieve_listed *v;
    struct owner owner;
    size_t count;

    if (find_owner(c, &owner, err) < 0)
        return -1;
    if (owner.is_domain)
        return list_of_domain(c, owner.domain, err);
    if (sieve_store_list(c->arena, owner.account.account_id, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_text(out, "name", v[i].name);
        cli_flag(out, "active", v[i].is_active);
        cli_bytes(out, "size", v[i].size);
        cli_time(out, "changed", v[i].changed_us);
    }
    cli_print_list(out);
    return 0;
}

static int show(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct owner owner;
    struct str content;

    if (find_owner(c, &owner, err) < 0 ||
        (owner.is_domain
             ? sieve_store_domain_get(c->arena, owner.domain, c->args[1], &content, err)
             : sieve_store_get(c->arena, owner.account.account_id, c->args[1], &content, err)) < 0)
        return -1;
    cli_row(out);
    cli_text(out, "name", c->args[1]);
    cli_text(out, "content", content);
    cli_print_done(out, "%.*s", STR_ARG(content));
    return 0;
}

/* ---- changing -------------------------------------------------------------------------------- */

struct put {
    struct str content;
    enum sieve_place place;
};

static int check_content(struct cli *c, struct str content, struct error *err)
{
    struct sieve_script *script;
    struct sieve_fault fault;

    if (sieve_compile(content, &script, c->arena, &fault) < 0)
        return fail(err, ERR_SYNTAX, "%.*s:%u:%u: %.*s", STR_ARG(c->args[2]), fault.line,
                    fault.column, STR_ARG(str_head(fault.text, 300)));
    sieve_script_free(&script);
    return 0;
}

static int prepare_put(struct cli *c, struct error *err)
{
    struct put *put = ARENA_NEW(c->arena, struct put);
    bool is_domain = str_index(c->args[0], '@') < 0;

    c->prepared = put;
    put->place = SIEVE_PLACE_BEFORE;
    if (is_domain != cli_has(c, OPTION_PLACE))
        return fail(err, ERR_SYNTAX,
                    "the place of a domain's script is said with --place before, after or include; "
                    "an account's has none");
    if (is_domain && !sieve_place_parse(cli_value(c, OPTION_PLACE), &put->place))
        return fail(err, ERR_SYNTAX, "--place is before, after or include");
    if (cli_read_file(c->arena, arena_c(c->arena, c->args[2]), &put->content, err) < 0)
        return -1;
    return check_content(c, put->content, err);
}

static int store(struct cli *c, const struct owner *owner, const struct put *put, struct error *err)
{
    if (owner->is_domain)
        return sieve_store_domain_put(owner->domain, c->args[1], put->place, put->content, err);
    if (sieve_store_put(owner->account.account_id, c->args[1], put->content, err) < 0)
        return -1;
    return cli_has(c, OPTION_ACTIVE)
               ? sieve_store_activate(owner->account.account_id, c->args[1], err)
               : 0;
}

static void print_name(struct cli *c, const char *what)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    cli_row(out);
    cli_text(out, "owner", c->args[0]);
    cli_text(out, "name", c->args[1]);
    cli_print_done(out, "%.*s of %.*s %s.", STR_ARG(c->args[1]), STR_ARG(c->args[0]), what);
}

static int put(struct cli *c, struct error *err)
{
    struct owner owner;

    if (find_owner(c, &owner, err) < 0 || store(c, &owner, c->prepared, err) < 0)
        return -1;
    print_name(c, cli_has(c, OPTION_ACTIVE) ? "is stored and active" : "is stored");
    return 0;
}

static int activate(struct cli *c, struct error *err)
{
    struct owner owner;

    if (find_owner(c, &owner, err) < 0)
        return -1;
    if (owner.is_domain)
        return fail(err, ERR_DENIED,
                    "scripts of a domain always run: remove those that should not");
    if (sieve_store_activate(owner.account.account_id, cli_none(c->args[1]), err) < 0)
        return -1;
    print_name(c, str_empty(cli_none(c->args[1])) ? "of the scripts is active" : "is active");
    return 0;
}

static int remove_script(struct cli *c, struct error *err)
{
    struct owner owner;

    if (find_owner(c, &owner, err) < 0 ||
        (owner.is_domain ? sieve_store_domain_remove(owner.domain, c->args[1], err)
                         : sieve_store_remove(owner.account.account_id, c->args[1], err)) < 0)
        return -1;
    print_name(c, "is removed");
    return 0;
}

const struct cli_command cli_sieve_commands[] = {
    {"check", "FILE", 1, 1, 0, prepare_check, check, true,
     "read a Sieve script and say what is wrong in it, and where; - is standard input"},
    {"list", "ADDRESS|DOMAIN", 1, 1, 0, NULL, list, false, "the scripts of an account or a domain"},
    {"show", "ADDRESS|DOMAIN NAME", 2, 2, 0, NULL, show, false, "a script's text"},
    {"put", "ADDRESS|DOMAIN NAME FILE", 3, 3, TAKES(ACTIVE) | TAKES(PLACE), prepare_put, put, false,
     "store a script; a domain's runs before or after those of its people, or is there to be "
     "included"},
    {"activate", "ADDRESS NAME|none", 2, 2, 0, NULL, activate, false,
     "let a script of the account run when mail comes"},
    {"remove", "ADDRESS|DOMAIN NAME", 2, 2, 0, NULL, remove_script, false, "remove a script"},
    {"run", "ADDRESS [NAME|FILE]", 1, 2, TAKES(MAILBOX) | TAKES(DRY_RUN), cli_prepare_sieve_run,
     cli_sieve_run, false,
     "run a script, or the active one, over a mailbox: files, flags and throws into Trash, sends "
     "nothing"},
    {"test", "ADDRESS|- NAME|FILE MESSAGE", 3, 3, 0, cli_prepare_sieve_test, cli_sieve_test, false,
     "what a script would do with one message, and why; changes nothing"},
    {0},
};
