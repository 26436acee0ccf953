/* Messages as lines: what a client makes of them again is the message, its LFs and NULs mended; cuts change nothing. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/mime/lines.h"
#include "server/base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void send(struct str raw, size_t part_size, uint64_t body_lines, struct buf *out)
{
    struct mime_lines l;
    struct str piece;

    mime_lines_init(&l, body_lines);
    for (size_t at = 0; at < raw.n; at += part_size) {
        mime_lines_feed(&l, str_head(str_from(raw, at), part_size));
        while (mime_lines_next(&l, &piece)) {
            assert(piece.n > 0);
            buf_add(out, piece);
        }
    }
    buf_add(out, mime_lines_end(&l));
}

/* As a client reads: every LF ends a line, has its CR, and no line is a dot alone. Returns the stuffed dots. */
static size_t check_lines(struct str sent)
{
    size_t dots = 0;

    assert(memchr(sent.p, '\0', sent.n) == NULL);
    while (sent.n > 0) {
        ptrdiff_t lf = str_index(sent, '\n');

        assert(lf > 0);
        assert(sent.p[lf - 1] == '\r');
        if (sent.p[0] == '.') {
            assert(sent.p[1] == '.');
            dots++;
        }
        sent = str_from(sent, (size_t)lf + 1);
    }
    return dots;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str raw = str_of((const char *)data, size);
    struct buf whole, cut, top;

    if (size < 2)
        return 0;
    buf_init(&whole, SIZE_MAX);
    buf_init(&cut, SIZE_MAX);
    buf_init(&top, SIZE_MAX);
    send(raw, raw.n, MIME_LINES_ALL, &whole);
    assert(raw.n + mime_lines_growth(raw) + check_lines(buf_str(&whole)) == whole.n);
    send(raw, 1 + data[0] % 17, MIME_LINES_ALL, &cut);
    assert(str_eq(buf_str(&whole), buf_str(&cut)));
    send(raw, 1 + data[0] % 17, data[1], &top);
    assert(str_starts(buf_str(&whole), buf_str(&top)));
    buf_fini(&whole);
    buf_fini(&cut);
    buf_fini(&top);
    return 0;
}
