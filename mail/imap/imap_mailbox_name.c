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

int imap_parse_mailbox(struct imap_session *s, struct imap_command *c, struct imap_place *out,
                       struct error *err)
{
    struct str wire, name;

    if (imap_parse_astring(&c->args, s->arena, &wire, "a mailbox name", err) < 0)
        return -1;
    if (imap_name_decode(s->arena, wire, imap_has_utf8(s), &name)) {
        if (name.n > 1 &&
            name.p[name.n - 1] == '/') /* "Work/" announces children to come (RFC 9051, 6.3.4) */
            name.n--;
        out->account_id = s->account_id;
        if (mailbox_path_canonical(s->arena, name, &out->path, err) == 0)
            return 0;
    } else {
        fail(err, ERR_SYNTAX, "the mailbox name is not valid %s",
             imap_has_utf8(s) ? "UTF-8" : "modified UTF-7");
    }
    c->refusal = "CANNOT";
    return -1;
}

int imap_find_mailbox(struct imap_session *s, struct imap_command *c,
                      const struct imap_place *place, unsigned rights, struct mailbox *out,
                      struct error *err)
{
    return mailbox_find(s->arena, place->account_id, place->path, out, err);
}

void imap_add_mailbox(const struct imap_session *s, struct buf *out, struct str path)
{
    struct buf wire;

    if (imap_has_utf8(s)) {
        imap_add_quoted(out, path);
        return;
    }
    buf_init(&wire, SIZE_MAX);
    utf7_imap_encode(&wire, path);
    imap_add_quoted(out, buf_str(&wire));
    buf_fini(&wire);
}
