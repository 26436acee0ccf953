/* fuzz_mime.c - any bytes are a message: the tree, the IMAP forms and the decoded text must hold
 * what they promise. */
#include "tests/unit/mime_check.h"

#include "mail/mime/body.h"
#include "mail/mime/header.h"
#include "mail/mime/binary.h"
#include "mail/mime/imap_form.h"
#include "mail/mime/message_text.h"
#include "mail/mime/preview.h"
#include "mail/mime/text_fold.h"
#include "server/base/encode.h"
#include "server/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(const char *wrong)
{
    if (wrong == NULL)
        return;
    fprintf(stderr, "%s\n", wrong);
    abort();
}

static void expect_text(struct str s)
{
    expect(utf8_valid(s) ? NULL : "text is not UTF-8");
    expect(s.n == 0 || memchr(s.p, 0, s.n) == NULL ? NULL : "text holds a NUL");
}

static void try_blocks(struct arena *a, struct str message, const struct mime_part *root,
                       uint32_t seed)
{
    expect(check_same_tree(root, parse_in_blocks(a, message, seed, 7)));
    expect(check_same_tree(root, parse_in_blocks(a, message, seed, 1 + seed % 200)));
    expect(check_same_tree(root, parse_split(a, message, message.n == 0 ? 0 : seed % message.n)));
}

static void try_params(struct arena *a, struct str value)
{
    struct header_params params;

    header_parse_params(a, value, &params);
    for (size_t i = 0; i < params.n; i++)
        expect_text(params.v[i].value);
}

static void try_header(struct arena *a, struct str header)
{
    struct str ids[8], rest = header, subject;
    struct header_field field;
    size_t size = 0;
    bool is_reply;

    while (header_next(&rest, &field)) {
        size += field.whole.n;
        subject = header_decode_text(a, field.value);
        expect_text(subject);
        expect_text(header_base_subject(a, subject, &is_reply));
        try_params(a, field.value);
        for (size_t n = header_parse_msgids(a, field.value, ids, 8); n > 0; n--)
            expect(ids[n - 1].n > 2 ? NULL : "an empty message id");
    }
    expect(size + rest.n == header.n ? NULL : "the fields are not the header");
}

static void try_forms(const struct mime_part *root, struct str message)
{
    struct buf out;

    buf_init(&out, 64 << 20);
    imap_form_envelope(&out, mime_part_header(root, message));
    expect(buf_ok(&out) ? check_envelope(buf_str(&out)) : NULL);
    for (int extended = 0; extended < 2; extended++) {
        buf_clear(&out);
        imap_form_structure(&out, root, message, extended);
        expect(buf_ok(&out) ? check_structure(buf_str(&out), extended) : NULL);
    }
    buf_fini(&out);
}

static void try_text(const struct mime_part *part, struct str message)
{
    struct buf out;

    buf_init(&out, 64 << 20);
    mime_part_text(&out, part, message);
    expect_text(buf_str(&out));
    expect(out.n == 0 || memchr(out.p, '\r', out.n) == NULL ? NULL : "text holds a CR");
    buf_fini(&out);
}

static void try_preview(const struct mime_part *root, struct str message)
{
    struct buf out;
    struct str rest;
    uint32_t c;
    size_t count = 0;

    buf_init(&out, SIZE_MAX);
    mime_preview(&out, root, message);
    expect_text(buf_str(&out));
    rest = buf_str(&out);
    while (utf8_next(&rest, &c)) {
        expect(c > ' ' || c == ' ' ? NULL : "a control in a preview");
        count++;
    }
    expect(count <= PREVIEW_CHARS_MAX ? NULL : "a preview is too long");
    buf_fini(&out);
}

/* What was in a body before is in it afterwards. */
static void try_encode_nul(struct arena *a, const struct mime_part *root, struct str message)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    if (mime_encode_nul(&out, root, message)) {
        expect(mime_has_nul(buf_str(&out)) ? "NUL was left" : NULL);
        expect(mime_has_nul(message) || str_eq(buf_str(&out), message) ? NULL
                                                                       : "changed for nothing");
        expect(check_tree(mime_parse(a, buf_str(&out)), buf_str(&out)));
    } else {
        expect(mime_has_nul(message) ? NULL : "refused without NUL");
    }
    buf_fini(&out);
}

static bool is_folded(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= 'A' && s.p[i] <= 'Z')
            return false;
    return true;
}

/* Small letters only, and folding again changes nothing. */
static void expect_folded(struct arena *a, const struct buf *b)
{
    expect_text(buf_str(b));
    expect(is_folded(buf_str(b)) ? NULL : "a capital letter");
    expect(!buf_ok(b) || str_eq(text_fold_arena(a, buf_str(b)), buf_str(b))
               ? NULL
               : "folding twice makes a difference");
}

static void try_message_text(struct arena *a, const struct mime_part *root, struct str message)
{
    struct message_text t;

    message_text_init(&t);
    message_text_extract(&t, root, message);
    expect_folded(a, &t.header);
    expect_folded(a, &t.parts);
    expect_folded(a, &t.body);
    message_text_fini(&t);
}

static void try_numbers(const struct mime_part *root)
{
    uint32_t numbers[4];

    for (unsigned i = 0; i < 256; i++) {
        for (unsigned k = 0; k < 4; k++)
            numbers[k] = i >> (2 * k) & 3;
        mime_part_find(root, numbers, 1 + i % 4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str message = str_of((const char *)data, size);
    struct arena *a = arena_new();
    const struct mime_part *root = mime_parse(a, message);
    uint32_t seed = (uint32_t)fnv1a_64(message);

    expect(check_tree(root, message));
    try_blocks(a, message, root, seed);
    try_forms(root, message);
    try_numbers(root);
    try_preview(root, message);
    try_encode_nul(a, root, message);
    try_message_text(a, root, message);
    for (const struct mime_part *part = root; part != NULL; part = next_part(part)) {
        try_header(a, mime_part_header(part, message));
        if (part->first_child == NULL)
            try_text(part, message);
    }
    arena_free(&a);
    return 0;
}
