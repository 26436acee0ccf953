/* dsn.c - builds a delivery report: header, text for people, fields for programs, the message it is about.
 *
 * What remote servers and senders wrote comes in by three doors only: clean_text (one line, bounded), the address fields,
 * and the returned message, which is a part of its own. */
#include "mail/queue/dsn.h"

#include <assert.h>

#include "mail/mime/body_encode.h"
#include "mail/mime/header.h"
#include "mail/mime/header_edit.h"
#include "mail/queue/dsn_text.h"
#include "server/base/date.h"
#include "server/base/encode.h"
#include "server/base/utf8.h"

#define REPORT_SIZE_MAX     ((size_t)16 << 20)
#define SUBJECT_SIZE_MAX    150
#define ADDRESS_SIZE_MAX    400
#define XTEXT_SIZE_MAX      900 /* in a line of 998 */
#define MESSAGE_ID_SIZE_MAX 250
#define TEXT_RECIPIENTS_MAX 100 /* more are no reading */
#define LINE_SIZE           74
#define BOUNDARY_SIZE       30

struct report {
    struct arena *arena;
    const struct dsn *d;
    const struct dsn_words *words;
    struct buf out;
    char boundary[BOUNDARY_SIZE + 1];
    bool is_global; /* UTF-8 may stand in fields (RFC 6533) */
    bool is_whole;  /* the message comes back with its body */
};

/* ---- texts from outside --------------------------------------------------------------------------------- */

/* One line of at most size_max bytes: runs of blanks and controls become one blank. Beyond ASCII only where it may stand. */
static struct str clean_text(struct report *r, struct str text, size_t size_max, bool may_be_utf8)
{
    struct buf repaired;
    char *p;
    size_t n = 0;

    text = str_head(str_trim(text), size_max);
    buf_init(&repaired, 3 * size_max + 16);
    utf8_add_repaired(&repaired, text);
    p = arena_alloc(r->arena, repaired.n + 1);
    for (size_t i = 0; i < repaired.n; i++) {
        unsigned char c = (unsigned char)repaired.p[i];
        if (n + 4 > size_max && (c & 0xC0) != 0x80) /* a whole character might not fit */
            break;
        bool is_c1 = c == 0xC2 && i + 1 < repaired.n && (unsigned char)repaired.p[i + 1] < 0xA0;
        if (c <= ' ' || c == 127 || is_c1) {
            i += is_c1;
            if (n > 0 && p[n - 1] != ' ')
                p[n++] = ' ';
        } else if (c < 127 || may_be_utf8) {
            p[n++] = (char)c;
        } else if (c >= 0xC0) {
            p[n++] = '?';
        }
    }
    buf_fini(&repaired);
    return str_trim(str_of(p, n));
}

/* "\x{E9}" and its kin; false when there is none here. */
static bool take_embedded(struct str *s, uint32_t *code_point)
{
    struct str hex;
    uint32_t value = 0;
    ptrdiff_t end;

    if (!str_starts(*s, STR("\\x{")) || (end = str_index(*s, '}')) < 4 || end > 9)
        return false;
    hex = str_of(s->p + 3, (size_t)end - 3);
    for (size_t i = 0; i < hex.n; i++) {
        const char *digits = "0123456789ABCDEF";
        const char *at = hex.p[i] == '\0' ? NULL : strchr(digits, ascii_upper(hex.p[i]));
        if (at == NULL)
            return false;
        value = value << 4 | (uint32_t)(at - digits);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value < 0xE000) || value <= ' ')
        return false;
    *code_point = value;
    *s = str_from(*s, (size_t)end + 1);
    return true;
}

static struct str decode_embedded(struct arena *a, struct str s)
{
    struct buf out;
    struct str text;
    uint32_t c;

    buf_init(&out, 4 * ADDRESS_SIZE_MAX + 16);
    while (s.n > 0)
        if (take_embedded(&s, &c)) {
            utf8_add(&out, c);
        } else {
            buf_addc(&out, s.p[0]);
            s = str_from(s, 1);
        }
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

static struct str clean_status(const struct dsn_recipient *v)
{
    static const char *const fallback[] = {"5.0.0", "4.0.0", "2.0.0", "2.0.0", "2.0.0"};
    struct str class, rest, subject, detail;
    uint32_t number;

