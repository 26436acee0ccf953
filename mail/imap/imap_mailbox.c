/* imap_mailbox.c - CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE. */
#include "mail/imap/imap_mailbox.h"

#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_notify.h"
#include "mail/store/access.h"
#include "mail/store/mailbox.h"

/* Special uses of RFC 6154 and the store's roles, which are JMAP's. The inbox has no attribute. */
static const struct {
    struct str attribute, role;
} uses[] = {
    {{"\\Drafts", 7}, {"drafts", 6}},   {{"\\Sent", 5}, {"sent", 4}},
    {{"\\Archive", 8}, {"archive", 7}}, {{"\\Junk", 5}, {"junk", 4}},
    {{"\\Trash", 6}, {"trash", 5}},
};

struct str imap_special_use(struct str role)
{
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        if (str_eq(role, uses[i].role))
            return uses[i].attribute;
    return STR("");
}

bool imap_special_role(struct str use, struct str *role)
{
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        if (str_ieq(use, uses[i].attribute)) {
            *role = uses[i].role;
            return true;
        }
    return false;
}

static int parse_role(struct imap_command *c, struct str *role, struct error *err)
{
    struct str name;

    if (imap_parse_char(&c->args, '\\', err) < 0 ||
        imap_parse_atom(&c->args, &name, "a special use", err) < 0)
        return -1;
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++)
        if (str_ieq(name, str_from(uses[i].attribute, 1))) {
            *role = uses[i].role;
            return 0;
        }
    c->refusal = "USEATTR";
    return fail(err, ERR_UNSUPPORTED, "no mailbox can have this special use");
}

/* " (USE (\Drafts))", RFC 6154, 3. */
static int parse_create_options(struct imap_command *c, struct str *role, struct error *err)
{
    *role = STR("");
    if (!imap_parse_skip(&c->args, ' '))
        return imap_parse_end(&c->args, err);
    if (imap_parse_char(&c->args, '(', err) < 0)
        return -1;
    if (!imap_parse_word(&c->args, STR("USE")))
        return imap_parse_expected(&c->args, "USE", err);
    if (imap_parse_space(&c->args, err) < 0 || imap_parse_char(&c->args, '(', err) < 0)
        return -1;
    if (!imap_parse_peek(&c->args, ')') && parse_role(c, role, err) < 0)
        return -1;
    if (imap_parse_peek(&c->args, ' ')) {
        c->refusal = "USEATTR";
        return fail(err, ERR_UNSUPPORTED, "a mailbox can have one special use only");
    }
    if (imap_parse_char(&c->args, ')', err) < 0 || imap_parse_char(&c->args, ')', err) < 0)
        return -1;
    return imap_parse_end(&c->args, err);
}

/* The store says "exists" for both; RFC 6154 has a code of its own for a use that is taken. */
static PARKS int check_role_is_free(struct imap_session *s, struct imap_command *c, struct str role,
                                    struct error *err)
{
    struct mailbox taken;

    if (role.n == 0 || mailbox_find_role(s->arena, s->account_id, role, &taken, NULL) < 0)
        return 0;
    c->refusal = "USEATTR";
    return fail(err, ERR_EXISTS, "another mailbox has this special use");
}

/* --- others' mailboxes -------------------------------------------------------------------------- */

/* One answer for every place that the user does not know, whether it exists or not. */
static int no_such_place(struct imap_command *c, struct error *err)
{
    error_clear(err);
    c->refusal = "CANNOT";
    return fail(err, ERR_UNSUPPORTED, "no mailbox can be made there");
}

/* The name of a mailbox to be made. */
static PARKS int parse_new_mailbox(struct imap_session *s, struct imap_command *c,
                                   struct imap_place *place, struct error *err)
{
    if (imap_parse_mailbox(s, c, place, err) == 0)
        return 0;
    return err->kind == ERR_NOT_FOUND ? no_such_place(c, err) : -1;
}

static PARKS int check_may_create(struct imap_session *s, struct imap_command *c,
                                  const struct imap_place *place, struct error *err)
{
    unsigned rights;

    if (access_parent_rights(s->account_id, place->account_id, place->path, &rights, err) < 0)
        return -1;
    if (!(rights & RIGHTS_KNOWING))
        return no_such_place(c, err);
    return imap_require_rights(rights, RIGHT_CREATE, err);
}

/* "Exists" is told of mailboxes that the user may know only. */
static PARKS int refuse_new_mailbox(struct imap_session *s, struct imap_command *c,
                                    const struct imap_place *place, struct error *err)
{
    struct mailbox taken;

    if (err->kind != ERR_EXISTS || imap_place_is_own(s, place) ||
        access_find(s->arena, s->account_id, place->account_id, place->path, &taken, NULL) == 0)
        return -1;
    return no_such_place(c, err);
}

/* --- CREATE, DELETE, RENAME --------------------------------------------------------------------- */

/* What a mailbox is used for is the owner's to say. */
static PARKS int check_role(struct imap_session *s, struct imap_command *c,
                            const struct imap_place *place, struct str role, struct error *err)
{
    if (role.n == 0 || imap_place_is_own(s, place))
        return check_role_is_free(s, c, role, err);
    c->refusal = "USEATTR";
    return fail(err, ERR_UNSUPPORTED, "mailboxes of others get no special use");
}

