/* report_file.c - gzip by zlib, zip read by hand, and the mail that carries them.
 *
 * Of a zip archive only its directory at the end is believed, since sizes in front of a file may be missing
 * (APPNOTE 4.4.4, bit 3). Archives of several files, spanned or encrypted ones are not what reports come in. */
#include "mail/report/report_file.h"

#include <string.h>
#include <zlib.h>

#include "mail/mime/body.h"
#include "mail/mime/part.h"
#include "server/base/buf.h"
#include "server/base/date.h"
#include "server/base/encode.h"

#define INFLATE_CHUNK   (64 << 10)
#define ZIP_END_SIZE    22
#define ZIP_ENTRY_SIZE  46
#define ZIP_LOCAL_SIZE  30
#define ZIP_COMMENT_MAX 65535
#define ZIP_ENCRYPTED   1
#define BASE64_LINE     57 /* bytes that make 76 characters */

/* ---- inflating ------------------------------------------------------------------------------- */

#define WINDOW_RAW  (-15)
#define WINDOW_GZIP (15 + 16)

/* Runs until the end of the stream; what follows it is ignored. */
static int inflate_all(z_stream *z, struct buf *out, struct error *err)
{
    int status = Z_OK;

    while (status != Z_STREAM_END) {
        size_t room =
            out->size_max - out->n < INFLATE_CHUNK ? out->size_max - out->n : INFLATE_CHUNK;
        char *to = room > 0 ? buf_reserve(out, room) : NULL;

        if (to == NULL)
            return fail(err, ERR_TOO_BIG, "the report is larger than %zu bytes when unpacked",
                        out->size_max);
        z->next_out = (unsigned char *)to;
        z->avail_out = (unsigned)room;
        status = inflate(z, Z_NO_FLUSH);
        if (status != Z_OK && status != Z_STREAM_END)
            return fail(err, ERR_SYNTAX, "the packed report is damaged");
        buf_commit(out, room - z->avail_out);
        if (status == Z_OK && z->avail_in == 0 && z->avail_out > 0)
            return fail(err, ERR_SYNTAX, "the packed report is cut short");
    }
    return 0;
}

static int inflate_to_arena(struct arena *a, struct str in, int window, size_t size_max,
                            struct str *out, struct error *err)
{
    z_stream z = {.next_in = (unsigned char *)in.p, .avail_in = (unsigned)in.n};
    struct buf buf;
    int rc;

    if (inflateInit2(&z, window) != Z_OK)
        return fail(err, ERR_INTERNAL, "the report could not be unpacked");
    buf_init(&buf, size_max);
    rc = inflate_all(&z, &buf, err);
    if (rc == 0)
        *out = arena_str(a, buf_str(&buf));
    buf_fini(&buf);
    inflateEnd(&z);
    return rc;
}

/* ---- zip ------------------------------------------------------------------------------------- */

static uint32_t little16(struct str s, size_t at)
{
    return (uint32_t)(unsigned char)s.p[at] | (uint32_t)(unsigned char)s.p[at + 1] << 8;
}

static uint32_t little32(struct str s, size_t at)
{
    return little16(s, at) | little16(s, at + 2) << 16;
}

