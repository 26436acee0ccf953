/* test_dns.c - lookups against overrides and a small DNS server on a thread of this process. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/run/config.h"
#include "server/run/dns.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

/* ---- a server that knows a few answers ---------------------------------------------------------- */

#define RCODE_SERVFAIL 2
#define RCODE_NXDOMAIN 3

static int server_fd;
static pthread_t server_thread;
static unsigned queries_seen; /* but those for the root's keys, which belong to no lookup */

static const struct zone_row {
    const char *name; /* as in the question: length, label, ... */
    unsigned type, rcode, ttl;
    bool is_silent;
    const char *rdata;
    size_t rdata_size;
} zone[] = {
#define RR(name, type, rdata)                                                                      \
    {                                                                                              \
        name, type, 0, 300, false, rdata, sizeof rdata - 1                                         \
    }
    RR("\x04host\x07"
       "example\x04test",
       1, "\xc0\x00\x02\x09"),
    RR("\x04host\x07"
       "example\x04test",
       28, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09"),
    RR("\x07"
       "example\x04test",
       16, "\x03v=s\x05pf1 ~"),
    {"\x06silent\x07"
     "example\x04test",
     0, 0, 0, true, NULL, 0},
    {"\x04"
     "fail\x07"
     "example\x04test",
     0, RCODE_SERVFAIL, 0, false, NULL, 0},
    {"\x07"
     "example\x04test",
     0, 0, 0, false, NULL, 0},
    {"\x04host\x07"
     "example\x04test",
     0, 0, 0, false, NULL, 0},
};

static const struct zone_row *find_row(const char *name, unsigned type)
{
    for (size_t i = 0; i < sizeof zone / sizeof zone[0]; i++)
        if (strcasecmp(zone[i].name, name) == 0 && (zone[i].type == type || zone[i].type == 0))
            return &zone[i];
    return NULL;
}

/* Turns the query into its answer, in place; 0: stay silent. The question is kept, the rest (EDNS) is cut off. */
static size_t answer(unsigned char *p, size_t n)
{
    size_t end = 12 + strnlen((char *)p + 12, n - 12) + 1;
    unsigned type = (unsigned)p[end] << 8 | p[end + 1];
    const struct zone_row *row = find_row((char *)p + 12, type);

    if (row != NULL && row->is_silent)
        return 0;
    p[2] = 0x81;
    p[3] = (unsigned char)(0x80 | (row == NULL ? RCODE_NXDOMAIN : row->rcode));
    memset(p + 6, 0, 6);
    end += 4;
    if (row == NULL || row->rdata == NULL)
        return end;
    p[7] = 1;
    memcpy(p + end, "\xc0\x0c", 2);
    memcpy(p + end + 2, p + end - 4, 4);
    memcpy(p + end + 6,
           (unsigned char[]){0, 0, (unsigned char)(row->ttl >> 8), (unsigned char)row->ttl}, 4);
    p[end + 10] = 0;
    p[end + 11] = (unsigned char)row->rdata_size;
    memcpy(p + end + 12, row->rdata, row->rdata_size);
    return end + 12 + row->rdata_size;
}

static void *serve(void *unused)
{
    unsigned char packet[4096];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t n;

    while ((n = recvfrom(server_fd, packet, 2048, 0, (struct sockaddr *)&from, &size)) > 12) {
        bool is_of_root = packet[12] == '\0' || packet[13] == '_'; /* _ta-4f66 (RFC 8145) */
        size_t answer_size = answer(packet, (size_t)n);

        if (!is_of_root)
            __atomic_add_fetch(&queries_seen, 1, __ATOMIC_RELAXED);
        if (answer_size > 0)
            sendto(server_fd, packet, answer_size, 0, (struct sockaddr *)&from, size);
        size = sizeof from;
    }
    return NULL;
}

static char server_text[64];

static int start_server(void **state)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;

    server_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(server_fd, (struct sockaddr *)&in, size) < 0)
        return -1;
    getsockname(server_fd, (struct sockaddr *)&in, &size);
    snprintf(server_text, sizeof server_text, "127.0.0.1:%u", ntohs(in.sin_port));
    return pthread_create(&server_thread, NULL, serve, NULL);
}

static int stop_server(void **state)
{
    struct sockaddr_in in;
    socklen_t size = sizeof in;

    getsockname(server_fd, (struct sockaddr *)&in, &size);
    sendto(server_fd, "end", 3, 0, (struct sockaddr *)&in, size);
    pthread_join(server_thread, NULL);
    close(server_fd);
    return 0;
}

/* ---- the cases ------------------------------------------------------------------------------------ */