int imap_cmd_create(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place place;
    struct str role;
    int64_t mailbox_id;

    if (parse_new_mailbox(s, c, &place, err) < 0 || parse_create_options(c, &role, err) < 0 ||
        check_may_create(s, c, &place, err) < 0 || check_role(s, c, &place, role, err) < 0)
        return -1;
    if (mailbox_create(place.account_id, place.path, role, &mailbox_id, err) < 0)
        return refuse_new_mailbox(s, c, &place, err);
    c->code = arena_printf(s->arena, "MAILBOXID (F%lld-%lld)", (long long)place.account_id,
                           (long long)mailbox_id);
    imap_notify_did(s, EVENT_CREATED, &place);
    return 0;
}

static PARKS int parse_one_mailbox(struct imap_session *s, struct imap_command *c,
                                   struct imap_place *place, struct error *err)
{
    return imap_parse_mailbox(s, c, place, err) < 0 ? -1 : imap_parse_end(&c->args, err);
}

/* In one's own account the store finds out by itself. */
static PARKS int check_may(struct imap_session *s, struct imap_command *c,
                           const struct imap_place *place, unsigned rights, struct error *err)
{
    struct mailbox mailbox;

    return imap_place_is_own(s, place) ? 0 : imap_find_mailbox(s, c, place, rights, &mailbox, err);
}

static PARKS bool knows_mailbox_below(struct imap_session *s, const struct imap_place *place)
{
    struct shared_mailbox *v;
    size_t count;

    if (imap_place_is_own(s, place))
        return true;
    if (access_list(s->arena, s->account_id, &v, &count, NULL) < 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if (str_starts(v[i].name, place->name) && v[i].name.n > place->name.n &&
            v[i].name.p[place->name.n] == '/')
            return true;
    return false;
}

/* That something is below is told to those only who can see it. */
static PARKS int refuse_removal(struct imap_session *s, struct imap_command *c,
                                const struct imap_place *place, struct error *err)
{
    if (err->kind == ERR_DENIED)
        c->refusal = "CANNOT";
    if (err->kind != ERR_CONFLICT)
        return -1;
    if (knows_mailbox_below(s, place)) {
        c->refusal = "HASCHILDREN";
        return -1;
    }
    c->refusal = "CANNOT";
    error_clear(err);
    return fail(err, ERR_CONFLICT, "this mailbox cannot be removed");
}

int imap_cmd_delete(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place place;

    if (parse_one_mailbox(s, c, &place, err) < 0 ||
        check_may(s, c, &place, RIGHT_DELETE_MAILBOX, err) < 0)
        return -1;
    if (mailbox_remove(place.account_id, place.path, err) == 0) {
        imap_notify_did(s, EVENT_REMOVED, &place);
        return 0;
    }
    return refuse_removal(s, c, &place, err);
}

/* Renaming INBOX takes its messages out (RFC 9051, 6.3.6). */
static unsigned rights_to_rename(const struct imap_place *from)
{
    return str_eq(from->path, STR("INBOX"))
               ? RIGHT_DELETE_MAILBOX | RIGHT_READ | RIGHT_DELETE_MESSAGES | RIGHT_EXPUNGE
               : RIGHT_DELETE_MAILBOX;
}

int imap_cmd_rename(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place from, to;

    if (imap_parse_mailbox(s, c, &from, err) < 0 || imap_parse_space(&c->args, err) < 0 ||
        parse_new_mailbox(s, c, &to, err) < 0 || imap_parse_end(&c->args, err) < 0 ||
        check_may(s, c, &from, rights_to_rename(&from), err) < 0 ||
        check_may_create(s, c, &to, err) < 0)
        return -1;
    if (from.account_id != to.account_id) {
        c->refusal = "CANNOT";
        return fail(err, ERR_UNSUPPORTED, "a mailbox cannot move to another account");
    }
    if (mailbox_rename(from.account_id, from.path, to.path, err) == 0) {
        imap_notify_did(s, EVENT_RENAMED, &to);
        return 0;
    }
    if (err->kind == ERR_DENIED || err->kind == ERR_CONFLICT)
        c->refusal = "CANNOT";
    return refuse_new_mailbox(s, c, &to, err);
}

/* --- SUBSCRIBE, UNSUBSCRIBE --------------------------------------------------------------------- */

/* A mailbox of somebody else must be listed for the user (RFC 4314, 4). */
int imap_cmd_subscribe(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place place;
    struct mailbox mailbox;

    if (parse_one_mailbox(s, c, &place, err) < 0 ||
        imap_find_mailbox(s, c, &place, RIGHT_LOOKUP, &mailbox, err) < 0)
        return -1;
    if (mailbox_subscribe(s->account_id, place.name, true, err) < 0)
        return -1;
    imap_notify_did(s, EVENT_SUBSCRIPTION, &place);
    return 0;
}

/* Of a name, whatever became of the mailbox. */
int imap_cmd_unsubscribe(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place place = {.account_id = s->account_id};

    if (imap_parse_mailbox_name(s, c, &place.name, err) < 0 || imap_parse_end(&c->args, err) < 0 ||
        mailbox_subscribe(s->account_id, place.name, false, err) < 0)
        return -1;
    place.path = place.name;
    imap_notify_did(s, EVENT_SUBSCRIPTION, &place);
    return 0;
}
