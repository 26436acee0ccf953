/* cli_share.c - merpati account share and unshare: who else works in an account's mailboxes.
 *
 * What owners do from their mail clients, administrators do here; for shared accounts, into which nobody logs in, it is
 * the only way. Running servers are told, so that sessions see it at once. */
#include "mail/store/access.h"
#include "server/cli/cli_internal.h"
#include "server/pg/notify.h"

/* --- what is typed --------------------------------------------------------------------------------- */

int cli_prepare_share(struct cli *c, struct error *err)
{
    unsigned *rights = ARENA_NEW(c->arena, unsigned);

    c->prepared = rights;
    if (cli_has(c, OPTION_LIST))
        return 0;
    if (!cli_has(c, OPTION_WITH))
        return fail(err, ERR_SYNTAX, "say with whom: --with ADDRESS, or --with anyone");
    if (!cli_has(c, OPTION_RIGHTS))
        return fail(err, ERR_SYNTAX,
                    "say what is allowed, as --rights lrs (to read) or --rights "
                    "lrswipkxte (to work)");
    return rights_parse(cli_value(c, OPTION_RIGHTS), rights, err);
}

int cli_prepare_unshare(struct cli *c, struct error *err)
{
    return cli_has(c, OPTION_WITH)
               ? 0
               : fail(err, ERR_SYNTAX, "say with whom: --with ADDRESS, or --with anyone");
}

/* --- sharing --------------------------------------------------------------------------------------- */

static int find_holder(struct cli *c, struct account *out, struct error *err)
{
    if (directory_find_account(c->arena, c->args[0], out, err) < 0)
        return -1;
    return out->kind != ACCOUNT_GROUP
               ? 0
               : fail(err, ERR_DENIED, "%.*s is a group: it has no mailboxes",
                      STR_ARG(out->address));
}

/* One mailbox, or all that there are. */
static int set_rights(struct cli *c, const struct account *account, unsigned rights, int *count,
                      struct error *err)
{
    struct mailbox mailbox;
    struct grantee grantee;

    if (grantee_parse(c->arena, cli_value(c, OPTION_WITH), &grantee, err) < 0)
        return -1;
    if (!cli_has(c, OPTION_MAILBOX))
        return access_set_all(account->account_id, grantee, RIGHTS_REPLACE, rights, count, err);
    *count = 1;
    if (mailbox_find(c->arena, account->account_id, cli_value(c, OPTION_MAILBOX), &mailbox, err) <
        0)
        return -1;
    return access_set((struct mailbox_key){account->account_id, mailbox.mailbox_id}, grantee,
                      RIGHTS_REPLACE, rights, err);
}

static int change(struct cli *c, unsigned rights, struct error *err)
{
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account account;
    struct buf text;
    int count, status;

    if (find_holder(c, &account, err) < 0)
        return -1;
    bus_start();
    status = set_rights(c, &account, rights, &count, err);
    bus_stop();
    if (status < 0)
        return -1;
    buf_init(&text, SIZE_MAX);
    rights_add(&text, rights);
    cli_row(out);
    cli_text(out, "address", account.address);
    cli_text(out, "with", cli_value(c, OPTION_WITH));
    cli_text(out, "rights", arena_str(c->arena, buf_str(&text)));
    cli_number(out, "mailboxes", count);
    cli_print_done(out, "%.*s: %d %s.", STR_ARG(account.address), count,
                   rights != 0 ? "shared" : "no longer shared");
    buf_fini(&text);
    return 0;
}

/* --- listing --------------------------------------------------------------------------------------- */

/* The owner, who comes first, has no need to be told of. */
static int put_grants(struct cli *c, struct cli_output *out, int64_t account_id,
                      const struct mailbox *mailbox, struct error *err)
{
    struct mailbox_grant *grants;
    struct buf text;
    size_t count;

    if (access_list_grants(c->arena, (struct mailbox_key){account_id, mailbox->mailbox_id}, &grants,
                           &count, err) < 0)
        return -1;
    buf_init(&text, SIZE_MAX);
    for (size_t i = 1; i < count; i++) {
        buf_clear(&text);
        rights_add(&text, grants[i].rights);
        cli_row(out);
        cli_text(out, "mailbox", mailbox->path);
        cli_text(out, "with", grants[i].name);
        cli_text(out, "rights", arena_str(c->arena, buf_str(&text)));
    }
    buf_fini(&text);
    return 0;
}

static int list_shares(struct cli *c, struct error *err)
{
    struct str wanted = cli_value(c, OPTION_MAILBOX);
    struct cli_output *out = cli_output_new(c->arena, c->is_json);
    struct account account;
    struct mailbox *v;
    size_t count;

    if (find_holder(c, &account, err) < 0 ||
        mailbox_list(c->arena, account.account_id, &v, &count, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if ((wanted.n == 0 || str_eq(wanted, v[i].path)) &&
            put_grants(c, out, account.account_id, &v[i], err) < 0)
            return -1;
    cli_print_list(out);
    return 0;
}

/* --- the commands ---------------------------------------------------------------------------------- */

int cli_share(struct cli *c, struct error *err)
{
    return cli_has(c, OPTION_LIST) ? list_shares(c, err)
                                   : change(c, *(const unsigned *)c->prepared, err);
}

int cli_unshare(struct cli *c, struct error *err)
{
    return change(c, 0, err);
}