    if (str_cut(v->status, '.', &class, &rest) && str_cut(rest, '.', &subject, &detail) &&
        class.n == 1 && strchr("245", class.p[0]) != NULL && subject.n <= 3 && detail.n <= 3 &&
        str_to_u32(subject, &number) && str_to_u32(detail, &number))
        return v->status;
    return str_c(fallback[v->action]);
}

/* ---- the header ------------------------------------------------------------------------------------------ */

static enum dsn_action worst_action(const struct dsn *d)
{
    enum dsn_action worst = DSN_EXPANDED;

    for (size_t i = 0; i < d->count; i++)
        if (d->v[i].action < worst)
            worst = d->v[i].action;
    return worst;
}

static bool has_action(const struct dsn *d, enum dsn_action action)
{
    for (size_t i = 0; i < d->count; i++)
        if (d->v[i].action == action)
            return true;
    return false;
}

/* Decoded, for people; empty when the message has none. */
static struct str original_subject(struct report *r)
{
    struct header_field field;
    struct str header = str_head(r->d->original, DSN_HEADER_SIZE_MAX);

    if (!header_find(header, STR("Subject"), &field))
        return STR("");
    return clean_text(r, header_decode_text(r->arena, str_head(field.value, 8 * SUBJECT_SIZE_MAX)),
                      SUBJECT_SIZE_MAX, true);
}

static void add_subject(struct report *r)
{
    struct str subject = original_subject(r);
    struct str text = arena_printf(r->arena, "%s%s%.*s", r->words->subject[worst_action(r->d)],
                                   str_empty(subject) ? "" : ": ", STR_ARG(subject));

    buf_addf(&r->out, "Subject: %.*s\r\n",
             STR_ARG(header_encode_text(r->arena, strlen("Subject"), text)));
}

/* So that mail programs show the report beside the message (RFC 3834, 3.1.6). */
static void add_references(struct report *r)
{
    struct header_field field;
    struct str id;

    if (!header_find(str_head(r->d->original, DSN_HEADER_SIZE_MAX), STR("Message-ID"), &field) ||
        header_parse_msgids(r->arena, str_head(field.value, 4096), &id, 1) == 0 ||
        id.n > MESSAGE_ID_SIZE_MAX || !mime_is_7bit(id) || str_index(id, ' ') >= 0)
        return;
    buf_addf(&r->out, "In-Reply-To: %.*s\r\nReferences: %.*s\r\n", STR_ARG(id), STR_ARG(id));
}

static void add_header(struct report *r, bool is_8bit)
{
    const struct dsn *d = r->d;
    struct buf *b = &r->out;
    char random[17];

    random_text(random, sizeof random - 1);
    buf_addf(b, "From: Mail Delivery System <%s%.*s>\r\n", str_empty(d->from) ? "postmaster@" : "",
             STR_ARG(str_empty(d->from) ? d->reporting_host : d->from));
    buf_addf(b, "To: <%.*s>\r\n", STR_ARG(clean_text(r, d->recipient, ADDRESS_SIZE_MAX, true)));
    add_subject(r);
    buf_adds(b, "Date: ");
    date_add_rfc5322(b, d->now_us / 1000000, 0);
    buf_addf(b, "\r\nMessage-ID: <%s.dsn@%.*s>\r\n", random, STR_ARG(d->reporting_host));
    add_references(r);
    buf_addf(b, "Auto-Submitted: auto-replied\r\nContent-Language: %s\r\nMIME-Version: 1.0\r\n",
             r->words->language);
    buf_addf(
        b, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n",
        r->boundary);
    if (is_8bit)
        buf_adds(b, "Content-Transfer-Encoding: 8bit\r\n");
    buf_adds(b, "\r\n");
}

static void begin_part(struct report *r, const char *type, const char *encoding)
{
    buf_addf(&r->out, "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n",
             r->boundary, type, encoding);
}

/* ---- the text for people ---------------------------------------------------------------------------------- */

/* Words one after the other, broken before LINE_SIZE. */
static void add_wrapped(struct buf *b, size_t indent, struct str text)
{
    size_t column = 0;
    struct str word;

    while (str_next_token(&text, ' ', &word)) {
        if (column > 0 && column + 1 + word.n > LINE_SIZE) {
            buf_adds(b, "\r\n");
            column = 0;
        }
        if (column == 0) {
            buf_addf(b, "%*s", (int)indent, "");
            column = indent;
        } else {
            buf_addc(b, ' ');
            column++;
        }
        buf_add(b, word);
        column += word.n;
    }
    buf_adds(b, "\r\n");
}

static void add_date(struct buf *b, int64_t unix_us)
{
    date_add_rfc5322(b, unix_us / 1000000, 0);
}

/* What the sender knows the recipient as. */
static struct str shown_address(struct report *r, const struct dsn_recipient *v)
{
    struct str type, address;

