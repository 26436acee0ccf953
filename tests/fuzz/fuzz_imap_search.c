/* fuzz_imap_search.c - what SEARCH, SORT, THREAD and ESEARCH read: their arguments, the sort keys
 * of a header, packed keys, references.
 *
 * The first byte picks the reader. Slices lie inside the input or the arena (AddressSanitizer
 * looks), a refusal says why in one printable line, and what was made has the shape it promises. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/imap/imap_multisearch.h"
#include "mail/imap/imap_search_options.h"
#include "mail/imap/imap_thread_tree.h"
#include "mail/store/sort_keys.h"
#include "server/base/casemap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_partial(struct imap_parser *p, struct error *err)
{
    struct imap_partial w;
    size_t from, n;

    if (imap_parse_partial(p, &w, err) < 0)
        return -1;
    n = imap_partial_window(&w, 1000, &from);
    assert(n == 0 || from + n <= 1000);
    return 0;
}

static int read_sort(struct imap_parser *p, struct arena *a, struct error *err)
{
    struct sort_program program;
    struct search_request request;

    if (imap_parse_sort(p, a, &program, &request, err) < 0)
        return -1;
    assert(program.n > 0 && program.n <= SORT_KEY_COUNT);
    return 0;
}

static int read_esearch(struct imap_parser *p, struct arena *a, struct error *err)
{
    struct esearch_request request;

    if (imap_parse_esearch(p, a, &request, err) < 0)
        return -1;
    assert(request.source_count <= SOURCES_MAX && request.search.root != NULL);
    return 0;
}

static int pack_header(struct imap_parser *p, struct arena *a)
{
    struct sort_keys keys;
    struct buf out;

    buf_init(&out, SIZE_MAX);
    sort_keys_add(&out, a, imap_parse_rest(p));
    sort_keys_read(buf_str(&out), &keys);
    assert(keys.ref_count <= SORT_REFS_MAX);
    for (unsigned i = 0; i < keys.ref_count; i++)
        assert(sort_keys_ref(&keys, i) != 0);
    for (unsigned i = 0; i < SORT_TEXT_COUNT; i++)
        assert(keys.texts[i].p != NULL && keys.texts[i].n <= SORT_TEXT_SIZE_MAX);
    buf_fini(&out);
    return 0;
}

static int read_packed(struct imap_parser *p)
{
    struct sort_keys keys;
    uint64_t sum = 0;

    sort_keys_read(imap_parse_rest(p), &keys);
    for (unsigned i = 0; i < keys.ref_count; i++)
        sum += sort_keys_ref(&keys, i);
    for (unsigned i = 0; i < SORT_TEXT_COUNT; i++)
        for (size_t j = 0; j < keys.texts[i].n; j++)
            sum += (unsigned char)keys.texts[i].p[j];
    return sum == UINT64_MAX; /* read, and never so */
}

static int fold(struct imap_parser *p)
{
    struct buf out;

    buf_init(&out, SIZE_MAX);
    casemap_add(&out, imap_parse_rest(p));
    assert(out.n <= 36 * imap_parse_rest(p).n); /* U+FDFA: 3 bytes become 33 */
    buf_fini(&out);
    return 0;
}

/* Each message takes a byte for its id, one for how many references, and those. */
static int make_threads(struct imap_parser *p, struct arena *a)
{
    struct str rest = imap_parse_rest(p);
    struct thread_message *v = ARENA_ARRAY(a, rest.n + 1, struct thread_message);
    uint64_t *refs = ARENA_ARRAY(a, rest.n + 1, uint64_t);
    struct thread_tree t;
    struct buf out;
    uint32_t count = 0;
    int depth = 0;

    for (size_t at = 0; at + 2 < rest.n;) {
        unsigned char second = (unsigned char)rest.p[at + 1];
        size_t ref_count = second % 8 < rest.n - at - 2 ? second % 8 : rest.n - at - 2;
        v[count] = (struct thread_message){.number = count + 1,
                                           .sent_us = second / 8,
                                           .msgid = (unsigned char)rest.p[at],
                                           .is_reply = (second & 8) != 0,
                                           .subject = str_of(&rest.p[at], second >> 7),
                                           .refs = refs + at,
                                           .ref_count = (unsigned)ref_count};
        for (size_t i = 0; i < ref_count; i++)
            refs[at + i] = 1 + (uint64_t)(unsigned char)rest.p[at + 2 + i];
        at += 2 + ref_count;
        count++;
    }
    thread_by_references(a, v, count, &t);
    buf_init(&out, SIZE_MAX);
    thread_print(&out, &t, v);
    for (size_t i = 0; i < out.n; i++)
        depth += (out.p[i] == '(') - (out.p[i] == ')');
    assert(depth == 0 && (count == 0) == (out.n == 0));
    buf_fini(&out);
    return 0;
}

static int read_one(unsigned which, struct imap_parser *p, struct arena *a, struct error *err)
{
    enum thread_algorithm algorithm;
    struct search_request request;

    switch (which % 9) {
    case 0:
        return read_sort(p, a, err);
    case 1:
        return imap_parse_thread(p, a, &algorithm, &request, err);
    case 2:
        return read_esearch(p, a, err);
    case 3:
        return imap_parse_search(p, a, &request, err);
    case 4:
        return read_partial(p, err);
    case 5:
        return pack_header(p, a);
    case 6:
        return read_packed(p);
    case 7:
        return fold(p);
    default:
        return make_threads(p, a);
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
