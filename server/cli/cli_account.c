/* cli_account.c - merpati account: people, shared mailboxes, and whoever else has a mailbox. */
#include <stdio.h>
#include <unistd.h>

#include "server/cli/cli_csv.h"
#include "server/cli/cli_input.h"
#include "server/cli/cli_internal.h"
#include "server/directory/credential.h"
#include "server/directory/routing_admin.h"

#define PAGE_SIZE 1000

/* --- what is typed --------------------------------------------------------------------------------- */

int cli_parse_quota(struct str text, int64_t *out, struct error *err)
{
    static const char units[] = "KMGT";
    struct str digits = text;
    ptrdiff_t unit = -1;
    uint64_t number;

    *out = str_ieq(text, STR("none")) ? QUOTA_UNLIMITED : QUOTA_DEFAULT;
    if (str_ieq(text, STR("none")) || str_ieq(text, STR("default")))
        return 0;
    if (text.n > 1)
        unit = str_index(STR("KMGT"), ascii_upper(text.p[text.n - 1]));
    if (unit >= 0)
        digits.n--;
    if (!str_to_u64(digits, &number) || number == 0 ||
        number > (uint64_t)INT64_MAX >> (10 * (unit + 1)))
        return fail(
            err, ERR_SYNTAX,
            "\"%.*s\" is no limit: write a number with one of %s behind it, none, or default",
            STR_ARG(str_head(text, 40)), units);
    *out = (int64_t)(number << (10 * (unit + 1)));
    return 0;
}

int cli_parse_yes_no(struct str text, const char *name, bool *out, struct error *err)
{
    *out = str_ieq(text, STR("yes"));
    if (!*out && !str_ieq(text, STR("no")))
        return fail(err, ERR_SYNTAX, "\"%.*s\" is neither yes nor no: write %s",
                    STR_ARG(str_head(text, 40)), name);
    return 0;
}

static int type_twice(struct arena *a, struct str *out, struct error *err)
{
    struct str again;

    if (cli_read_hidden(a, "Password: ", out, err) < 0 ||
        cli_read_hidden(a, "Once more: ", &again, err) < 0)
        return -1;
    if (!str_eq(*out, again))
        return fail(err, ERR_CONFLICT, "the two passwords differ");
    return out->n > 0 ? 0 : fail(err, ERR_SYNTAX, "the password is empty");
}

int cli_read_password(struct cli *c, struct str *out, struct error *err)
{
    *out = STR_NULL;
    if (cli_has(c, OPTION_PASSWORD_STDIN)) {
        if (cli_read_stdin_line(c->arena, out, err) < 0)
            return -1;
        return out->n > 0 ? 0 : fail(err, ERR_SYNTAX, "the password on standard input is empty");
    }
    return isatty(STDIN_FILENO) ? type_twice(c->arena, out, err) : 0;
}

static int parse_kind(struct str text, enum account_kind *out, struct error *err)
{
    if (text.n == 0) {
        *out = ACCOUNT_PERSON;
        return 0;
    }
    if (!account_kind_parse(text, out))
        return fail(err, ERR_SYNTAX,
                    "\"%.*s\" is no kind: write person, shared, group, room or equipment",
                    STR_ARG(str_head(text, 40)));
    return 0;
}

/* --- add ------------------------------------------------------------------------------------------- */

struct additions {
    struct account_new *v;
    size_t *lines; /* of the file; NULL when there is none */
    size_t count, size;
};

static int prepare_one(struct cli *c, struct additions *all, struct error *err)
{
    struct account_new *n = ARENA_NEW(c->arena, struct account_new);

    if (c->arg_count != 1)
        return fail(err, ERR_SYNTAX, "write: merpati account add ADDRESS, or --from-csv FILE");
    if (parse_kind(cli_value(c, OPTION_KIND), &n->kind, err) < 0)
        return -1;
    if (cli_has(c, OPTION_QUOTA) &&
        cli_parse_quota(cli_value(c, OPTION_QUOTA), &n->quota_bytes, err) < 0)
        return -1;
    if (cli_has(c, OPTION_MESSAGES) &&
        cli_parse_quota(cli_value(c, OPTION_MESSAGES), &n->quota_messages, err) < 0)
        return -1;
    n->address = c->args[0];
    n->is_administrator = cli_has(c, OPTION_ADMINISTRATOR);
    n->name = cli_value(c, OPTION_NAME);
    n->password_hash = cli_value(c, OPTION_PASSWORD_HASH);
    /* Only people need to be asked: nobody logs in as a room. */
    if (cli_has(c, OPTION_PASSWORD_STDIN) || (n->password_hash.n == 0 && n->kind == ACCOUNT_PERSON))
        if (cli_read_password(c, &n->password, err) < 0)
            return -1;
    *all = (struct additions){.v = n, .count = 1};
    return 0;
}