/* Where the archive's end record begins: it is the last thing but for a comment. */
static bool find_zip_end(struct str zip, size_t *at)
{
    size_t lowest =
        zip.n > ZIP_END_SIZE + ZIP_COMMENT_MAX ? zip.n - ZIP_END_SIZE - ZIP_COMMENT_MAX : 0;

    if (zip.n < ZIP_END_SIZE)
        return false;
    for (size_t i = zip.n - ZIP_END_SIZE + 1; i-- > lowest;) {
        if (memcmp(zip.p + i, "PK\5\6", 4) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

/* The first entry of the directory: how it is packed, and its bytes. */
static bool find_zip_file(struct str zip, uint32_t *method, struct str *packed)
{
    size_t end, entry, local, start, size;

    if (!find_zip_end(zip, &end))
        return false;
    entry = little32(zip, end + 16);
    if (entry > zip.n || zip.n - entry < ZIP_ENTRY_SIZE ||
        memcmp(zip.p + entry, "PK\1\2", 4) != 0 || (little16(zip, entry + 8) & ZIP_ENCRYPTED))
        return false;
    *method = little16(zip, entry + 10);
    size = little32(zip, entry + 20);
    local = little32(zip, entry + 42);
    if (local > zip.n || zip.n - local < ZIP_LOCAL_SIZE || memcmp(zip.p + local, "PK\3\4", 4) != 0)
        return false;
    start = local + ZIP_LOCAL_SIZE + little16(zip, local + 26) + little16(zip, local + 28);
    if (start > zip.n || size > zip.n - start)
        return false;
    *packed = str_of(zip.p + start, size);
    return true;
}

static int unzip(struct arena *a, struct str zip, size_t size_max, struct str *out,
                 struct error *err)
{
    struct str packed = STR_NULL;
    uint32_t method = 0;

    if (!find_zip_file(zip, &method, &packed))
        return fail(err, ERR_SYNTAX, "the zip archive is damaged, empty or encrypted");
    if (method == Z_DEFLATED)
        return inflate_to_arena(a, packed, WINDOW_RAW, size_max, out, err);
    if (method != 0)
        return fail(err, ERR_SYNTAX, "the zip archive is packed by method %u, which nobody uses",
                    method);
    if (packed.n > size_max)
        return fail(err, ERR_TOO_BIG, "the report is larger than %zu bytes", size_max);
    *out = packed;
    return 0;
}

int report_unpack(struct arena *a, struct str packed, size_t size_max, struct str *out,
                  struct error *err)
{
    if (packed.n > REPORT_MESSAGE_MAX)
        return fail(err, ERR_TOO_BIG, "the file is larger than %d bytes", REPORT_MESSAGE_MAX);
    if (str_starts(packed, STR("\x1f\x8b")))
        return inflate_to_arena(a, packed, WINDOW_GZIP, size_max, out, err);
    if (str_starts(packed, STR("PK\3\4")))
        return unzip(a, packed, size_max, out, err);
    *out = packed;
    return 0;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* People's texts are passed over; anything else may be the file. */
static bool may_be_file(const struct mime_part *part)
{
    if (part->is_multipart || part->is_message || part->body_size == 0)
        return false;
    return !str_eq(part->type, STR("text")) || str_eq(part->subtype, STR("xml")) ||
           str_eq(part->subtype, STR("json"));
}

/* size_max goes down by what was unpacked, so that many parts are no bomb either. */
static int try_part(struct arena *a, const struct mime_part *part, struct str message,
                    const struct report_parser *parser, size_t *size_max, struct error *err)
{
    struct str content = STR_NULL;
    struct buf decoded;
    int rc;

    buf_init(&decoded, REPORT_MESSAGE_MAX);
    mime_decode(&decoded, part->encoding, mime_part_body(part, message));
    rc = report_unpack(a, arena_str(a, buf_str(&decoded)), *size_max, &content, err);
    buf_fini(&decoded);
    if (rc < 0)
        return -1;
    *size_max -= content.n < *size_max ? content.n : *size_max;
    return parser->parse(a, content, parser->out, err);
}

int report_find(struct arena *a, struct str message, const struct report_parser *parser,
                struct error *err)
{
    size_t size_max = REPORT_FILE_MAX;
    struct error first = {0};
    unsigned looked_at = 0;

    if (message.n > REPORT_MESSAGE_MAX)
        return fail(err, ERR_TOO_BIG, "the message is larger than %d bytes", REPORT_MESSAGE_MAX);
    for (const struct mime_part *part = mime_parse(a, message);
         part != NULL && looked_at < REPORT_PARTS_MAX && first.kind != ERR_TOO_BIG;
         part = mime_part_next(part)) {
        if (!may_be_file(part))
            continue;
        looked_at++;
        if (try_part(a, part, message, parser, &size_max, &first) == 0)
            return 0;
    }
    if (first.kind != ERR_NONE)
        return fail(err, first.kind, "%s", first.text);
    return fail(err, ERR_NOT_FOUND, "the message has no attachment with a report");
}

/* ---- packing --------------------------------------------------------------------------------- */

struct str report_gzip(struct arena *a, struct str content)
{
    z_stream z = {.next_in = (unsigned char *)content.p, .avail_in = (unsigned)content.n};
    char *out;
    size_t room;

    if (deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, WINDOW_GZIP, 8, Z_DEFAULT_STRATEGY) !=
        Z_OK)
        return STR_NULL;
    room = deflateBound(&z, content.n);
    out = arena_alloc(a, room);
    z.next_out = (unsigned char *)out;
    z.avail_out = (unsigned)room;
    deflate(&z, Z_FINISH);
    deflateEnd(&z);
    return str_of(out, z.total_out);
}

static void add_base64(struct buf *out, struct str file)
{
    while (file.n > 0) {
        base64_encode(out, str_head(file, BASE64_LINE));
        buf_adds(out, "\r\n");
        file = str_from(file, BASE64_LINE);
    }
}

static void add_text(struct buf *out, struct str text)
{
    struct str line;

    while (text.n > 0) {
        str_cut(text, '\n', &line, &text);
        buf_add(out, line);
        buf_adds(out, "\r\n");
    }
}

static void add_header(struct buf *out, const struct report_mail *m, const char *boundary)
{
    buf_addf(out, "From: <%.*s>\r\nTo: %.*s\r\nSubject: %.*s\r\nDate: ", STR_ARG(m->from),
             STR_ARG(m->to), STR_ARG(m->subject));
    date_add_rfc5322(out, m->date_s, 0);
    buf_addf(out, "\r\nMessage-ID: <%.*s>\r\n", STR_ARG(m->message_id));
    buf_add(out, m->extra_fields);
    buf_adds(out, "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n");
    if (m->report_type != NULL)
        buf_addf(out, "Content-Type: multipart/report; report-type=\"%s\";\r\n", m->report_type);
    else
        buf_adds(out, "Content-Type: multipart/mixed;\r\n");
    buf_addf(out, "\tboundary=\"%s\"\r\n\r\n", boundary);
}

struct str report_mail_build(struct arena *a, const struct report_mail *m)
{
    char boundary[25];
    struct buf out;
    struct str built;

    random_text(boundary, sizeof boundary - 1);
    buf_init(&out, 2 * (size_t)REPORT_FILE_MAX);
    add_header(&out, m, boundary);
    buf_addf(&out, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n", boundary);
    add_text(&out, m->text);
    buf_addf(&out,
             "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64\r\n"
             "Content-Disposition: attachment;\r\n\tfilename=\"%.*s\"\r\n\r\n",
             boundary, m->content_type, STR_ARG(m->filename));
    add_base64(&out, m->file);
    buf_addf(&out, "--%s--\r\n", boundary);
    built = arena_str(a, buf_str(&out));
    buf_fini(&out);
    return built;
}
