/* imap_form.c - ENVELOPE and BODYSTRUCTURE (RFC 9051, 7.5.2; RFC 3501 prints the same).
 *
 * What RFC 9051 leaves open:
 * - Header texts are printed as they were sent, unfolded; clients decode RFC 2047 words
 *   themselves.
 * - Parameters are decoded (continuations, charsets, RFC 2047 words). A value that is not ASCII is
 *   printed as "name*" "utf-8''%C3%A4", one extended value of RFC 2231, however it came: clients
 *   know that form.
 * - An address without a domain has the domain "": NIL would mean a group.
 * - To, Cc, Bcc and Reply-To that stand more than once are joined, of all others the first counts.
 * - A multipart without parts gets an empty text/plain, for there must be one; so does a
 *   message/rfc822 that stayed shut (base64, nested too deep), with an empty envelope.
 *
 * The tree is walked without recursion: fibers have small stacks. */
#include "mail/mime/imap_form.h"

#include "mail/mime/address.h"
#include "mail/mime/header.h"
#include "mail/mime/header_internal.h"
#include "server/base/arena.h"

/* ---- strings --------------------------------------------------------------------------------- */

struct string_kind {
    size_t nul_count;
    bool is_quotable;
    bool is_plain; /* quotable, and nothing to escape */
};

static struct string_kind look_at(struct str s)
{
    struct string_kind kind = {0, true, true};

    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == 0)
            kind.nul_count++;
        else if (c == '\r' || c == '\n' || c > 126)
            kind.is_quotable = false;
        else if (c == '"' || c == '\\')
            kind.is_plain = false;
    }
    if (kind.nul_count > 0)
        kind.is_plain = false;
    return kind;
}

static void add_without_nul(struct buf *out, struct str s, bool is_quoted)
{
    for (size_t i = 0; i < s.n; i++) {
        if (is_quoted && (s.p[i] == '"' || s.p[i] == '\\'))
            buf_addc(out, '\\');
        if (s.p[i] != 0)
            buf_addc(out, s.p[i]);
    }
}

static void add_string(struct buf *out, struct str s)
{
    struct string_kind kind = look_at(s);

    if (!kind.is_quotable) {
        buf_addf(out, "{%zu}\r\n", s.n - kind.nul_count);
        add_without_nul(out, s, false);
        return;
    }
    buf_addc(out, '"');
    if (kind.is_plain)
        buf_add(out, s);
    else
        add_without_nul(out, s, true);
    buf_addc(out, '"');
}

void imap_form_string(struct buf *out, struct str s)
{
    if (s.p == NULL)
        buf_add(out, STR("NIL"));
    else
        add_string(out, s);
}

static void add_nil(struct buf *out)
{
    buf_add(out, STR("NIL"));
}

static void add_space(struct buf *out)
{
    buf_addc(out, ' ');
}

/* ---- fields of one header -------------------------------------------------------------------- */

struct value {
    struct str s;
    struct value *next; /* the same field once more */
};

/* One walk over the header: the first value of each wanted name, and the ones after it. */
struct wanted {
    struct str name;
    bool is_joined; /* later ones matter too */
};

static void collect(struct arena *a, struct str header, const struct wanted *wanted, size_t count,
                    struct value *values)
{
    struct header_field field;

    memset(values, 0, count * sizeof *values);
    while (header_next(&header, &field)) {
        for (size_t i = 0; i < count; i++) {
            if (field.name.n != wanted[i].name.n || !str_ieq(field.name, wanted[i].name))
                continue;
            if (values[i].s.p == NULL) {
                values[i].s = field.value;
            } else if (wanted[i].is_joined) {
                struct value *more = ARENA_NEW(a, struct value);
                *more = (struct value){field.value, values[i].next};
                values[i].next = more;
            }
            break;
        }
    }
}

static void add_text(struct buf *out, struct arena *a, struct value value)
{
    imap_form_string(out, value.s.p == NULL ? value.s : header_unfold(a, value.s));
}

