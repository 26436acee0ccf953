/* What scanners answer: any bytes as clamd's line, Rspamd's JSON, and what is told of both. */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/spam/clamd.h"
#include "mail/spam/scanner.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        assert(s.p[i] >= ' ' && s.p[i] < 127);
}

static void check_clamd(struct arena *a, struct str line)
{
    struct error err = {0};
    struct str virus;

    if (clamd_answer_read(a, line, &virus, &err) < 0) {
        assert(err.kind != ERR_NONE && str_empty(virus));
        check_line(str_c(err.text));
        return;
    }
    check_line(virus);
    assert(virus.n <= CLAMD_NAME_SIZE_MAX && str_index(virus, ')') < 0 &&
           str_index(virus, ' ') < 0);
}

static void check_rspamd(struct arena *a, struct str json)
{
    struct scan_result r = {.clamav = SCAN_SAID, .rspamd = SCAN_SAID};
    struct error err = {0};

    if (rspamd_answer_read(a, json, &r.spam, &err) < 0) {
        assert(err.kind != ERR_NONE);
        check_line(str_c(err.text));
        return;
    }
    assert(r.spam.action_name.n > 0 && r.spam.symbol_count <= RSPAMD_SYMBOLS_MAX);
    for (size_t i = 1; i < r.spam.symbol_count; i++)
        assert(fabs(r.spam.symbols[i - 1].score) >= fabs(r.spam.symbols[i].score));
    check_line(r.spam.message);
    check_line(scan_result_text(a, &r));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size);
    struct arena *a = arena_new();

    check_clamd(a, input);
    check_rspamd(a, input);
    arena_free(&a);
    return 0;
}