enum column {
    COLUMN_ADDRESS,
    COLUMN_NAME,
    COLUMN_PASSWORD,
    COLUMN_PASSWORD_HASH,
    COLUMN_KIND,
    COLUMN_QUOTA,
    COLUMN_COUNT
};

static const char *const column_names[COLUMN_COUNT] = {"address",       "name", "password",
                                                       "password_hash", "kind", "quota"};

struct header {
    enum column columns[CSV_FIELDS_MAX];
    size_t count;
};

static int read_header(struct csv *csv, struct arena *a, struct header *header, struct error *err)
{
    struct csv_row row;
    int status = csv_next(csv, a, &row, err);
    bool has_address = false;

    if (status < 0)
        return -1;
    for (size_t i = 0; status > 0 && i < row.count; i++) {
        int column = 0;
        while (column < COLUMN_COUNT &&
               !str_ieq(str_trim(row.fields[i]), str_c(column_names[column])))
            column++;
        if (column == COLUMN_COUNT)
            return fail(err, ERR_SYNTAX,
                        "line %zu: \"%.*s\" is no column: the first line names some of "
                        "address,name,password,password_hash,kind,quota",
                        csv->line, STR_ARG(str_head(row.fields[i], 40)));
        header->columns[i] = (enum column)column;
        has_address |= column == COLUMN_ADDRESS;
        header->count = i + 1;
    }
    return has_address ? 0
                       : fail(err, ERR_SYNTAX,
                              "the first line must name the columns, and address among them");
}

static int set_field(struct account_new *n, enum column column, struct str value, struct error *err)
{
    switch (column) {
    case COLUMN_ADDRESS:
        n->address = str_trim(value);
        return 0;
    case COLUMN_NAME:
        n->name = str_trim(value);
        return 0;
    case COLUMN_PASSWORD:
        n->password = value;
        return 0;
    case COLUMN_PASSWORD_HASH:
        n->password_hash = str_trim(value);
        return 0;
    case COLUMN_KIND:
        return parse_kind(str_trim(value), &n->kind, err);
    case COLUMN_QUOTA:
        return str_trim(value).n == 0 ? 0 : cli_parse_quota(str_trim(value), &n->quota_bytes, err);
    case COLUMN_COUNT:
        break;
    }
    return 0;
}

static int read_account(const struct csv *csv, const struct header *header,
                        const struct csv_row *row, struct account_new *n, struct error *err)
{
    struct error cause = {0};

    if (row->count != header->count)
        return fail(err, ERR_SYNTAX, "line %zu: %zu fields where the first line names %zu",
                    csv->line, row->count, header->count);
    for (size_t i = 0; i < row->count; i++)
        if (set_field(n, header->columns[i], row->fields[i], &cause) < 0)
            return fail(err, ERR_SYNTAX, "line %zu: %s", csv->line, cause.text);
    return 0;
}

static void make_room(struct arena *a, struct additions *all)
{
    struct additions larger = {.count = all->count, .size = all->size * 2 + 64};

    if (all->count < all->size)
        return;
    larger.v = ARENA_ARRAY(a, larger.size, struct account_new);
    larger.lines = ARENA_ARRAY(a, larger.size, size_t);
    for (size_t i = 0; i < all->count; i++) {
        larger.v[i] = all->v[i];
        larger.lines[i] = all->lines[i];
    }
    *all = larger;
}

static int prepare_csv(struct cli *c, struct additions *all, struct error *err)
{
    struct csv_row *row = ARENA_NEW(c->arena, struct csv_row);
    struct header header = {0};
    struct str text;
    struct csv csv;
    int status;

    if (c->arg_count > 0)
        return fail(err, ERR_SYNTAX, "give addresses on the command line or in a file, not both");
    if (cli_read_file(c->arena, c->options[OPTION_FROM_CSV], &text, err) < 0)
        return -1;
    csv_open(&csv, text);
    if (read_header(&csv, c->arena, &header, err) < 0)
        return -1;
    while ((status = csv_next(&csv, c->arena, row, err)) > 0) {
        make_room(c->arena, all);
        all->lines[all->count] = csv.line;
        if (read_account(&csv, &header, row, &all->v[all->count++], err) < 0)
            return -1;
    }
    return status;
}

