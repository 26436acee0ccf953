/* filter_reply.c - header and body of what a filter writes.
 *
 * Texts of scripts may hold what a stranger wrote: nothing of it can begin a field, and a name in From is an account's own. */
#include "mail/filter/filter_reply.h"

#include <inttypes.h>

#include "mail/mime/address.h"
#include "mail/mime/address_path.h"
#include "mail/mime/body_encode.h"
#include "mail/mime/header.h"
#include "mail/mime/header_edit.h"
#include "mail/mime/mailto.h"
#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/encode.h"

#define REFERENCES_MAX   20
#define SUBJECT_SIZE_MAX 1000

/* ---- fields ---------------------------------------------------------------------------------- */

static void add_field(struct buf *b, const char *name, struct str value)
{
    buf_addf(b, "%s: %.*s\r\n", name, STR_ARG(value));
}

static void add_text_field(struct buf *b, struct arena *a, const char *name, struct str utf8)
{
    add_field(b, name, header_encode_text(a, strlen(name), str_head(utf8, SUBJECT_SIZE_MAX)));
}

static bool is_own(const struct filter_author *author, struct str address)
{
    for (size_t i = 0; i < author->own_count; i++)
        if (str_ieq(author->own_addresses[i], address))
            return true;
    return str_ieq(author->address, address);
}

static struct str mailbox_text(struct arena *a, struct str name, struct str address)
{
    struct str local, domain;

    address_path_split(a, address, &local, &domain);
    address = address_path_of(a, local, domain);
    if (str_empty(name))
        return arena_printf(a, "<%.*s>", STR_ARG(address));
    return arena_printf(a, "%.*s <%.*s>", STR_ARG(header_encode_phrase(a, name)), STR_ARG(address));
}

/* What the script gives as :from, where it is an address of the account; else the account's own. */
static struct str from_value(struct arena *a, const struct filter_author *author, struct str wanted)
{
    struct addresses list;

    address_parse_list(a, wanted, &list);
    for (size_t i = 0; i < list.n; i++) {
        const struct address *v = &list.v[i];
        struct str address = arena_printf(a, "%.*s@%.*s", STR_ARG(v->local), STR_ARG(v->domain));

        if (!v->is_group_start && !v->is_group_end && is_own(author, address))
            return mailbox_text(a, header_decode_text(a, v->name), address);
    }
    return mailbox_text(a, author->name, author->address);
}

static void add_message_id(struct buf *b, const struct filter_author *author)
{
    struct str local, domain;

    str_rcut(author->address, '@', &local, &domain);
    buf_addf(b, "Message-ID: <%016" PRIx64 "%016" PRIx64 "@%.*s>\r\n", random_u64(), random_u64(),
             STR_ARG(domain));
}

static void add_date(struct buf *b)
{
    buf_adds(b, "Date: ");
    date_add_rfc5322(b, time_now_us() / 1000000, 0);
    buf_adds(b, "\r\n");
}

static struct str field_of(struct str message, const char *name)
{
    struct header_field field;

    return header_find(message, str_c(name), &field) ? field.value : STR("");
}

/* RFC 5322, 3.6.4. */
static void add_thread(struct buf *b, struct arena *a, struct str original)
{
    struct str ids[REFERENCES_MAX], id;
    size_t n = header_parse_msgids(a, field_of(original, "References"), ids, REFERENCES_MAX - 1);

    if (header_parse_msgids(a, field_of(original, "Message-ID"), &id, 1) == 0)
        return;
    add_field(b, "In-Reply-To", id);
    ids[n++] = id;
    buf_adds(b, "References:");
    for (size_t i = 0; i < n; i++)
        buf_addf(b, "%s%.*s", i == 0 ? " " : "\r\n ", STR_ARG(ids[i]));
    buf_adds(b, "\r\n");
}

/* ---- bodies ---------------------------------------------------------------------------------- */

/* Scripts have line ends of any kind. */
static struct str crlf_text(struct arena *a, struct str text)
{
    struct buf b;
    struct str out;

    buf_init(&b, SIZE_MAX);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] == '\r' && i + 1 < text.n && text.p[i + 1] == '\n')
            continue;
        if (text.p[i] == '\n' || text.p[i] == '\r')
            buf_addc(&b, '\r');
        buf_addc(&b, text.p[i] == '\r' ? '\n' : text.p[i]);
    }
    if (!str_ends(buf_str(&b), STR("\r\n")))
        buf_adds(&b, "\r\n");
    out = arena_str(a, buf_str(&b));
    buf_fini(&b);
    return out;
}

