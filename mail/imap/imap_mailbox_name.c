/* imap_mailbox_name.c - names between wire and store. */
#include "mail/imap/imap_mailbox_name.h"

#include "mail/imap/imap_reply.h"
#include "mail/store/mailbox.h"
#include "server/base/utf8.h"

bool imap_name_decode(struct arena *a, struct str wire, bool is_utf8, struct str *out)
{
    struct buf decoded;
    bool ok;

    if (is_utf8 || !str_is_ascii(wire)) {
        *out = wire;
        return utf8_valid(wire);
    }
    buf_init(&decoded, 4 * MAILBOX_PATH_SIZE_MAX + wire.n);
    ok = utf7_imap_decode(&decoded, wire) && buf_ok(&decoded);
    *out = arena_str(a, buf_str(&decoded));
    buf_fini(&decoded);
    return ok;
}

static int cannot(struct imap_command *c)
{
    c->refusal = "CANNOT";
    return -1;
}

/* A name as UTF-8, not yet in canonical form. */
static int parse_name(struct imap_session *s, struct imap_command *c, struct str *name,
                      struct error *err)
{
    struct str wire;

    if (imap_parse_astring(&c->args, s->arena, &wire, "a mailbox name", err) < 0)
        return -1;
    if (!imap_name_decode(s->arena, wire, imap_has_utf8(s), name)) {
        fail(err, ERR_SYNTAX, "the mailbox name is not valid %s",
             imap_has_utf8(s) ? "UTF-8" : "modified UTF-7");
        return cannot(c);
    }
    if (name->n > 1 && name->p[name->n - 1] == '/')
        name->n--; /* "Work/" announces children to come (RFC 9051, 6.3.4) */
    return 0;
}

static PARKS int find_foreign_place(struct imap_session *s, struct imap_command *c, struct str name,
                                    struct imap_place *out, struct error *err)
{
    struct access_place place;

    if (access_parse_name(s->arena, s->account_id, name, &place, err) < 0) {
        if (err->kind == ERR_SYNTAX)
            return cannot(c);
        if (err->kind == ERR_NOT_FOUND)
            c->refusal = "NONEXISTENT"; /* nothing to create, either */
        return -1;
    }
    *out = (struct imap_place){place.account_id, place.path, place.name};
    if (imap_place_is_own(s, out))
        out->name = out->path;
    return 0;
}

int imap_parse_mailbox(struct imap_session *s, struct imap_command *c, struct imap_place *out,
                       struct error *err)
{
    struct str name;

    if (parse_name(s, c, &name, err) < 0)
        return -1;
    if (access_is_foreign_name(name))
        return find_foreign_place(s, c, name, out, err);
    out->account_id = s->account_id;
    if (mailbox_path_canonical(s->arena, name, &out->path, err) < 0)
        return cannot(c);
    out->name = out->path;
    return 0;
}

int imap_parse_mailbox_name(struct imap_session *s, struct imap_command *c, struct str *name,
                            struct error *err)
{
    struct str typed;

    if (parse_name(s, c, &typed, err) < 0)
        return -1;
    if (access_canonical_name(s->arena, typed, name, err) < 0)
        return cannot(c);
    return 0;
}

int imap_require_rights(unsigned has, unsigned rights, struct error *err)
{
    return (has & rights) == rights
               ? 0
               : fail(err, ERR_DENIED, "you have no right to do this in the mailbox");
}

/* TRYCREATE is told to those only who could. */
static PARKS int not_found(struct imap_session *s, struct imap_command *c,
                           const struct imap_place *place, struct error *err)
{
    unsigned rights;

    if (c->verb != NULL && c->verb->flags & VERB_TRYCREATE &&
        (access_parent_rights(s->account_id, place->account_id, place->path, &rights, NULL) < 0 ||
         !(rights & RIGHT_CREATE)))
        c->refusal = "NONEXISTENT";
    return -1;
}

int imap_find_mailbox(struct imap_session *s, struct imap_command *c,
                      const struct imap_place *place, unsigned rights, struct mailbox *out,
                      struct error *err)
{
    if (access_find(s->arena, s->account_id, place->account_id, place->path, out, err) < 0)
        return err->kind == ERR_NOT_FOUND ? not_found(s, c, place, err) : -1;
    return imap_require_rights(out->rights, rights, err);
}

void imap_add_mailbox(const struct imap_session *s, struct buf *out, struct str name)
{
    struct buf wire;

    if (imap_has_utf8(s)) {
        imap_add_quoted(out, name);
        return;
    }
    buf_init(&wire, SIZE_MAX);
    utf7_imap_encode(&wire, name);
    imap_add_quoted(out, buf_str(&wire));
    buf_fini(&wire);
}