/* ---- ENVELOPE -------------------------------------------------------------------------------- */

enum envelope_field {
    E_DATE,
    E_SUBJECT,
    E_FROM,
    E_SENDER,
    E_REPLY_TO,
    E_TO,
    E_CC,
    E_BCC,
    E_IN_REPLY_TO,
    E_MESSAGE_ID,
    E_COUNT
};

static const struct wanted envelope_fields[E_COUNT] = {
    [E_DATE] = {STR("Date"), false},
    [E_SUBJECT] = {STR("Subject"), false},
    [E_FROM] = {STR("From"), false},
    [E_SENDER] = {STR("Sender"), false},
    [E_REPLY_TO] = {STR("Reply-To"), true},
    [E_TO] = {STR("To"), true},
    [E_CC] = {STR("Cc"), true},
    [E_BCC] = {STR("Bcc"), true},
    [E_IN_REPLY_TO] = {STR("In-Reply-To"), false},
    [E_MESSAGE_ID] = {STR("Message-ID"), false},
};

static struct str or_null(struct str s)
{
    return s.n > 0 ? s : STR_NULL;
}

static void add_address(struct buf *out, const struct address *address)
{
    if (address->is_group_end) {
        buf_add(out, STR("(NIL NIL NIL NIL)"));
        return;
    }
    buf_addc(out, '(');
    imap_form_string(out, or_null(address->name));
    add_space(out);
    imap_form_string(out, or_null(address->route));
    add_space(out);
    add_string(out, address->local);
    add_space(out);
    if (address->is_group_start)
        add_nil(out);
    else
        add_string(out, address->domain);
    buf_addc(out, ')');
}

/* Values that stand more than once were collected last to first behind the first. */
static struct value *in_order(struct value *values)
{
    struct value *reversed = NULL;

    for (struct value *v = values->next, *next; v != NULL; v = next) {
        next = v->next;
        v->next = reversed;
        reversed = v;
    }
    values->next = reversed;
    return values;
}

/* False when there is no address at all; then nothing was printed. */
static bool add_addresses(struct buf *out, struct arena *a, struct value *values)
{
    struct addresses list;
    size_t count = 0;

    for (struct value *v = values; v != NULL && v->s.p != NULL && count < ADDRESS_COUNT_MAX;
         v = v->next) {
        address_parse_list(a, v->s, &list);
        for (size_t i = 0; i < list.n; i++) {
            if (count++ == 0)
                buf_addc(out, '(');
            add_address(out, &list.v[i]);
        }
    }
    if (count > 0)
        buf_addc(out, ')');
    return count > 0;
}

static void add_address_field(struct buf *out, struct arena *a, struct value *values,
                              enum envelope_field field)
{
    bool defaults_to_from = field == E_SENDER || field == E_REPLY_TO;

    if (add_addresses(out, a, in_order(&values[field])))
        return;
    if (defaults_to_from && add_addresses(out, a, &values[E_FROM]))
        return;
    add_nil(out);
}

static void add_envelope(struct buf *out, struct arena *a, struct str header)
{
    struct value values[E_COUNT];

    collect(a, header, envelope_fields, E_COUNT, values);
    buf_addc(out, '(');
    for (enum envelope_field field = 0; field < E_COUNT; field++) {
        if (field > 0)
            add_space(out);
        if (field >= E_FROM && field <= E_BCC)
            add_address_field(out, a, values, field);
        else
            add_text(out, a, values[field]);
    }
    buf_addc(out, ')');
}

void imap_form_envelope(struct buf *out, struct str header)
{
    struct arena *a = arena_new();

    add_envelope(out, a, header);
    arena_free(&a);
}

/* ---- BODYSTRUCTURE --------------------------------------------------------------------------- */

