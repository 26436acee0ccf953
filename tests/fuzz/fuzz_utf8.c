/* fuzz_utf8.c - text from outside: repairing makes it valid and leaves valid text alone, and a
 * mailbox name has exactly one spelling in modified UTF-7. */
#include <assert.h>
#include "server/base/encode.h"
#include "server/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_repair(struct str s)
{
    struct buf b;

    buf_init(&b, 4 * s.n + 4);
    utf8_add_repaired(&b, s);
    assert(buf_ok(&b));
    assert(utf8_valid(buf_str(&b)));
    if (utf8_valid(s) && str_index(s, '\0') < 0)
        assert(str_eq(s, buf_str(&b)));
    buf_fini(&b);
}

static void check_decode(struct str s)
{
    struct buf name, again;

    buf_init(&name, 4 * s.n + 4);
    buf_init(&again, 4 * s.n + 4);
    if (utf7_imap_decode(&name, s)) {
        assert(utf8_valid(buf_str(&name)));
        utf7_imap_encode(&again, buf_str(&name));
        assert(str_eq(s, buf_str(&again)));
    }
    buf_fini(&name);
    buf_fini(&again);
}

static void check_encode(struct str s)
{
    struct buf name, again;

    if (!utf8_valid(s))
        return;
    buf_init(&name, 10 * s.n + 10);
    buf_init(&again, 10 * s.n + 10);
    utf7_imap_encode(&name, s);
    assert(buf_ok(&name));
    assert(utf7_imap_decode(&again, buf_str(&name)));
    assert(str_eq(s, buf_str(&again)));
    buf_fini(&name);
    buf_fini(&again);
}

static void check_base64(struct str s)
{
    struct buf bytes, again;

    buf_init(&bytes, s.n + 4);
    buf_init(&again, 2 * s.n + 4);
    if (base64_decode(&bytes, s)) {
        base64_encode(&again, buf_str(&bytes));
        assert(str_eq(s, buf_str(&again)));
    }
    buf_fini(&bytes);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str s = str_of((const char *)data, size);

    check_repair(s);
    check_decode(s);
    check_encode(s);
    check_base64(s);
    return 0;
}