    if (!str_cut(v->orcpt, ';', &type, &address) || str_empty(address))
        address = v->address;
    else if (str_ieq(type, STR("utf-8")))
        address = decode_embedded(r->arena, str_head(address, ADDRESS_SIZE_MAX));
    return clean_text(r, address, ADDRESS_SIZE_MAX, true);
}

static void add_answer(struct report *r, struct buf *b, const struct dsn_recipient *v)
{
    struct str text = clean_text(r, v->text, DSN_DIAGNOSTIC_MAX, true);
    struct str host = clean_text(r, v->remote_host, ADDRESS_SIZE_MAX, false);
    struct str said = str_empty(host)
                          ? str_c(r->words->we_said)
                          : arena_printf(r->arena, r->words->remote_said, STR_ARG(host));

    if (str_empty(text) && v->code == 0)
        return;
    add_wrapped(b, 4, said);
    if (v->code != 0)
        text = arena_printf(r->arena, "%d %.*s", v->code, STR_ARG(text));
    add_wrapped(b, 6, text);
}

static void add_recipient(struct report *r, struct buf *b, const struct dsn_recipient *v)
{
    const char *advice = dsn_advice(r->words->language, v->action, clean_status(v));

    buf_addf(b, "\r\n  <%.*s>\r\n", STR_ARG(shown_address(r, v)));
    if (advice[0] != '\0')
        add_wrapped(b, 4, str_c(advice));
    add_answer(r, b, v);
    if (v->action == DSN_DELAYED && v->retry_until_us != 0) {
        struct buf date;
        buf_init(&date, 64);
        add_date(&date, v->retry_until_us);
        add_wrapped(b, 4, arena_printf(r->arena, r->words->retry_until, buf_c(&date)));
        buf_fini(&date);
    }
}

/* Those of one outcome under their heading; at most *room of them all. */
static void add_outcome(struct report *r, struct buf *b, enum dsn_action action, size_t *room)
{
    if (!has_action(r->d, action) || *room == 0)
        return;
    buf_adds(b, "\r\n");
    add_wrapped(b, 0, str_c(r->words->heading[action]));
    for (size_t i = 0; i<r->d->count && * room> 0; i++)
        if (r->d->v[i].action == action) {
            add_recipient(r, b, &r->d->v[i]);
            (*room)--;
        }
}

static void add_about(struct report *r, struct buf *b)
{
    struct str subject = original_subject(r);

    add_wrapped(b, 0, arena_printf(r->arena, r->words->greeting, STR_ARG(r->d->reporting_host)));
    buf_adds(b, "\r\n");
    if (!str_empty(subject))
        buf_addf(b, "  %s: %.*s\r\n", r->words->label_subject, STR_ARG(subject));
    buf_addf(b, "  %s: ", r->words->label_date);
    add_date(b, r->d->arrival_us);
    buf_adds(b, "\r\n");
}

static void add_closing(struct report *r, struct buf *b)
{
    buf_adds(b, "\r\n");
    add_wrapped(b, 0, str_c(r->is_whole ? r->words->whole_attached : r->words->header_attached));
    if (!str_empty(r->d->trace_id))
        add_wrapped(b, 0, arena_printf(r->arena, r->words->trace_id, STR_ARG(r->d->trace_id)));
}

static void add_text_part(struct report *r)
{
    size_t room = TEXT_RECIPIENTS_MAX;
    struct buf text;

    buf_init(&text, REPORT_SIZE_MAX);
    add_about(r, &text);
    for (enum dsn_action action = DSN_FAILED; action <= DSN_EXPANDED; action++)
        add_outcome(r, &text, action, &room);
    if (r->d->count > TEXT_RECIPIENTS_MAX) {
        struct str more =
            arena_printf(r->arena, r->words->not_listed, r->d->count - TEXT_RECIPIENTS_MAX);
        buf_addf(&text, "\r\n  %.*s\r\n", STR_ARG(more));
    }
    add_closing(r, &text);
    if (mime_is_7bit(buf_str(&text))) {
        begin_part(r, "text/plain; charset=us-ascii", "7bit");
        buf_add(&r->out, buf_str(&text));
    } else {
        begin_part(r, "text/plain; charset=utf-8", "quoted-printable");
        mime_encode_quoted_printable(&r->out, buf_str(&text));
    }
    buf_fini(&text);
}

/* ---- the fields for programs (RFC 3464, 2) ------------------------------------------------------------------ */

/* Folded before words that would not fit. */
static void add_field(struct report *r, const char *name, struct str value)
{
    size_t column = strlen(name) + 1;
    struct str word;

    buf_addf(&r->out, "%s:", name);
    while (str_next_token(&value, ' ', &word)) {
        if (column + 1 + word.n > LINE_SIZE && column > strlen(name) + 1) {
            buf_adds(&r->out, "\r\n");
            column = 0;
        }
        buf_addc(&r->out, ' ');
        buf_add(&r->out, word);
        column += 1 + word.n;
    }
    buf_adds(&r->out, "\r\n");
}

static void add_date_field(struct report *r, const char *name, int64_t unix_us)
{
    struct buf date;

    if (unix_us == 0)
        return;
    buf_init(&date, 64);
    add_date(&date, unix_us);
    add_field(r, name, buf_str(&date));
    buf_fini(&date);
}

/* utf-8-addr-xtext: the form that is 7-bit safe (RFC 6533, 3). */
static struct str xtext_utf8(struct arena *a, struct str address)
{
    struct buf out;
    struct str text;
    uint32_t c;