enum body_field {
    B_TYPE,
    B_ID,
    B_DESCRIPTION,
    B_ENCODING,
    B_MD5,
    B_DISPOSITION,
    B_LANGUAGE,
    B_LOCATION,
    B_COUNT
};

static const struct wanted body_fields[B_COUNT] = {
    [B_TYPE] = {STR("Content-Type"), false},
    [B_ID] = {STR("Content-ID"), false},
    [B_DESCRIPTION] = {STR("Content-Description"), false},
    [B_ENCODING] = {STR("Content-Transfer-Encoding"), false},
    [B_MD5] = {STR("Content-MD5"), false},
    [B_DISPOSITION] = {STR("Content-Disposition"), false},
    [B_LANGUAGE] = {STR("Content-Language"), false},
    [B_LOCATION] = {STR("Content-Location"), false},
};

struct form {
    struct buf *out;
    struct arena *arena;
    struct str message;
    bool extended;
    const struct mime_part *collected; /* whose fields these are */
    struct value values[B_COUNT];
};

static void add_percent_encoded(struct buf *out, struct str s)
{
    static const char digits[] = "0123456789ABCDEF";

    buf_add(out, STR("\"utf-8''"));
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        char lower = ascii_lower(s.p[i]);
        if ((lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
            c == '_') {
            buf_addc(out, s.p[i]);
        } else {
            buf_addc(out, '%');
            buf_addc(out, digits[c >> 4]);
            buf_addc(out, digits[c & 15]);
        }
    }
    buf_addc(out, '"');
}

static void add_param(struct form *f, const struct header_param *param)
{
    if (str_is_ascii(param->value)) {
        add_string(f->out, param->name);
        add_space(f->out);
        add_string(f->out, param->value);
        return;
    }
    add_string(f->out, arena_printf(f->arena, "%.*s*", STR_ARG(param->name)));
    add_space(f->out);
    add_percent_encoded(f->out, param->value);
}

static void add_params(struct form *f, const struct header_params *params)
{
    if (params->n == 0) {
        add_nil(f->out);
        return;
    }
    for (size_t i = 0; i < params->n; i++) {
        buf_addc(f->out, i == 0 ? '(' : ' ');
        add_param(f, &params->v[i]);
    }
    buf_addc(f->out, ')');
}

/* Parameters that belong to a type which was not taken over say nothing about the part. */
static void add_type_params(struct form *f, const struct mime_part *part, struct value type)
{
    struct header_params params = {.n = 0};

    if (type.s.p != NULL)
        header_parse_params(f->arena, type.s, &params);
    if (!str_eq(params.type, part->type) || !str_eq(params.subtype, part->subtype))
        params.n = 0;
    if (params.n == 0 && str_eq(part->type, STR("text")))
        buf_add(f->out, STR("(\"charset\" \"us-ascii\")"));
    else
        add_params(f, &params);
}

static void add_encoding(struct form *f, struct value encoding)
{
    struct str rest = encoding.s, name = STR_NULL, nothing;

    if (rest.p != NULL)
        header_take_type(&rest, &name, &nothing);
    add_string(f->out, name.n > 0 ? name : STR("7bit"));
}

static void add_disposition(struct form *f, struct value disposition)
{
    struct header_params params = {.n = 0};

    if (disposition.s.p != NULL)
        header_parse_params(f->arena, disposition.s, &params);
    if (params.type.n == 0) {
        add_nil(f->out);
        return;
    }
    buf_addc(f->out, '(');
    add_string(f->out, params.type);
    add_space(f->out);
    add_params(f, &params);
    buf_addc(f->out, ')');
}

/* Content-Language (RFC 3282): one tag is a string, several are a list. */
static void add_language(struct form *f, struct value language)
{
    struct str rest = language.s.p == NULL ? STR_NULL : header_unfold(f->arena, language.s), tag;
    size_t count = 0;
    bool is_list = str_index(rest, ',') >= 0;

    while (str_next_token(&rest, ',', &tag)) {
        tag = str_trim(tag);
        if (tag.n == 0)
            continue;
        if (is_list)
            buf_addc(f->out, count == 0 ? '(' : ' ');
        add_string(f->out, tag);
        count++;
    }
    if (count == 0)
        add_nil(f->out);
    else if (is_list)
        buf_addc(f->out, ')');
}

