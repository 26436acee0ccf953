/* sort_keys.c - making and reading the packed form.
 *
 *   version 1 | is_reply 1 | msgid 8 | ref count 2 | refs 8 each | six times: size 2, bytes
 *
 * Numbers are little-endian, whatever the machine: the form is stored. */
#include "mail/store/sort_keys.h"

#include "mail/mime/address.h"
#include "mail/mime/header.h"
#include "server/base/casemap.h"
#include "server/base/encode.h"

#define VERSION         1
#define HEAD_SIZE       12
#define MSGIDS_READ_MAX 1000 /* of one field */

enum field { F_SUBJECT, F_FROM, F_TO, F_CC, F_MESSAGE_ID, F_IN_REPLY_TO, F_REFERENCES, F_COUNT };

static const struct str field_names[F_COUNT] = {
    [F_SUBJECT] = STR("Subject"),
    [F_FROM] = STR("From"),
    [F_TO] = STR("To"),
    [F_CC] = STR("Cc"),
    [F_MESSAGE_ID] = STR("Message-ID"),
    [F_IN_REPLY_TO] = STR("In-Reply-To"),
    [F_REFERENCES] = STR("References"),
};

/* ---- numbers --------------------------------------------------------------------------------- */

static void add_number(struct buf *out, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        buf_addc(out, (char)(value >> (8 * i)));
}

static uint64_t number_at(const char *p, unsigned size)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(unsigned char)p[i] << (8 * i);
    return value;
}

/* ---- Message-IDs ----------------------------------------------------------------------------- */

/* <"a"@b> and <a (comment) @b> are <a@b>: "MUST be interpreted as being the same" (RFC 5256,
 * THREAD). */
static struct str normal_msgid(struct arena *a, struct str msgid)
{
    char *plain = arena_alloc(a, msgid.n + 1);
    unsigned comments = 0;
    bool in_quotes = false;
    size_t n = 0;

    for (size_t i = 0; i < msgid.n; i++) {
        char c = msgid.p[i];
        bool is_escaped = c == '\\' && i + 1 < msgid.n;
        if (is_escaped)
            c = msgid.p[++i];
        else if (c == '"')
            in_quotes = comments == 0 && !in_quotes;
        else if (c == '(' && !in_quotes)
            comments++;
        else if (c == ')' && comments > 0) {
            comments--;
            continue;
        }
        if (comments == 0 && (is_escaped || (c != '"' && c != '<' && c != '>')))
            plain[n++] = c;
    }
    return str_of(plain, n);
}

static uint64_t hash_msgid(struct arena *a, struct str msgid)
{
    uint64_t hash = fnv1a_64(normal_msgid(a, msgid));

    return hash != 0 ? hash : 1;
}

static void add_refs(struct buf *out, struct arena *a, const struct str *msgids, size_t count)
{
    size_t kept = count < SORT_REFS_MAX ? count : SORT_REFS_MAX;

    add_number(out, kept, 2);
    for (size_t i = 0; i < kept; i++)
        add_number(out, hash_msgid(a, msgids[i < SORT_REFS_MAX / 2 ? i : count - kept + i]), 8);
}