    buf_init(&out, 2 * XTEXT_SIZE_MAX);
    while (out.n < XTEXT_SIZE_MAX && utf8_next(&address, &c))
        if (c > ' ' && c < 127 && c != '\\' && c != '+' && c != '=')
            buf_addc(&out, (char)c);
        else
            buf_addf(&out, "\\x{%02X}", c);
    text = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return text;
}

static void add_address_field(struct report *r, const char *name, struct str type,
                              struct str address)
{
    bool is_utf8 = str_ieq(type, STR("utf-8"));

    address = clean_text(r, address, ADDRESS_SIZE_MAX, true);
    if (is_utf8)
        address = clean_text(r, decode_embedded(r->arena, address), ADDRESS_SIZE_MAX, true);
    if (!str_is_ascii(address)) {
        type = STR("utf-8");
        if (!r->is_global)
            address = xtext_utf8(r->arena, address);
    } else if (is_utf8) {
        type = STR("rfc822");
    }
    buf_addf(&r->out, "%s: %.*s; %.*s\r\n", name, STR_ARG(type), STR_ARG(address));
}

static void add_original_recipient(struct report *r, struct str orcpt)
{
    struct str type, address;

    if (!str_cut(orcpt, ';', &type, &address) || str_empty(address))
        return;
    type = clean_text(r, type, 30, false);
    add_address_field(r, "Original-Recipient", str_empty(type) ? STR("unknown") : type, address);
}

static void add_diagnostic(struct report *r, const struct dsn_recipient *v)
{
    struct str text = clean_text(r, v->text, DSN_DIAGNOSTIC_MAX, r->is_global);

    if (v->code != 0)
        add_field(r, "Diagnostic-Code",
                  arena_printf(r->arena, "smtp; %d %.*s", v->code, STR_ARG(text)));
    else if (!str_empty(text))
        add_field(r, "Diagnostic-Code", arena_printf(r->arena, "x-merpati; %.*s", STR_ARG(text)));
}

/* The name alone: "mx1.example.net [192.0.2.1]:25" has an address behind it, for people. */
static void add_remote(struct report *r, struct str host)
{
    struct str name, rest;

    str_cut(clean_text(r, host, ADDRESS_SIZE_MAX, false), ' ', &name, &rest);
    if (!str_empty(name))
        add_field(r, "Remote-MTA", arena_printf(r->arena, "dns; %.*s", STR_ARG(name)));
}

static void add_recipient_fields(struct report *r, const struct dsn_recipient *v)
{
    static const char *const actions[] = {"failed", "delayed", "delivered", "relayed", "expanded"};

    buf_adds(&r->out, "\r\n");
    add_original_recipient(r, v->orcpt);
    add_address_field(r, "Final-Recipient", STR("rfc822"), v->address);
    add_field(r, "Action", str_c(actions[v->action]));
    add_field(r, "Status", clean_status(v));
    add_remote(r, v->remote_host);
    add_diagnostic(r, v);
    add_date_field(r, "Last-Attempt-Date", v->last_attempt_us);
    if (!str_empty(r->d->trace_id))
        add_field(r, "Final-Log-ID", r->d->trace_id);
    if (v->action == DSN_DELAYED)
        add_date_field(r, "Will-Retry-Until", v->retry_until_us);
}

static void add_status_part(struct report *r)
{
    const struct dsn *d = r->d;
    struct str envid = clean_text(r, d->envid, 100, r->is_global);

    begin_part(r, r->is_global ? "message/global-delivery-status" : "message/delivery-status",
               r->is_global ? "8bit" : "7bit");
    if (!str_empty(envid))
        add_field(r, "Original-Envelope-Id", envid);
    add_field(r, "Reporting-MTA", arena_printf(r->arena, "dns; %.*s", STR_ARG(d->reporting_host)));
    add_date_field(r, "Arrival-Date", d->arrival_us);
    for (size_t i = 0; i < d->count && i < DSN_RECIPIENTS_MAX; i++)
        add_recipient_fields(r, &d->v[i]);
}

/* ---- the message it is about ------------------------------------------------------------------------------- */

/* Whole fields, as many as may come back. */
static struct str original_header(struct str original)
{
    struct str rest = str_head(original, DSN_HEADER_SIZE_MAX);
    struct header_field field;
    size_t n = 0;