static int prepare_add(struct cli *c, struct error *err)
{
    struct additions *all = ARENA_NEW(c->arena, struct additions);

    c->prepared = all;
    return cli_has(c, OPTION_FROM_CSV) ? prepare_csv(c, all, err) : prepare_one(c, all, err);
}

static int add_from_csv(struct cli *c, const struct additions *all, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct error cause = {0};
    size_t done;

    if (account_add_many(all->v, all->count, &done, &cause) < 0)
        return fail(err, cause.kind, "line %zu: %s (%zu before it were added)", all->lines[done],
                    cause.text, done);
    cli_row(out);
    cli_number(out, "added", (int64_t)done);
    cli_print_done(out, "Added %zu accounts.", done);
    return 0;
}

static int add(struct cli *c, struct error *err)
{
    const struct additions *all = c->prepared;
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account account;
    int64_t account_id;

    if (cli_has(c, OPTION_FROM_CSV))
        return add_from_csv(c, all, err);
    if (account_add(all->v, &account_id, err) < 0 ||
        directory_get_account(c->arena, account_id, &account, err) < 0)
        return -1;
    cli_row(out);
    cli_number(out, "account_id", account_id);
    cli_text(out, "address", account.address);
    cli_text(out, "kind", str_c(account_kind_name(account.kind)));
    cli_print_done(out, "Added %.*s.", STR_ARG(account.address));
    return 0;
}

/* --- remove, restore, show, list ------------------------------------------------------------------- */

int cli_remove_account(struct cli *c, struct str address, unsigned kinds, const char *what,
                       struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account account;

    if (directory_find_account(c->arena, address, &account, err) < 0)
        return -1;
    if (!(kinds & KIND_BIT(account.kind)))
        return fail(err, ERR_DENIED, "%.*s is not %s", STR_ARG(account.address), what);
    if (account_remove(account.address, err) < 0)
        return -1;
    cli_row(out);
    cli_number(out, "account_id", account.account_id);
    cli_text(out, "address", account.address);
    cli_print_done(out, "Removed %.*s; \"merpati account restore %lld\" brings it back.",
                   STR_ARG(account.address), (long long)account.account_id);
    return 0;
}

static int remove_account(struct cli *c, struct error *err)
{
    return cli_remove_account(c, c->args[0], ALL_KINDS, "an account", err);
}

static int prepare_restore(struct cli *c, struct error *err)
{
    uint64_t *number = ARENA_NEW(c->arena, uint64_t);

    c->prepared = number;
    if (!str_to_u64(c->args[0], number) || *number > INT64_MAX)
        return fail(err, ERR_SYNTAX,
                    "\"%.*s\" is not an account's number: see \"merpati account list --removed\"",
                    STR_ARG(str_head(c->args[0], 80)));
    return 0;
}

static int restore(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    int64_t account_id = (int64_t) * (const uint64_t *)c->prepared;
    struct account account;

    if (account_restore(account_id, cli_value(c, OPTION_AS), err) < 0 ||
        directory_get_account(c->arena, account_id, &account, err) < 0)
        return -1;
    cli_row(out);
    cli_number(out, "account_id", account_id);
    cli_text(out, "address", account.address);
    cli_print_done(out, "Restored %.*s.", STR_ARG(account.address));
    return 0;
}

static void put_account(struct cli_output *out, const struct account *account,
                        const struct account_usage *usage)
{
    cli_row(out);
    cli_text(out, "address", account->address);
    cli_text(out, "name", account->name);
    cli_text(out, "kind", str_c(account_kind_name(account->kind)));
    cli_flag(out, "active", account->is_active);
    cli_flag(out, "admin", account->is_administrator);
    cli_bytes(out, "used", usage->bytes);
    cli_limit(out, "quota", account->quota_bytes, true);
    cli_number(out, "messages", usage->messages);
    cli_limit(out, "messages_max", account->quota_messages, false);
    cli_number(out, "account_id", account->account_id);
}