static struct arena *arena;

static int setup(void **state)
{
    config_defaults();
    config.dns_server = server_text;
    config.dns_timeout = 3000;
    config.dns_override =
        "mx.over.test. A 192.0.2.1; over.test. MX 20 b.over.test.;over.test. 60 IN MX 10 "
        "mx.over.test.; "
        "null.test. MX 0 .; 7.2.0.192.in-addr.arpa. PTR liar.test.; 7.2.0.192.in-addr.arpa. PTR "
        "Seven.Test.; "
        "seven.test. A 192.0.2.7; liar.test. A 192.0.2.66; localhost. A 192.0.2.3";
    loop_init();
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    dns_fini();
    offload_fini();
    arena_free(&arena);
    loop_fini();
    fiber_pool_fini();
    config.dns_override = config.dns_server = "";
    config_fini();
    return 0;
}

static void assert_str(struct str got, const char *wanted)
{
    assert_int_equal(got.n, strlen(wanted));
    if (got.n > 0)
        assert_memory_equal(got.p, wanted, got.n);
}

#define assert_bytes(got, wanted)                                                                  \
    do {                                                                                           \
        assert_int_equal((got).n, sizeof wanted - 1);                                              \
        assert_memory_equal((got).p, wanted, sizeof wanted - 1);                                   \
    } while (0)

static void body_server(void *arg)
{
    struct error err = {0};
    struct dns_answer a;
    struct sockaddr_storage *addresses;
    struct str *texts;
    size_t count;

    assert_int_equal(dns_lookup(arena, STR("host.example.test"), DNS_A, &a, &err), 0);
    assert_int_equal(a.status, DNS_FOUND);
    assert_int_equal(a.count, 1);
    assert_bytes(a.rdata[0], "\xc0\x00\x02\x09");
    assert_false(a.is_secure);
    assert_int_equal(dns_lookup(arena, STR("host.example.test."), DNS_MX, &a, &err), 0);
    assert_int_equal(a.status, DNS_NO_DATA);
    assert_int_equal(dns_lookup(arena, STR("nobody.example.test"), DNS_A, &a, &err), 0);
    assert_int_equal(a.status, DNS_NO_NAME);
    assert_int_equal(
        dns_lookup_addresses(arena, STR("host.example.test"), &addresses, &count, &a, &err), 0);
    assert_int_equal(count, 2);
    assert_int_equal(addresses[0].ss_family, AF_INET);
    assert_int_equal(addresses[1].ss_family, AF_INET6);
    assert_int_equal(a.status, DNS_FOUND);
    assert_int_equal(
        dns_lookup_addresses(arena, STR("nobody.example.test"), &addresses, &count, &a, &err), 0);
    assert_int_equal(a.status, DNS_NO_NAME);
    assert_int_equal(dns_lookup_txt(arena, STR("example.test"), &texts, &count, &a, &err), 0);
    assert_int_equal(count, 1);
    assert_str(texts[0], "v=spf1 ~");
}

static void the_configured_server_is_asked(void **state)
{
    loop_run_fiber("dns", body_server, NULL);
}

static void body_failures(void *arg)
{
    struct error err = {0};
    struct dns_answer a;

    assert_int_equal(dns_lookup(arena, STR("fail.example.test"), DNS_A, &a, &err), -1);
    assert_int_equal(err.kind, ERR_TRY_LATER);
    config.dns_timeout = 50;
    err = (struct error){0};
    assert_int_equal(dns_lookup(arena, STR("silent.example.test"), DNS_A, &a, &err), -1);
    assert_int_equal(err.kind, ERR_TRY_LATER);
    fiber_cancel(fiber_self());
    err = (struct error){0};
    assert_int_equal(dns_lookup(arena, STR("silent.example.test"), DNS_A, &a, &err), -1);
    assert_int_equal(err.kind, ERR_CANCELLED);
}

static void failures_and_silence_mean_try_later(void **state)
{
    loop_run_fiber("dns", body_failures, NULL);
}

static void impossible_names_are_not_asked(void **state)
{
    static const char *const names[] = {
        "",
        ".",
        "a..b",
        ".a",
        "a b.test",
        "a\\.test",
        "a\\12.test",
        "a\\256.test",
        "a.test\\",
        "caf\xc3\xa9.test",
        "tab\t.test",
        "a123456789012345678901234567890123456789012345678901234567890123.test",
        "0123456789012345678901234567890123456789.0123456789012345678901234567890123456789."
        "0123456789012345678901234567890123456789.0123456789012345678901234567890123456789."
        "0123456789012345678901234567890123456789.0123456789012345678901234567890123456789."
        "abcdefgh",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct error err = {0};
        struct dns_answer a;

        assert_int_equal(dns_lookup(arena, str_c(names[i]), DNS_A, &a, &err), -1);
        assert_int_equal(err.kind, ERR_SYNTAX);
    }
}