    while (header_next(&rest, &field) && n + field.whole.n < DSN_HEADER_SIZE_MAX)
        n += field.whole.n;
    return str_head(original, n);
}

static bool may_return_whole(const struct dsn *d)
{
    if (d->ret == DSN_RET_HDRS || !has_action(d, DSN_FAILED) ||
        d->original.n > DSN_ORIGINAL_SIZE_MAX)
        return false;
    return d->is_7bit ? mime_is_7bit(d->original) : mime_is_8bit(d->original);
}

static void add_whole_message(struct report *r)
{
    bool is_global = r->is_global && !str_is_ascii(original_header(r->d->original));

    begin_part(r, is_global ? "message/global" : "message/rfc822",
               str_is_ascii(r->d->original) ? "7bit" : "8bit");
    buf_add(&r->out, r->d->original);
}

static void add_header_alone(struct report *r)
{
    struct str header = original_header(r->d->original);
    bool is_global = r->d->is_utf8 && !str_is_ascii(header);
    const char *type = is_global ? "message/global-headers" : "text/rfc822-headers";

    if (mime_is_7bit(header) || (r->is_global && mime_is_8bit(header))) {
        begin_part(r, type, str_is_ascii(header) ? "7bit" : "8bit");
        buf_add(&r->out, header);
    } else {
        begin_part(r, type, "quoted-printable");
        mime_encode_quoted_printable(&r->out, header);
    }
}

struct str dsn_build(struct arena *a, const struct dsn *d)
{
    struct report r = {.arena = a, .d = d, .words = dsn_words(d->language)};
    struct str body, report;

    assert(!str_empty(d->recipient));
    r.is_global = d->is_utf8 && !d->is_7bit;
    r.is_whole = may_return_whole(d);
    random_text(r.boundary, BOUNDARY_SIZE);
    buf_init(&r.out, REPORT_SIZE_MAX);
    add_text_part(&r);
    add_status_part(&r);
    if (r.is_whole)
        add_whole_message(&r);
    else
        add_header_alone(&r);
    buf_addf(&r.out, "\r\n--%s--\r\n", r.boundary);
    body = arena_str(a, buf_str(&r.out));
    buf_clear(&r.out);
    add_header(&r, !str_is_ascii(body));
    buf_add(&r.out, body);
    report = arena_str(a, buf_str(&r.out));
    buf_fini(&r.out);
    return report;
}