static int put_ways(struct cli *c, struct cli_output *out, struct error *err)
{
    bool keeps_copy, of_own, of_others;
    int64_t undo_send_ms;
    struct str *targets;
    size_t count;

    if (forward_get(c->arena, c->args[0], &targets, &count, &keeps_copy, err) < 0 ||
        account_get_sent_copy(c->args[0], &of_own, &of_others, err) < 0 ||
        account_get_undo_send(c->args[0], &undo_send_ms, err) < 0)
        return -1;
    cli_texts(out, "forward", targets, count);
    cli_flag(out, "keeps_copy", keeps_copy);
    cli_flag(out, "sent_copy", of_own);
    cli_flag(out, "sent_copy_of_others", of_others);
    cli_number(out, "undo_send_ms", undo_send_ms);
    return 0;
}

static int show(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account_usage usage;
    struct account account;
    struct str *addresses;
    size_t count;

    if (directory_find_account(c->arena, c->args[0], &account, err) < 0 ||
        account_get_usage(account.account_id, &usage, err) < 0 ||
        account_list_addresses(c->arena, account.account_id, &addresses, &count, err) < 0)
        return -1;
    put_account(out, &account, &usage);
    cli_texts(out, "addresses", addresses, count);
    if (account.kind != ACCOUNT_GROUP && put_ways(c, out, err) < 0)
        return -1;
    cli_print_record(out);
    return 0;
}

int cli_list_accounts(struct cli *c, unsigned kinds, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account_usage *usage;
    struct account *accounts;
    struct str after = STR("");
    size_t count;

    do {
        if (account_list(c->arena, cli_value(c, OPTION_DOMAIN), after, PAGE_SIZE, &accounts, &usage,
                         &count, err) < 0)
            return -1;
        for (size_t i = 0; i < count; i++)
            if (kinds & KIND_BIT(accounts[i].kind))
                put_account(out, &accounts[i], &usage[i]);
        if (count > 0)
            after = accounts[count - 1].address;
    } while (count == PAGE_SIZE);
    cli_print_list(out);
    return 0;
}

static int list_removed(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account_removed *removed;
    size_t count;

    if (account_list_removed(c->arena, &removed, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_number(out, "account_id", removed[i].account_id);
        cli_text(out, "address", removed[i].address);
        cli_text(out, "name", removed[i].name);
        cli_text(out, "kind", str_c(account_kind_name(removed[i].kind)));
        cli_time(out, "removed", removed[i].removed_us);
    }
    cli_print_list(out);
    return 0;
}

static int list(struct cli *c, struct error *err)
{
    return cli_has(c, OPTION_REMOVED) ? list_removed(c, err) : cli_list_accounts(c, ALL_KINDS, err);
}

/* --- change ---------------------------------------------------------------------------------------- */

static int say_changed(struct cli *c, const char *what)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);

    cli_row(out);
    cli_text(out, "address", c->args[0]);
    cli_text(out, "changed", str_c(what));
    cli_print_done(out, "%.*s: %s.", STR_ARG(c->args[0]), what);
    return 0;
}

static int disable(struct cli *c, struct error *err)
{
    return account_set_active(c->args[0], false, err) < 0 ? -1 : say_changed(c, "disabled");
}

static int enable(struct cli *c, struct error *err)
{
    return account_set_active(c->args[0], true, err) < 0 ? -1 : say_changed(c, "enabled");
}

static int prepare_admin(struct cli *c, struct error *err)
{
    bool *administrator = ARENA_NEW(c->arena, bool);

    c->prepared = administrator;
    return cli_parse_yes_no(c->args[1], "merpati account admin ADDRESS yes, or no", administrator,
                            err);
}

static int admin(struct cli *c, struct error *err)
{
    const bool *administrator = c->prepared;
    struct account account;

    if (directory_find_account(c->arena, c->args[0], &account, err) < 0)
        return -1;
    if (*administrator && account.kind != ACCOUNT_PERSON)
        return fail(err, ERR_DENIED, "%.*s is not a person: only a person can be an administrator",
                    STR_ARG(account.address));
    if (account_set_administrator(c->args[0], *administrator, err) < 0)
        return -1;
    return say_changed(c, *administrator ? "is an administrator now" : "is no administrator");
}

static int name(struct cli *c, struct error *err)
{
    return account_set_name(c->args[0], c->args[1], err) < 0 ? -1 : say_changed(c, "name changed");
}

struct limits {
    int64_t bytes, messages;
};

