/* Paths and parameters of MAIL and RCPT: what is accepted must survive being written and read again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/smtp/smtp_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(struct arena *a, const struct smtp_path *path)
{
    struct str text = smtp_mailbox_text(a, path->local, path->domain);
    struct smtp_params params;
    struct smtp_path again;
    struct error err = {0};

    if (path->is_null || str_empty(path->local))
        return;
    assert(smtp_parse_path(a, arena_printf(a, "X:<%.*s>", STR_ARG(text)), STR("X:"), &again,
                           &params, &err) == 0);
    assert(str_eq(again.local, path->local));
    assert(str_eq(again.domain, path->domain));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct arena *a = arena_new();
    struct smtp_params params;
    struct smtp_path path;
    uint64_t chunk;
    bool is_last;

    if (smtp_parse_path(a, input, STR("FROM:"), &path, &params, NULL) == 0) {
        assert(params.n <= SMTP_PARAMS_MAX);
        assert(path.local.n <= SMTP_LOCAL_SIZE_MAX);
        check_round_trip(a, &path);
    }
    smtp_parse_bdat(input, &chunk, &is_last, NULL);
    smtp_helo_is_valid(input);
    arena_free(&a);
    return 0;
}
