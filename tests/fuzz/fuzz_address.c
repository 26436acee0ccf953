/* fuzz_address.c - any bytes are an address list: slices stay in bounds, groups are balanced, the
 * count is limited. */
#include <stdio.h>
#include <stdlib.h>
#include "mail/mime/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool is_true, const char *claim)
{
    if (is_true)
        return;
    fprintf(stderr, "not so: %s\n", claim);
    abort();
}

static size_t touch(struct str s)
{
    size_t sum = 0;

    for (size_t i = 0; i < s.n; i++)
        sum += (unsigned char)s.p[i];
    return sum;
}

static void check_address(const struct address *address, bool *in_group)
{
    if (address->is_group_start || address->is_group_end)
        expect(*in_group == address->is_group_end, "groups open and close in turn");
    if (address->is_group_start)
        *in_group = true;
    if (address->is_group_end)
        *in_group = false;
    touch(address->name);
    touch(address->route);
    touch(address->local);
    touch(address->domain);
    expect(address->local.n == 0 || memchr(address->local.p, 0, address->local.n) == NULL,
           "no NUL in an address");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct addresses list;
    bool in_group = false;

    address_parse_list(a, str_of((const char *)data, size), &list);
    expect(list.n <= ADDRESS_COUNT_MAX, "the count is limited");
    for (size_t i = 0; i < list.n; i++)
        check_address(&list.v[i], &in_group);
    expect(!in_group, "every group ends");
    arena_free(&a);
    return 0;
}