static int prepare_quota(struct cli *c, struct error *err)
{
    struct limits *limits = ARENA_NEW(c->arena, struct limits);

    c->prepared = limits;
    limits->messages = QUOTA_KEEP;
    if (cli_has(c, OPTION_MESSAGES) &&
        cli_parse_quota(cli_value(c, OPTION_MESSAGES), &limits->messages, err) < 0)
        return -1;
    return cli_parse_quota(c->args[1], &limits->bytes, err);
}

static int quota(struct cli *c, struct error *err)
{
    const struct limits *limits = c->prepared;

    if (account_set_quota(c->args[0], limits->bytes, limits->messages, err) < 0)
        return -1;
    return say_changed(c, "quota changed");
}

/* --- passwords ------------------------------------------------------------------------------------- */

static int prepare_password(struct cli *c, struct error *err)
{
    struct str *password = ARENA_NEW(c->arena, struct str);

    c->prepared = password;
    if (cli_has(c, OPTION_PASSWORD_HASH))
        return 0;
    if (cli_read_password(c, password, err) < 0)
        return -1;
    return password->n > 0
               ? 0
               : fail(err, ERR_SYNTAX,
                      "say where the password comes from: --password-stdin or --password-hash");
}

static int find_who_logs_in(struct cli *c, struct account *out, struct error *err)
{
    if (directory_find_account(c->arena, c->args[0], out, err) < 0)
        return -1;
    return out->kind != ACCOUNT_GROUP
               ? 0
               : fail(err, ERR_DENIED, "%.*s is a group: nobody logs in as a group",
                      STR_ARG(out->address));
}

static int password(struct cli *c, struct error *err)
{
    const struct str *typed = c->prepared;
    struct account account;
    int status;

    if (find_who_logs_in(c, &account, err) < 0)
        return -1;
    if (cli_has(c, OPTION_PASSWORD_HASH))
        status = credential_set_hash(account.account_id, cli_value(c, OPTION_PASSWORD_HASH), err);
    else
        status = credential_set_password(account.account_id, *typed, err);
    return status < 0 ? -1 : say_changed(c, "password changed");
}

static int app_password_new(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account account;
    struct str text;
    int64_t id;

    if (find_who_logs_in(c, &account, err) < 0 ||
        app_password_add(c->arena, account.account_id, c->args[1], &id, &text, err) < 0)
        return -1;
    cli_row(out);
    cli_number(out, "id", id);
    cli_text(out, "label", c->args[1]);
    cli_text(out, "password", text);
    cli_print_record(out);
    return 0;
}

static int prepare_app_password_remove(struct cli *c, struct error *err)
{
    uint64_t *id = ARENA_NEW(c->arena, uint64_t);

    c->prepared = id;
    if (!str_to_u64(c->args[1], id) || *id > INT64_MAX)
        return fail(err, ERR_SYNTAX,
                    "\"%.*s\" is not a number: see \"merpati account app-password list\"",
                    STR_ARG(str_head(c->args[1], 80)));
    return 0;
}

static int app_password_delete(struct cli *c, struct error *err)
{
    const uint64_t *id = c->prepared;
    struct account account;

    if (directory_find_account(c->arena, c->args[0], &account, err) < 0 ||
        app_password_remove(account.account_id, (int64_t)*id, err) < 0)
        return -1;
    return say_changed(c, "app password removed");
}

