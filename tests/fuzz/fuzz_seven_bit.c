/* Any message made 7-bit: in what comes out, 8-bit bytes stand in header fields only. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/mime/part.h"
#include "mail/queue/seven_bit.h"
#include "server/base/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct str message)
{
    struct arena *a = arena_new();

    for (const struct mime_part *part = mime_parse(a, message); part != NULL;
         part = mime_part_next(part))
        assert(part->first_child != NULL || seven_bit_is(mime_part_body(part, message)));
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct buf out;

    buf_init(&out, SIZE_MAX);
    if (seven_bit_encode(&out, input) && out.n > 0)
        check(buf_str(&out));
    buf_fini(&out);
    return 0;
}
