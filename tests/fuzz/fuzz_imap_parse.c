/* fuzz_imap_parse.c - everything of IMAP that reads arguments, without a session.
 *
 * The first byte picks the reader. Whatever comes in, slices lie inside the input or the arena
 * (AddressSanitizer looks), a refusal says why in one printable line, and a parser never stands
 * behind its end. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/imap/imap_append_parse.h"
#include "mail/imap/imap_fetch_parse.h"
#include "mail/imap/imap_fetch_structure.h"
#include "mail/imap/imap_list_parse.h"
#include "mail/imap/imap_match.h"
#include "mail/imap/imap_parse.h"
#include "mail/imap/imap_search_parse.h"
#include "mail/imap/imap_sequence.h"
#include "mail/imap/imap_url.h"
#include "server/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_tokens(struct imap_parser *p, struct arena *a, struct error *err)
{
    struct keywords keywords;
    struct str token;
    uint32_t flags;

    if (imap_parse_tag(p, &token, err) < 0 || imap_parse_space(p, err) < 0 ||
        imap_parse_astring(p, a, &token, "x", err) < 0 || imap_parse_space(p, err) < 0 ||
        imap_parse_nstring(p, a, &token, "x", err) < 0 || imap_parse_space(p, err) < 0)
        return -1;
    return imap_parse_flags(p, a, true, &flags, &keywords, err);
}

static int read_set(struct imap_parser *p, struct arena *a, struct error *err)
{
    struct imap_set set;

    if (imap_set_parse(p, a, &set, err) < 0)
        return -1;
    imap_set_resolve(&set, 1000);
    for (size_t i = 0; i < set.n; i++) {
        assert(set.v[i].from <= set.v[i].to && set.v[i].from > 0);
        assert(i == 0 || set.v[i].from > set.v[i - 1].to);
    }
    return 0;
}

static int read_pattern(struct imap_parser *p, struct arena *a, struct error *err)
{
    struct str text = imap_parse_rest(p), pattern, path;
    struct imap_pattern *compiled;

    str_cut(text, '\n', &pattern, &path);
    compiled = imap_pattern_new(a, pattern, err);
    if (compiled == NULL)
        return -1;
    (void)imap_pattern_matches(compiled, path);
    return 0;
}

static int read_structure(struct imap_parser *p)
{
    struct str text = imap_parse_rest(p);
    struct buf out;

    buf_init(&out, SIZE_MAX);
    if (imap_add_basic_structure(&out, text))
        assert(out.n <= text.n);
    buf_fini(&out);
    return 0;
}

static int read_append(struct imap_parser *p, struct arena *a)
{
    struct imap_literal literal;

    if (imap_append_is_at_message(a, imap_parse_rest(p), true, &literal))
        assert(str_ends(imap_parse_rest(p), STR("}")));
    return 0;
}

/* Every literal is followed by the next line. */
static int read_append_events(struct imap_parser *p, struct arena *a, struct error *err)
{
    struct append_parser ap;
    struct append_event event = {.kind = APPEND_EVENT_BYTES};
    struct str rest = imap_parse_rest(p), line;

    imap_append_parser_init(&ap, a);
    while (event.kind != APPEND_EVENT_END) {
        if (event.kind != APPEND_EVENT_URL) {
            str_cut(rest, '\n', &line, &rest);
            imap_parser_init(p, line);
        }
        if (imap_append_next(&ap, p, &event, err) < 0)
            return -1;
    }
    return 0;
}

static int read_url(struct imap_parser *p, struct arena *a, struct error *err)
{
    struct imap_url url;

    if (imap_url_parse(imap_parse_rest(p), a, &url, err) < 0)
        return -1;
    assert(url.uid > 0 && utf8_valid(url.mailbox));
    return 0;
}

static int read_one(unsigned which, struct imap_parser *p, struct arena *a, struct error *err)
{
    struct imap_list_request *list = ARENA_NEW(a, struct imap_list_request);
    struct fetch_request fetch;
    struct search_request search;
    int64_t date;

    switch (which % 13) {
    case 0:
        return read_tokens(p, a, err);
    case 1:
        return read_set(p, a, err);
    case 2:
        return read_pattern(p, a, err);
    case 3:
        return read_structure(p);
    case 4:
        return read_append(p, a);
    case 5:
        return imap_parse_fetch(p, a, which > 127, false, &fetch, err);
    case 6:
        return imap_parse_search(p, a, &search, err);
    case 7:
        return imap_parse_list(p, a, which > 127, list, err);
    case 8:
        return imap_parse_lsub(p, a, which > 127, list, err);
    case 9:
        return imap_parse_date_time(p, a, &date, err);
    case 10:
        return read_append_events(p, a, err);
    case 11:
        return read_url(p, a, err);
    default:
        return imap_parse_day(p, a, &date, err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct imap_parser p;
    struct arena *a;

    if (size == 0)
        return 0;
    a = arena_new();
    imap_parser_init(&p, str_of((const char *)data + 1, size - 1));
    if (read_one(data[0], &p, a, &err) < 0)
        assert(err.kind != ERR_NONE && err.text[0] != '\0');
    assert(p.at <= p.end);
    for (const char *c = err.text; *c != '\0'; c++)
        assert(*c >= ' ' && *c < 127);
    arena_free(&a);
    return 0;
}