static int app_password_show(struct cli *c, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct app_password *passwords;
    struct account account;
    size_t count;

    if (directory_find_account(c->arena, c->args[0], &account, err) < 0 ||
        app_password_list(c->arena, account.account_id, &passwords, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        cli_row(out);
        cli_number(out, "id", passwords[i].id);
        cli_text(out, "label", passwords[i].label);
        cli_time(out, "created", passwords[i].created_us);
        cli_time(out, "used", passwords[i].used_us);
    }
    cli_print_list(out);
    return 0;
}

#define ADD_OPTIONS                                                                                \
    (TAKES(NAME) | TAKES(KIND) | TAKES(PASSWORD_STDIN) | TAKES(PASSWORD_HASH) | TAKES(QUOTA) |     \
     TAKES(MESSAGES) | TAKES(FROM_CSV) | TAKES(ADMINISTRATOR))
#define PASSWORD_OPTIONS (TAKES(PASSWORD_STDIN) | TAKES(PASSWORD_HASH))

const struct cli_command cli_account_commands[] = {
    {"add", "[ADDRESS]", 0, 1, ADD_OPTIONS, prepare_add, add, false,
     "make an account; asks for a password at a terminal"},
    {"remove", "ADDRESS", 1, 1, 0, NULL, remove_account, false,
     "remove an account; it can be restored"},
    {"restore", "NUMBER", 1, 1, TAKES(AS), prepare_restore, restore, false,
     "bring a removed account back"},
    {"list", "", 0, 0, TAKES(DOMAIN) | TAKES(REMOVED), NULL, list, false,
     "accounts with what they use"},
    {"show", "ADDRESS", 1, 1, 0, NULL, show, false, "one account, by any of its addresses"},
    {"disable", "ADDRESS", 1, 1, 0, NULL, disable, false, "no more log-ins; mail still arrives"},
    {"enable", "ADDRESS", 1, 1, 0, NULL, enable, false, "log-ins again"},
    {"admin", "ADDRESS yes|no", 2, 2, 0, prepare_admin, admin, false,
     "who may change other accounts, in IMAP and the admin console"},
    {"name", "ADDRESS NAME", 2, 2, 0, NULL, name, false, "change the name that people see"},
    {"quota", "ADDRESS SIZE", 2, 2, TAKES(MESSAGES), prepare_quota, quota, false,
     "set the limits: 5G, none, or default"},
    {"password", "ADDRESS", 1, 1, PASSWORD_OPTIONS, prepare_password, password, false,
     "set the password"},
    {"share", "ADDRESS", 1, 1, TAKES(MAILBOX) | TAKES(WITH) | TAKES(RIGHTS) | TAKES(LIST),
     cli_prepare_share, cli_share, false, "let others work in its mailboxes"},
    {"unshare", "ADDRESS", 1, 1, TAKES(MAILBOX) | TAKES(WITH), cli_prepare_unshare, cli_unshare,
     false, "let them no more"},
    {"forward set", "ADDRESS TARGET...", 2, CLI_ARGS_MAX, TAKES(NO_COPY), NULL, cli_forward_set,
     false, "send its mail on, here or elsewhere, instead of where it went on to before"},
    {"forward off", "ADDRESS", 1, 1, 0, NULL, cli_forward_off, false, "send it on no more"},
    {"forward show", "ADDRESS", 1, 1, 0, NULL, cli_forward_show, false,
     "where its mail goes on to"},
    {"sent-copy", "ADDRESS none|own|others|both", 2, 2, 0, cli_prepare_sent_copy, cli_sent_copy,
     false, "whose mail the server puts into its Sent: its own, what others send as it"},
    {"undo-send", "ADDRESS TIME|off", 2, 2, 0, cli_prepare_undo_send, cli_undo_send, false,
     "how long what it sends waits and can be called back, such as 30s"},
    {"grants add", "ADDRESS WHO...", 2, CLI_ARGS_MAX, TAKES(ON_BEHALF), NULL, cli_grants_add, false,
     "let people, or members of a group, send as it"},
    {"grants remove", "ADDRESS WHO...", 2, CLI_ARGS_MAX, 0, NULL, cli_grants_remove, false,
     "let them no more"},
    {"grants list", "ADDRESS", 1, 1, 0, NULL, cli_grants_list, false, "who may send as it"},
    {"held", "", 0, 0, 0, NULL, cli_guard_held, false,
     "whose outgoing mail is held because they seem to be misused"},
    {"release", "ADDRESS", 1, 1, 0, NULL, cli_guard_release, false,
     "let the held mail of an account go, and take what it did for usual"},
    {"purge", "ADDRESS", 1, 1, 0, NULL, cli_guard_purge, false,
     "delete the held mail of an account; nobody is told"},
    {"guard", "ADDRESS on|off", 2, 2, 0, cli_prepare_guard_switch, cli_guard_switch, false,
     "off: never hold the mail of this account"},
    {"app-password add", "ADDRESS LABEL", 2, 2, 0, NULL, app_password_new, false,
     "make a password for one device"},
    {"app-password remove", "ADDRESS ID", 2, 2, 0, prepare_app_password_remove, app_password_delete,
     false, "let it be valid no more"},
    {"app-password list", "ADDRESS", 1, 1, 0, NULL, app_password_show, false,
     "passwords of devices, and when they were used"},
    {0},
};
