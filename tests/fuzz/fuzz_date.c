/* fuzz_date.c - dates from outside: no read beyond the text, and what was understood prints back
 * to the same moment. */
#include <assert.h>
#include <stdlib.h>
#include "server/base/date.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_mail_date(struct str s)
{
    int64_t unix_s, again;
    int offset_min;
    struct buf b;

    if (!date_parse_rfc5322(s, &unix_s, &offset_min))
        return;
    buf_init(&b, 100);
    date_add_rfc5322(&b, unix_s, 0);
    /* A zone may lead out of the years that can be printed. */
    if (unix_s >= days_from_civil(1000, 1, 1) * 86400 && unix_s < 253402300800) {
        assert(date_parse_rfc5322(buf_str(&b), &again, NULL));
        assert(again == unix_s);
    }
    buf_fini(&b);
}

static void check_imap_date(struct str s)
{
    int64_t unix_s, again;
    struct buf b;

    if (!date_parse_imap(s, &unix_s))
        return;
    buf_init(&b, 100);
    date_add_imap(&b, unix_s);
    assert(b.n == 26);
    if (unix_s >= days_from_civil(0, 1, 1) * 86400 && unix_s < 253402300800) {
        assert(date_parse_imap(buf_str(&b), &again));
        assert(again == unix_s);
    }
    buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size != 0 ? size : 1); /* its own block: the sanitizer sees its end */
    struct str s = str_of(copy, size);
    int64_t ignored;

    if (size != 0)
        memcpy(copy, data, size);
    check_mail_date(s);
    check_imap_date(s);
    date_parse_rfc3339(s, &ignored);
    date_parse_imap_day(s, &ignored);
    free(copy);
    return 0;
}
