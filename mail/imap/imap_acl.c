/* imap_acl.c - GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS (RFC 4314, 3).
 *
 * No rights are tied together, and none are always there but the owner's, who has them all. */
#include "mail/imap/imap_acl.h"

#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_reply.h"

/* --- arguments -------------------------------------------------------------------------------- */

static PARKS int parse_mailbox_alone(struct imap_session *s, struct imap_command *c,
                                     struct imap_place *place, struct error *err)
{
    return imap_parse_mailbox(s, c, place, err) < 0 ? -1 : imap_parse_end(&c->args, err);
}

static PARKS int parse_identifier(struct imap_session *s, struct imap_command *c,
                                  struct imap_place *place, struct str *identifier,
                                  struct error *err)
{
    if (imap_parse_mailbox(s, c, place, err) < 0 || imap_parse_space(&c->args, err) < 0)
        return -1;
    return imap_parse_astring(&c->args, s->arena, identifier, "an identifier", err);
}

/* "+lrs", "-t", "lrswi" or "". */
static int parse_mod_rights(struct imap_session *s, struct imap_command *c,
                            enum rights_change *change, unsigned *rights, struct error *err)
{
    struct str text;

    if (imap_parse_space(&c->args, err) < 0 ||
        imap_parse_astring(&c->args, s->arena, &text, "rights", err) < 0 ||
        imap_parse_end(&c->args, err) < 0)
        return -1;
    *change = RIGHTS_REPLACE;
    if (str_skip_prefix(&text, STR("+")))
        *change = RIGHTS_ADD;
    else if (str_skip_prefix(&text, STR("-")))
        *change = RIGHTS_REMOVE;
    return rights_parse(text, rights, err);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void add_rights(struct buf *out, unsigned rights)
{
    if (rights == 0)
        buf_adds(out, "\"\"");
    rights_add(out, rights);
}

void imap_add_myrights(const struct imap_session *s, struct buf *out, struct str name,
                       unsigned rights)
{
    buf_adds(out, "* MYRIGHTS ");
    imap_add_mailbox(s, out, name);
    buf_addc(out, ' ');
    add_rights(out, rights);
    buf_adds(out, "\r\n");
}

static PARKS void write_acl(struct imap_session *s, struct str name,
                            const struct mailbox_grant *grants, size_t count)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* ACL ");
    imap_add_mailbox(s, &out, name);
    for (size_t i = 0; i < count; i++) {
        buf_addc(&out, ' ');
        imap_add_string(&out, grants[i].name);
        buf_addc(&out, ' ');
        add_rights(&out, grants[i].rights);
    }
    buf_adds(&out, "\r\n");
    imap_write_buf(s, &out);
    buf_fini(&out);
}

/* The virtual rights stand by themselves, as their members do (RFC 4314, 2.1.1). */
static PARKS void write_listrights(struct imap_session *s, struct str name, struct str identifier,
                                   bool is_owner)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    buf_adds(&out, "* LISTRIGHTS ");
    imap_add_mailbox(s, &out, name);
    buf_addc(&out, ' ');
    imap_add_string(&out, identifier);
    buf_addc(&out, ' ');
    add_rights(&out, is_owner ? RIGHTS_ALL : 0);
    buf_adds(&out, is_owner ? "\r\n" : " l r s w i p k x t e c d a\r\n");
    imap_write_buf(s, &out);
    buf_fini(&out);
}

/* --- commands --------------------------------------------------------------------------------- */

int imap_cmd_getacl(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct mailbox_grant *grants;
    struct imap_place place;
    struct mailbox mailbox;
    size_t count;

    if (parse_mailbox_alone(s, c, &place, err) < 0 ||
        imap_find_mailbox(s, c, &place, RIGHT_ADMINISTER, &mailbox, err) < 0 ||
        access_list_grants(s->arena, imap_mailbox_key(&place, &mailbox), &grants, &count, err) < 0)
        return -1;
    write_acl(s, place.name, grants, count);
    return 0;
}

/* Only who may administer the mailbox is told which names exist. */
static PARKS int set_rights(struct imap_session *s, struct imap_command *c,
                            const struct imap_place *place, struct str identifier,
                            enum rights_change change, unsigned rights, struct error *err)
{
    struct mailbox mailbox;
    struct grantee grantee;

    if (imap_find_mailbox(s, c, place, RIGHT_ADMINISTER, &mailbox, err) < 0 ||
        grantee_parse(s->arena, identifier, &grantee, err) < 0)
        return -1;
    return access_set(imap_mailbox_key(place, &mailbox), grantee, change, rights, err);
}

int imap_cmd_setacl(struct imap_session *s, struct imap_command *c, struct error *err)
{
    enum rights_change change;
    struct imap_place place;
    struct str identifier;
    unsigned rights;

    if (parse_identifier(s, c, &place, &identifier, err) < 0 ||
        parse_mod_rights(s, c, &change, &rights, err) < 0)
        return -1;
    return set_rights(s, c, &place, identifier, change, rights, err);
}

int imap_cmd_deleteacl(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place place;
    struct str identifier;

    if (parse_identifier(s, c, &place, &identifier, err) < 0 || imap_parse_end(&c->args, err) < 0)
        return -1;
    return set_rights(s, c, &place, identifier, RIGHTS_REPLACE, 0, err);
}

int imap_cmd_listrights(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place place;
    struct mailbox mailbox;
    struct grantee grantee;
    struct str identifier;

    if (parse_identifier(s, c, &place, &identifier, err) < 0 || imap_parse_end(&c->args, err) < 0 ||
        imap_find_mailbox(s, c, &place, RIGHT_ADMINISTER, &mailbox, err) < 0 ||
        grantee_parse(s->arena, identifier, &grantee, err) < 0)
        return -1;
    write_listrights(s, place.name, identifier, grantee.account_id == place.account_id);
    return 0;
}

int imap_cmd_myrights(struct imap_session *s, struct imap_command *c, struct error *err)
{
    struct imap_place place;
    struct mailbox mailbox;
    struct buf out;

    if (parse_mailbox_alone(s, c, &place, err) < 0 ||
        imap_find_mailbox(s, c, &place, 0, &mailbox, err) < 0)
        return -1;
    buf_init(&out, SIZE_MAX);
    imap_add_myrights(s, &out, place.name, mailbox.rights);
    imap_write_buf(s, &out);
    buf_fini(&out);
    return 0;
}