static void body_strange_names(void *arg)
{
    struct error err = {0};
    struct dns_answer a;
    struct str raw = str_of("A b\\\"\xff.\0", 8);

    assert_str(dns_escape_name(arena, raw), "A\\032b\\092\\034\\255.\\000");
    assert_int_equal(dns_lookup(arena, STR("\\104ost.example.test"), DNS_A, &a, &err), 0);
    assert_int_equal(a.count, 1);
    raw = str_head(raw, 6); /* the server above knows no NUL in names */
    assert_int_equal(dns_lookup(arena, dns_escape_name(arena, raw), DNS_A, &a, &err), 0);
    assert_int_equal(a.status, DNS_NO_NAME);
}

static void any_byte_may_stand_in_a_name(void **state)
{
    loop_run_fiber("dns", body_strange_names, NULL);
}

static void body_all(void *arg)
{
    struct dns_question q[] = {
        {.name = STR("host.example.test"), .type = DNS_A},
        {.name = STR("fail.example.test"), .type = DNS_A},
        {.name = STR("a..b"), .type = DNS_A},
        {.name = STR("example.test"), .type = DNS_TXT},
        {.name = STR("nobody.example.test"), .type = DNS_MX},
    };

    dns_lookup_all(arena, q, sizeof q / sizeof q[0], 30000);
    assert_int_equal(q[0].err.kind, ERR_NONE);
    assert_bytes(q[0].answer.rdata[0], "\xc0\x00\x02\x09");
    assert_int_equal(q[1].err.kind, ERR_TRY_LATER);
    assert_int_equal(q[2].err.kind, ERR_SYNTAX);
    assert_int_equal(q[3].answer.count, 1);
    assert_int_equal(q[4].err.kind, ERR_NONE);
    assert_int_equal(q[4].answer.status, DNS_NO_NAME);
    dns_lookup_all(arena, q, 0, 30000);
}

static void questions_asked_together_fail_alone(void **state)
{
    loop_run_fiber("dns", body_all, NULL);
}

static void body_overrides(void *arg)
{
    struct error err = {0};
    struct dns_answer a;
    struct dns_mx *mx;
    size_t count;
    unsigned before = __atomic_load_n(&queries_seen, __ATOMIC_RELAXED);

    assert_int_equal(dns_lookup_mx(arena, STR("over.test"), &mx, &count, &a, &err), 0);
    assert_int_equal(count, 2);
    assert_int_equal(mx[0].preference, 10);
    assert_str(mx[0].host, "mx.over.test");
    assert_int_equal(mx[1].preference, 20);
    assert_int_equal(dns_lookup_mx(arena, STR("null.test"), &mx, &count, &a, &err), 0);
    assert_int_equal(count, 1);
    assert_str(mx[0].host, "");
    assert_int_equal(dns_lookup(arena, STR("localhost"), DNS_A, &a, &err), 0);
    assert_int_equal(a.count, 1);
    assert_bytes(a.rdata[0], "\xc0\x00\x02\x03");
    assert_int_equal(__atomic_load_n(&queries_seen, __ATOMIC_RELAXED), before);
}

static void overrides_win_and_are_not_asked_for(void **state)
{
    loop_run_fiber("dns", body_overrides, NULL);
}

static void body_confirmed(void *arg)
{
    struct error err = {0};
    struct sockaddr_storage address = {.ss_family = AF_INET};
    struct str name;

    inet_pton(AF_INET, "192.0.2.7", &((struct sockaddr_in *)&address)->sin_addr);
    assert_int_equal(dns_confirmed_name(arena, &address, &name, &err), 0);
    assert_true(str_ieq(name, STR("seven.test")));
    inet_pton(AF_INET, "192.0.2.8", &((struct sockaddr_in *)&address)->sin_addr);
    assert_int_equal(dns_confirmed_name(arena, &address, &name, &err), 0);
    assert_str(name, "");
    address.ss_family = AF_INET6;
    assert_int_equal(dns_confirmed_name(arena, &address, &name, &err), 0);
    assert_str(name, "");
}

static void a_name_counts_only_when_it_leads_back(void **state)
{
    loop_run_fiber("dns", body_confirmed, NULL);
}