/* Disposition, language and location, each with its space before it. */
static void add_common_extension(struct form *f, const struct value *values)
{
    add_space(f->out);
    add_disposition(f, values[B_DISPOSITION]);
    add_space(f->out);
    add_language(f, values[B_LANGUAGE]);
    add_space(f->out);
    add_text(f->out, f->arena, values[B_LOCATION]);
}

/* "type" "subtype" params id description encoding octets */
static void add_basic_fields(struct form *f, const struct mime_part *part,
                             const struct value *values)
{
    add_string(f->out, part->type);
    add_space(f->out);
    add_string(f->out, part->subtype);
    add_space(f->out);
    add_type_params(f, part, values[B_TYPE]);
    add_space(f->out);
    add_text(f->out, f->arena, values[B_ID]);
    add_space(f->out);
    add_text(f->out, f->arena, values[B_DESCRIPTION]);
    add_space(f->out);
    add_encoding(f, values[B_ENCODING]);
    add_space(f->out);
    buf_add_u64(f->out, part->body_size);
}

static void add_empty_text(struct form *f)
{
    buf_add(f->out, STR("(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0"));
    buf_add(f->out, f->extended ? STR(" NIL NIL NIL NIL)") : STR(")"));
}

static const struct value *body_values(struct form *f, const struct mime_part *part)
{
    if (f->collected != part)
        collect(f->arena, mime_part_header(part, f->message), body_fields, B_COUNT, f->values);
    f->collected = part;
    return f->values;
}

static bool is_shown_as_message(const struct mime_part *part)
{
    return str_eq(part->type, STR("message")) &&
           (str_eq(part->subtype, STR("rfc822")) || str_eq(part->subtype, STR("global")));
}

/* What stands before the children. */
static void open_part(struct form *f, const struct mime_part *part)
{
    buf_addc(f->out, '(');
    if (part->is_multipart) {
        if (part->first_child == NULL)
            add_empty_text(f);
        return;
    }
    add_basic_fields(f, part, body_values(f, part));
    if (!is_shown_as_message(part))
        return;
    add_space(f->out);
    add_envelope(f->out, f->arena,
                 part->is_message ? mime_part_header(part->first_child, f->message) : STR(""));
    add_space(f->out);
    if (!part->is_message)
        add_empty_text(f);
}

/* What stands behind them. */
static void close_part(struct form *f, const struct mime_part *part)
{
    const struct value *values = body_values(f, part);

    if (part->is_multipart) {
        add_space(f->out);
        add_string(f->out, part->subtype);
    } else if (str_eq(part->type, STR("text")) || is_shown_as_message(part)) {
        add_space(f->out);
        buf_add_u64(f->out, part->body_lines);
    }
    if (f->extended) {
        add_space(f->out);
        if (part->is_multipart)
            add_type_params(f, part, values[B_TYPE]);
        else
            add_text(f->out, f->arena, values[B_MD5]);
        add_common_extension(f, values);
    }
    buf_addc(f->out, ')');
}

void imap_form_structure(struct buf *out, const struct mime_part *root, struct str message,
                         bool extended)
{
    struct form f = {.out = out, .arena = arena_new(), .message = message, .extended = extended};
    const struct mime_part *part = root;

    open_part(&f, part);
    for (;;) {
        if (part->first_child != NULL) {
            part = part->first_child;
            open_part(&f, part);
            continue;
        }
        close_part(&f, part);
        while (part != root && part->next == NULL) {
            part = part->parent;
            close_part(&f, part);
        }
        if (part == root)
            break;
        part = part->next;
        open_part(&f, part);
    }
    arena_free(&f.arena);
}
