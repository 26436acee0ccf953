/* message_prepare.c - reads a message once and keeps what mailboxes will be asked for.
 *
 * Pure work on bytes: the envelope and the structure as IMAP prints them, the header fields of
 * cached_headers.def, and the hashes by which its thread is found. It never fails: what cannot
 * be understood is empty, and what would be out of proportion is left to whoever reads the
 * message itself. */
#include <stdlib.h>
#include "mail/mime/header.h"
#include "mail/mime/imap_form.h"
#include "mail/mime/lines.h"
#include "mail/mime/part.h"
#include "mail/mime/preview.h"
#include "mail/store/delivery.h"
#include "mail/store/sort_keys.h"
#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/encode.h"
#include "server/run/offload.h"

#define OFFLOAD_SIZE_MIN         (256 * 1024)
#define FORM_SIZE_MAX            ((size_t)256 << 10) /* kept once for each recipient, and read in sets */
#define ESSENTIAL_SIZE_MAX       ((size_t)8 << 10) /* of one field, when an envelope is too large */
#define HEADERS_SIZE_MAX         (16 * 1024)
#define MSGIDS_READ_MAX          1000 /* of one field */
#define REFERENCES_KEPT_EACH_END 50
#define YEAR_MAX                 9999 /* PostgreSQL and RFC 3339 end about here */

static const char *const cached_headers[] = {
#define CACHED_HEADER(name) name,
#include "mail/store/cached_headers.def"
#undef CACHED_HEADER
};
#define CACHED_HEADER_COUNT (sizeof cached_headers / sizeof cached_headers[0])

bool message_header_is_cached(struct str name)
{
    for (size_t i = 0; i < CACHED_HEADER_COUNT; i++)
        if (str_ieq(name, str_c(cached_headers[i])))
            return true;
    return false;
}

/* One message's work, which may run on a helper thread: it owns the memory it uses. */
struct preparation {
    struct str raw;
    struct arena *arena;
    struct str header;
    struct buf envelope, structure, headers, sort_keys, preview;
    int64_t sent_us;
    struct thread_marks thread;
    size_t growth;
};

/* ---- forms ----------------------------------------------------------------------------------- */

/* What still names a message whose thousands of recipients do not fit. */
static bool is_essential(const struct header_field *field)
{
    static const char *const names[] = {"Date", "From", "Subject", "In-Reply-To", "Message-ID"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_ieq(field->name, str_c(names[i])))
            return field->whole.n <= ESSENTIAL_SIZE_MAX;
    return false;
}

static void form_envelope(struct preparation *p)
{
    struct str rest = p->header;
    struct header_field field;
    struct buf essential;

    imap_form_envelope(&p->envelope, p->header);
    if (buf_ok(&p->envelope))
        return;
    buf_init(&essential, FORM_SIZE_MAX / 4);
    while (header_next(&rest, &field))
        if (is_essential(&field))
            buf_add(&essential, field.whole);
    buf_clear(&p->envelope);
    imap_form_envelope(&p->envelope, buf_str(&essential));
    buf_fini(&essential);
    if (buf_ok(&p->envelope))
        return;
    buf_clear(&p->envelope);
    buf_adds(&p->envelope, "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
}

static void form_structure(struct preparation *p, const struct mime_part *root)
{
    imap_form_structure(&p->structure, root, p->raw, true);
    if (buf_ok(&p->structure))
        return;
    buf_clear(&p->structure);
    buf_addf(&p->structure, "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" %zu 0 NIL NIL NIL NIL)",
             p->raw.n);
}

/* Byte for byte, as the message has them; only a last field without a line end gets one. */
static void keep_headers(struct preparation *p)
{
    struct str rest = p->header;
    struct header_field field;

    while (header_next(&rest, &field)) {
        if (!message_header_is_cached(field.name))
            continue;
        buf_add(&p->headers, field.whole);
        if (!str_ends(field.whole, STR("\n")))
            buf_add(&p->headers, STR("\r\n"));
    }
}

/* ---- date and thread ------------------------------------------------------------------------- */

static int64_t find_date(struct preparation *p)
{
    struct header_field field;
    int64_t unix_s;

    if (!header_find(p->header, STR("Date"), &field) ||
        !date_parse_rfc5322(header_unfold(p->arena, field.value), &unix_s, NULL))
        return INT64_MIN;
    if (unix_s < days_from_civil(1, 1, 1) * 86400 ||
        unix_s >= days_from_civil(YEAR_MAX + 1, 1, 1) * 86400)
        return INT64_MIN;
    return unix_s * 1000000;
}