static void addresses_are_reversed_for_questions(void **state)
{
    struct sockaddr_storage v4 = {.ss_family = AF_INET}, v6 = {.ss_family = AF_INET6},
                            local = {.ss_family = AF_UNIX};

    inet_pton(AF_INET, "192.0.2.7", &((struct sockaddr_in *)&v4)->sin_addr);
    assert_str(dns_reversed(arena, &v4), "7.2.0.192");
    inet_pton(AF_INET6, "::ffff:192.0.2.7", &((struct sockaddr_in6 *)&v6)->sin6_addr);
    assert_str(dns_reversed(arena, &v6), "7.2.0.192");
    inet_pton(AF_INET6, "2001:db8::567:89ab", &((struct sockaddr_in6 *)&v6)->sin6_addr);
    assert_str(dns_reversed(arena, &v6),
               "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2");
    assert_str(dns_reversed(arena, &local), "");
}

static void ask_host(void *arg)
{
    struct arena *own = arena_new();
    struct error err = {0};
    struct dns_answer a;

    assert_int_equal(dns_lookup(own, STR("host.example.test"), DNS_A, &a, &err), 0);
    assert_int_equal(a.count, 1);
    arena_free(&own);
    ++*(int *)arg;
}

static void body_many(void *arg)
{
    int done = 0;

    for (int i = 0; i < 50; i++)
        fiber_start("asker", ask_host, &done);
    while (done < 50)
        fiber_sleep(1);
}

static void many_fibers_ask_at_once(void **state)
{
    loop_run_fiber("dns", body_many, NULL);
}

static void names_inside_rdata_are_read_with_care(void **state)
{
    static const struct {
        struct str rdata;
        size_t at;
        const char *text;
    } rows[] = {
#define NAME(rdata, at, text) {{rdata, sizeof rdata - 1}, at, text}
        NAME("\x03www\x07"
             "example\x00",
             0, "www.example"),
        NAME("xx\x01"
             "a\x00",
             2, "a"),
        NAME("\x03"
             "a.b\x00",
             0, "a\\.b"),
        NAME("\x02"
             "a\x01\x00",
             0, "a\\001"),
        NAME("\x00", 0, ""),
        NAME("\x03www", 0, ""),
        NAME("\x09www\x00", 0, ""),
        NAME("\xc0\x0c\x00", 0, ""),
        NAME("", 0, ""),
        NAME("\x01"
             "a\x00",
             9, ""),
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_str(dns_rdata_name(arena, rows[i].rdata, rows[i].at), rows[i].text);
}

static void bad_settings_are_told_at_start(void **state)
{
    static const struct {
        const char *server, *override, *text;
    } rows[] = {
        {"127.0.0.1", "a.test. A 192.0.2.1", NULL},
        {"[::1]:5353", "", NULL},
        {"::1", "", NULL},
        {"dns.example.org", "", "dns_server"},
        {"127.0.0.1:0", "", "dns_server"},
        {"127.0.0.1:dns", "", "dns_server"},
        {"127.0.0.1", "a.test. A nonsense", "dns_override"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error err = {0};

        config.dns_server = rows[i].server;
        config.dns_override = rows[i].override;
        assert_int_equal(dns_check_settings(&err), rows[i].text == NULL ? 0 : -1);
        if (rows[i].text != NULL)
            assert_non_null(strstr(err.text, rows[i].text));
    }
}

static void a_trust_anchor_that_is_none_is_told_at_start(void **state)
{
    char path[] = "/tmp/merpati-anchor-XXXXXX";
    int fd = mkstemp(path);
    struct error err = {0};

    assert_int_equal(write(fd, "no records\n", 11), 11);
    close(fd);
    config.dns_trust_anchor = path;
    assert_int_equal(dns_check_settings(&err), -1);
    assert_non_null(strstr(err.text, "DS or DNSKEY"));
    unlink(path);
    err = (struct error){0};
    assert_int_equal(dns_check_settings(&err), -1);
    assert_non_null(strstr(err.text, "cannot be read"));
    config.dns_trust_anchor = "";
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(the_configured_server_is_asked),
        CASE(failures_and_silence_mean_try_later),
        CASE(impossible_names_are_not_asked),
        CASE(overrides_win_and_are_not_asked_for),
        CASE(a_name_counts_only_when_it_leads_back),
        CASE(many_fibers_ask_at_once),
        CASE(names_inside_rdata_are_read_with_care),
        CASE(bad_settings_are_told_at_start),
        CASE(any_byte_may_stand_in_a_name),
        CASE(questions_asked_together_fail_alone),
        CASE(addresses_are_reversed_for_questions),
        CASE(a_trust_anchor_that_is_none_is_told_at_start),
    };

    return cmocka_run_group_tests_name("dns", tests, start_server, stop_server);
}
