/* imap_catenate.c - from a URL to bytes of a message of the user.
 *
 * Clients put one old message together anew from several of its parts, so messages are taken from
 * where FETCH keeps those it just read. \Seen stays as it is. */
#include "mail/imap/imap_catenate.h"

#include "mail/imap/imap_fetch_body.h"
#include "mail/imap/imap_fetch_kept.h"
#include "mail/imap/imap_mailbox_name.h"
#include "mail/imap/imap_url.h"
#include "mail/store/mailbox.h"
#include "server/base/utf8.h"

/* The name as this client would have to write it, so that all names are understood in one place. */
static struct str name_on_wire(const struct imap_session *s, struct str name)
{
    struct buf wire;
    struct str out;

    if (imap_has_utf8(s) || !str_is_ascii(name))
        return name;
    buf_init(&wire, SIZE_MAX);
    utf7_imap_encode(&wire, name);
    out = arena_str(s->arena, buf_str(&wire));
    buf_fini(&wire);
    return out;
}

static PARKS int find_mailbox(struct imap_session *s, const struct imap_url *url,
                              struct mailbox_key *out, struct error *err)
{
    struct str wire = name_on_wire(s, url->mailbox);
    struct imap_command c = {0}; /* takes refusals that are not ours to give */
    struct imap_place place;
    struct mailbox mailbox;

    imap_parser_init(&c.args, arena_printf(s->arena, "{%zu}\r\n%.*s", wire.n, STR_ARG(wire)));
    if (imap_parse_mailbox(s, &c, &place, err) < 0 ||
        imap_find_mailbox(s, &c, &place, RIGHT_READ, &mailbox, err) < 0)
        return -1;
    if (url->uid_validity != 0 && url->uid_validity != mailbox.uid_validity)
        return fail(err, ERR_NOT_FOUND, "the mailbox has another UIDVALIDITY");
    *out = imap_mailbox_key(&place, &mailbox);
    return 0;
}

static PARKS int add_section(struct imap_session *s, const struct kept_message *kept,
                             const struct fetch_item *item, size_t size_max, struct buf *out,
                             struct error *err)
{
    struct fetch_body body = {
        .a = s->arena, .message = kept_message_raw(kept), .root = kept_message_root(kept)};
    struct buf scratch;
    struct str bytes;
    int status = 0;

    buf_init(&scratch, SIZE_MAX);
    fetch_body_section(&body, item, &scratch, &bytes);
    bytes = fetch_partial(item, bytes, 0);
    if (bytes.p == NULL)
        status = fail(err, ERR_NOT_FOUND, "the message has no such part");
    else if (bytes.n > size_max)
        status = fail(err, ERR_TOO_BIG, "the message would become too large");
    else
        buf_add(out, bytes);
    buf_fini(&scratch);
    return status;
}

int imap_catenate_url(struct imap_session *s, struct str url, size_t size_max, struct buf *out,
                      struct error *err)
{
    struct kept_message *kept;
    struct mailbox_key mailbox;
    struct imap_url parsed;
    int64_t message_id;
    int status;

    if (imap_url_parse(url, s->arena, &parsed, err) < 0 ||
        find_mailbox(s, &parsed, &mailbox, err) < 0 ||
        message_find(mailbox, parsed.uid, &message_id, err) < 0)
        return -1;
    kept = kept_message_take(mailbox.account_id, message_id, err);
    if (kept == NULL)
        return -1;
    status = add_section(s, kept, &parsed.item, size_max, out, err);
    kept_message_release(&kept);
    return status;
}

/* In quotes, as the RFC's examples have it; without what would end the code or the line. */
const char *imap_catenate_badurl(struct arena *a, struct str url)
{
    struct buf code;
    const char *out;

    buf_init(&code, SIZE_MAX);
    buf_adds(&code, "BADURL \"");
    for (size_t i = 0; i < url.n && i < 1000; i++)
        if (url.p[i] <= ' ' || url.p[i] >= 127 || strchr("\"\\]", url.p[i]) != NULL)
            buf_addf(&code, "%%%02X", (unsigned char)url.p[i]);
        else
            buf_addc(&code, url.p[i]);
    buf_addc(&code, '"');
    out = arena_c(a, buf_str(&code));
    buf_fini(&code);
    return out;
}