static void add_msgids(struct buf *out, struct arena *a, const struct str *values)
{
    struct str one, *msgids = &one;
    size_t count = header_parse_msgids(a, values[F_MESSAGE_ID], msgids, 1);

    add_number(out, count > 0 ? hash_msgid(a, one) : 0, 8);
    count = 0;
    if (values[F_REFERENCES].n > 0) {
        msgids = ARENA_ARRAY(a, MSGIDS_READ_MAX, struct str);
        count = header_parse_msgids(a, values[F_REFERENCES], msgids, MSGIDS_READ_MAX);
    }
    if (count == 0)
        count = header_parse_msgids(a, values[F_IN_REPLY_TO], msgids, 1);
    add_refs(out, a, msgids, count);
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* Cut between two characters: what is no UTF-8 is not folded. */
static struct str beginning(struct str text)
{
    size_t n = 4 * SORT_TEXT_SIZE_MAX;

    if (text.n <= n)
        return text;
    while (n > 0 && (text.p[n] & 0xC0) == 0x80)
        n--;
    return str_head(text, n);
}

static void add_text(struct buf *out, struct str text)
{
    size_t at = out->n, size;

    add_number(out, 0, 2);
    casemap_add(out, beginning(text));
    size = out->n - at - 2;
    if (size > SORT_TEXT_SIZE_MAX)
        size = SORT_TEXT_SIZE_MAX;
    buf_truncate(out, at + 2 + size);
    out->p[at] = (char)size;
    out->p[at + 1] = (char)(size >> 8);
}

/* The first address as ENVELOPE lists it, where a group begins with its name; NULL: none. */
static const struct address *first_address(struct arena *a, struct str value)
{
    struct addresses list;

    address_parse_list(a, value, &list);
    return list.n > 0 ? &list.v[0] : NULL;
}

static struct str display_text(struct arena *a, const struct address *address)
{
    struct str name;

    if (address == NULL)
        return STR("");
    name = header_decode_text(a, address->name);
    if (name.n > 0 || address->local.n == 0)
        return name;
    return address->is_group_start
               ? address->local
               : arena_printf(a, "%.*s@%.*s", STR_ARG(address->local), STR_ARG(address->domain));
}

static struct str local_part(const struct address *address)
{
    return address != NULL ? address->local : STR("");
}

static void add_texts(struct buf *out, struct arena *a, struct str subject,
                      const struct str *values)
{
    const struct address *from = first_address(a, values[F_FROM]);
    const struct address *to = first_address(a, values[F_TO]);

    add_text(out, subject);
    add_text(out, local_part(from));
    add_text(out, local_part(to));
    add_text(out, local_part(first_address(a, values[F_CC])));
    add_text(out, display_text(a, from));
    add_text(out, display_text(a, to));
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Of each field the first that says something. */
static void find_fields(struct str header, struct str *values)
{
    struct header_field field;

    while (header_next(&header, &field))
        for (unsigned i = 0; i < F_COUNT; i++)
            if (values[i].n == 0 && str_ieq(field.name, field_names[i]))
                values[i] = str_trim(field.value);
}

void sort_keys_add(struct buf *out, struct arena *a, struct str header)
{
    struct str values[F_COUNT] = {{0}};
    struct str subject;
    bool is_reply;

    find_fields(header, values);
    subject = header_base_subject(a, header_decode_text(a, values[F_SUBJECT]), &is_reply);
    buf_addc(out, VERSION);
    buf_addc(out, is_reply);
    add_msgids(out, a, values);
    add_texts(out, a, subject, values);
}

static bool read_texts(struct str rest, struct sort_keys *out)
{
    for (unsigned i = 0; i < SORT_TEXT_COUNT; i++) {
        size_t size;
        if (rest.n < 2)
            return false;
        size = (size_t)number_at(rest.p, 2);
        if (rest.n - 2 < size)
            return false;
        out->texts[i] = str_of(rest.p + 2, size);
        rest = str_from(rest, 2 + size);
    }
    return rest.n == 0;
}

void sort_keys_read(struct str packed, struct sort_keys *out)
{
    size_t refs_size;

    *out = (struct sort_keys){0};
    if (packed.n < HEAD_SIZE || packed.p[0] != VERSION)
        return;
    refs_size = (size_t)number_at(packed.p + 10, 2) * 8;
    if (packed.n - HEAD_SIZE < refs_size ||
        !read_texts(str_from(packed, HEAD_SIZE + refs_size), out)) {
        *out = (struct sort_keys){0};
        return;
    }
    out->is_reply = packed.p[1] != 0;
    out->msgid = number_at(packed.p + 2, 8);
    out->refs = packed.p + HEAD_SIZE;
    out->ref_count = (unsigned)(refs_size / 8);
}

uint64_t sort_keys_ref(const struct sort_keys *k, unsigned index)
{
    return number_at(k->refs + (size_t)index * 8, 8);
}