/* Without its brackets, which some programs forget in one place and not in the other. */
static int64_t hash_msgid(struct str msgid)
{
    if (str_starts(msgid, STR("<")))
        msgid = str_from(msgid, 1);
    if (str_ends(msgid, STR(">")))
        msgid.n--;
    return (int64_t)fnv1a_64(msgid);
}

static void add_ref(struct thread_marks *marks, struct str msgid)
{
    marks->refs[marks->ref_count++] = hash_msgid(msgid);
}

/* Of an endless References field its ends say most: where the thread began and what is answered. */
static void add_refs_of(struct arena *a, struct str header, struct str field_name,
                        struct thread_marks *marks)
{
    struct header_field field;
    struct str *msgids;
    size_t count;

    if (!header_find(header, field_name, &field))
        return;
    msgids = ARENA_ARRAY(a, MSGIDS_READ_MAX, struct str);
    count = header_parse_msgids(a, field.value, msgids, MSGIDS_READ_MAX);
    for (size_t i = 0; i < count; i++)
        if (i < REFERENCES_KEPT_EACH_END || i + REFERENCES_KEPT_EACH_END >= count)
            add_ref(marks, msgids[i]);
}

static int compare_i64(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void sort_refs(struct thread_marks *marks)
{
    size_t kept = 0;

    qsort(marks->refs, marks->ref_count, sizeof marks->refs[0], compare_i64);
    for (size_t i = 0; i < marks->ref_count; i++)
        if (kept == 0 || marks->refs[i] != marks->refs[kept - 1])
            marks->refs[kept++] = marks->refs[i];
    marks->ref_count = kept;
}

void message_thread_marks(struct arena *a, struct str header, struct thread_marks *out)
{
    struct header_field field;
    struct str subject = STR("");
    bool is_reply;

    out->refs = ARENA_ARRAY(a, (size_t)6 * REFERENCES_KEPT_EACH_END, int64_t);
    out->ref_count = 0;
    add_refs_of(a, header, STR("Message-ID"), out);
    add_refs_of(a, header, STR("In-Reply-To"), out);
    add_refs_of(a, header, STR("References"), out);
    sort_refs(out);

    if (header_find(header, STR("Subject"), &field))
        subject = header_base_subject(a, header_decode_text(a, field.value), &is_reply);
    out->subject_hash = (int64_t)fnv1a_64(arena_lower(a, subject));
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void prepare(void *arg)
{
    struct preparation *p = arg;
    struct mime_part *root = mime_parse(p->arena, p->raw);

    p->header = mime_part_header(root, p->raw);
    form_envelope(p);
    form_structure(p, root);
    keep_headers(p);
    p->sent_us = find_date(p);
    message_thread_marks(p->arena, p->header, &p->thread);
    p->growth = mime_lines_growth(p->raw);
    sort_keys_add(&p->sort_keys, p->arena, p->header);
    mime_preview(&p->preview, root, p->raw);
}

static void preparation_init(struct preparation *p, struct str raw)
{
    *p = (struct preparation){.raw = raw, .arena = arena_new()};
    buf_init(&p->envelope, FORM_SIZE_MAX);
    buf_init(&p->structure, FORM_SIZE_MAX);
    buf_init(&p->headers, HEADERS_SIZE_MAX);
    buf_init(&p->sort_keys, SIZE_MAX);
    buf_init(&p->preview, SIZE_MAX);
}

static void preparation_fini(struct preparation *p)
{
    buf_fini(&p->envelope);
    buf_fini(&p->structure);
    buf_fini(&p->headers);
    buf_fini(&p->sort_keys);
    buf_fini(&p->preview);
    arena_free(&p->arena);
}

void message_prepare(struct arena *a, struct str raw, struct message_prepared *out)
{
    struct preparation p;

    preparation_init(&p, raw);
    if (raw.n >= OFFLOAD_SIZE_MIN)
        offload(prepare, &p);
    else
        prepare(&p);
    *out = (struct message_prepared){
        .raw = raw,
        .envelope = arena_str(a, buf_str(&p.envelope)),
        .structure = arena_str(a, buf_str(&p.structure)),
        .headers = buf_ok(&p.headers) ? arena_str(a, buf_str(&p.headers)) : STR_NULL,
        .sort_keys = arena_str(a, buf_str(&p.sort_keys)),
        .preview = arena_str(a, buf_str(&p.preview)),
        .sent_us = p.sent_us,
        .thread = p.thread,
        .growth = p.growth,
    };
    out->thread.refs = arena_copy(a, p.thread.refs, p.thread.ref_count * sizeof p.thread.refs[0]);
    preparation_fini(&p);
}