static void add_text_body(struct buf *b, struct arena *a, struct str text)
{
    bool is_plain;

    text = crlf_text(a, text);
    is_plain = mime_is_7bit(text);
    buf_addf(b,
             "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
             "Content-Transfer-Encoding: %s\r\n\r\n",
             is_plain ? "7bit" : "quoted-printable");
    if (is_plain)
        buf_add(b, text);
    else
        mime_encode_quoted_printable(b, text);
}

/* RFC 5230, 4.1: a MIME entity, its header first. Only Content fields are taken from it. */
static void add_entity(struct buf *b, struct arena *a, struct str entity)
{
    struct header_field field;
    struct str rest = crlf_text(a, entity);

    buf_adds(b, "MIME-Version: 1.0\r\n");
    while (header_next(&rest, &field))
        if (str_istarts(field.name, STR("Content-")))
            buf_add(b, field.whole);
    buf_adds(b, "\r\n");
    buf_add(b, rest);
}

static struct str finish(struct arena *a, struct buf *b)
{
    struct str text = arena_str(a, buf_str(b));

    buf_fini(b);
    return text;
}

/* ---- vacation -------------------------------------------------------------------------------- */

static struct str vacation_subject(struct arena *a, const struct sieve_action *action,
                                   struct str original)
{
    struct str subject;

    if (!str_empty(action->subject))
        return action->subject;
    subject = header_decode_text(a, field_of(original, "Subject"));
    return str_empty(subject) ? STR("Automatic reply")
                              : arena_printf(a, "Auto: %.*s", STR_ARG(subject));
}

struct str filter_vacation_message(struct arena *a, const struct filter_author *author,
                                   const struct sieve_action *action, struct str original)
{
    struct buf b;

    buf_init(&b, SIZE_MAX);
    add_field(&b, "From", from_value(a, author, action->from));
    add_field(&b, "To", mailbox_text(a, STR(""), action->address));
    add_text_field(&b, a, "Subject", vacation_subject(a, action, original));
    add_date(&b);
    add_message_id(&b, author);
    add_thread(&b, a, original);
    buf_adds(&b, "Auto-Submitted: auto-replied (vacation)\r\n");
    if (action->is_mime)
        add_entity(&b, a, action->text);
    else
        add_text_body(&b, a, action->text);
    return finish(a, &b);
}

/* ---- notices --------------------------------------------------------------------------------- */

static struct str notice_subject(struct arena *a, const struct sieve_action *action,
                                 struct str original)
{
    struct str subject = mailto_field(a, action->method, STR("subject"));

    if (!str_empty(action->text))
        return action->text;
    if (!str_empty(subject))
        return subject;
    return header_decode_text(a, field_of(original, "Subject"));
}

static struct str notice_body(struct arena *a, const struct sieve_action *action,
                              struct str original)
{
    struct str body = mailto_field(a, action->method, STR("body"));
    struct str from = header_decode_text(a, field_of(original, "From"));
    struct str subject = header_decode_text(a, field_of(original, "Subject"));

    if (!str_empty(body))
        return body;
    return arena_printf(a, "From: %.*s\r\nSubject: %.*s\r\n", STR_ARG(from), STR_ARG(subject));
}

bool filter_notice_message(struct arena *a, const struct filter_author *author,
                           const struct sieve_action *action, struct str original,
                           struct filter_notice *out)
{
    static const char *const importance[] = {"normal", "high", "normal", "low"};
    struct buf b;

    if (!mailto_parse(a, action->method, &out->to))
        return false;
    buf_init(&b, SIZE_MAX);
    add_field(&b, "From", from_value(a, author, action->from));
    add_field(&b, "To", mailbox_text(a, STR(""), out->to));
    add_text_field(&b, a, "Subject", notice_subject(a, action, original));
    add_date(&b);
    add_message_id(&b, author);
    buf_addf(&b, "Auto-Submitted: auto-notified; owner-email=\"%.*s\"\r\n",
             STR_ARG(author->address));
    buf_addf(
        &b, "Importance: %s\r\n",
        importance[action->importance >= 1 && action->importance <= 3 ? action->importance : 0]);
    add_text_body(&b, a, notice_body(a, action, original));
    out->message = finish(a, &b);
    return true;
}

bool filter_is_notice(struct str message)
{
    struct header_field field;

    while (header_next(&message, &field))
        if (str_ieq(field.name, STR("Auto-Submitted")) &&
            str_istarts(str_trim(field.value), STR("auto-notified")))
            return true;
    return false;
}
