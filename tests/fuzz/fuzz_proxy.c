/* fuzz_proxy.c - the PROXY v2 header: whatever comes, the header lies inside the input and more bytes never hurt. */
#include <assert.h>
#include <stdint.h>

#include "server/run/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct proxy_header header, shorter;
    enum proxy_result result = proxy_header_parse(input, &header);

    if (result == PROXY_LOCAL || result == PROXY_ADDRESSES) {
        assert(header.size >= PROXY_HEADER_MIN);
        assert(header.size <= size);
        assert(proxy_header_parse(str_head(input, header.size), &shorter) == result);
        assert(proxy_header_parse(str_head(input, header.size - 1), &shorter) == PROXY_INCOMPLETE);
    }
    if (result == PROXY_ADDRESSES)
        assert(header.source.ss_family == AF_INET || header.source.ss_family == AF_INET6);
    if (result == PROXY_INCOMPLETE)
        assert(size < PROXY_HEADER_MIN || size < header.size);
    return 0;
}
