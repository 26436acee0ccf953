/* test_dial.c - connections that we make, against peers on a thread of this process that behave badly. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/base/buf.h"
#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/conn_buffer.h"
#include "server/run/dial.h"
#include "server/run/loop.h"
#include "server/run/offload.h"
#include "server/run/tls.h"

/* ---- the peer -------------------------------------------------------------------------------- */

static char folder[64], cert_path[96], key_path[96], ca_path[96];
static SSL_CTX *peer_context;

static struct peer {
    int listener;
    unsigned count; /* connections it takes */
    void (*serve)(int fd);
    pthread_t thread;
    struct sockaddr_storage address;
} peer;

static void *peer_main(void *unused)
{
    for (unsigned i = 0; i < peer.count; i++) {
        int fd = accept(peer.listener, NULL, NULL);

        if (fd < 0)
            break;
        peer.serve(fd);
        close(fd);
    }
    return NULL;
}

static void start_peer(void (*serve)(int fd), unsigned count)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&peer.address;
    socklen_t size = sizeof *in;

    memset(&peer.address, 0, sizeof peer.address);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer.listener, (struct sockaddr *)in, size), 0);
    assert_int_equal(listen(peer.listener, 8), 0);
    getsockname(peer.listener, (struct sockaddr *)in, &size);
    peer.serve = serve;
    peer.count = count;
    assert_int_equal(pthread_create(&peer.thread, NULL, peer_main, NULL), 0);
}

static void stop_peer(void)
{
    shutdown(peer.listener, SHUT_RDWR);
    pthread_join(peer.thread, NULL);
    close(peer.listener);
}

static void say(int fd, const char *text)
{
    if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        return;
}

static void wait_for_end(int fd)
{
    char scrap[4096];

    while (recv(fd, scrap, sizeof scrap, 0) > 0)
        ;
}

/* ---- frame ----------------------------------------------------------------------------------- */

static int setup(void **state)
{
    static const struct str names[] = {{"localhost", 9}, {"mx.example.test", 15}};
    struct error err = {0};

    config_defaults();
    loop_init();
    snprintf(folder, sizeof folder, "/tmp/test_dial.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(cert_path, sizeof cert_path, "%s/tls/cert.pem", folder);
    snprintf(key_path, sizeof key_path, "%s/tls/key.pem", folder);
    snprintf(ca_path, sizeof ca_path, "%s/tls/ca.pem", folder);
    assert_int_equal(tls_prepare_self_signed(folder, names, 2, &err), 0);
    peer_context = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate_chain_file(peer_context, cert_path), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(peer_context, key_path, SSL_FILETYPE_PEM), 1);
    return 0;
}

static int teardown(void **state)
{
    static const char *const files[] = {
        "tls/ca.pem", "tls/ca-key.pem", "tls/cert.pem", "tls/key.pem", "tls", ""};
    char path[128];

    SSL_CTX_free(peer_context);
    dial_fini();
    offload_fini();
    conn_buffer_pool_fini();
    loop_fini();
    fiber_pool_fini();
    config_fini();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        assert_int_equal(remove(path), 0);
    }
    return 0;
}

static struct dial *open_peer(void)
{
    struct error err = {0};
    struct dial *d = dial_open(&peer.address, NULL, 10000, &err);

    if (d == NULL)
        print_error("%s\n", err.text);
    assert_non_null(d);
    return d;
}

static enum error_kind read_kind(struct dial *d, size_t size_max, struct str *line)
{
    struct error err = {0};

    return dial_read_line(d, size_max, line, &err) == 0 ? ERR_NONE : err.kind;
}

#define FIBER_TEST(name)                                                                           \
    static void name##_fiber(void *arg);                                                           \
    static void name(void **state)                                                                 \
    {                                                                                              \
        loop_run_fiber(#name, name##_fiber, NULL);                                                 \
    }                                                                                              \
    static void name##_fiber(void *arg)

/* ---- lines ----------------------------------------------------------------------------------- */

static void serve_lines(int fd)
{
    say(fd, "one\r\ntwo\nthree\r\r\n");
    say(fd, "exactly sixteen!");
}

FIBER_TEST(lines_come_without_their_ends_and_blocks_whole)
{
    struct str line;
    struct dial *d;
    char block[16];

    start_peer(serve_lines, 1);
    d = open_peer();
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_true(str_eq(line, STR("one")));
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_true(str_eq(line, STR("two")));
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_true(str_eq(line, STR("three\r")));
    assert_int_equal(dial_read_exact(d, block, 16, NULL), 0);
    assert_memory_equal(block, "exactly sixteen!", 16);
    assert_int_equal(read_kind(d, 100, &line), ERR_CLOSED);
    dial_close(&d);
    assert_null(d);
    stop_peer();
}

static void serve_flood(int fd)
{
    static char flood[65536];

    memset(flood, 'x', sizeof flood);
    while (send(fd, flood, sizeof flood, MSG_NOSIGNAL) > 0)
        ;
}

FIBER_TEST(an_endless_line_costs_its_limit_and_the_failure_stays)
{
    struct str line;
    struct dial *d;

    start_peer(serve_flood, 1);
    d = open_peer();
    assert_int_equal(read_kind(d, 1000, &line), ERR_TOO_BIG);
    assert_int_equal(read_kind(d, 1000, &line), ERR_TOO_BIG);
    assert_true(dial_failed(d));
    dial_close(&d);
    stop_peer();
}

static void serve_drips(int fd)
{
    for (int i = 0; i < 1000; i++) {
        if (send(fd, "x", 1, MSG_NOSIGNAL) < 0)
            return;
        usleep(10000);
    }
}

FIBER_TEST(a_peer_that_stalls_at_every_byte_costs_one_deadline)
{
    struct str line;
    struct dial *d;

    start_peer(serve_drips, 1);
    d = open_peer();
    dial_set_deadline(d, 200);
    assert_int_equal(read_kind(d, 10000, &line), ERR_TIMED_OUT);
    dial_close(&d);
    stop_peer();
}

FIBER_TEST(the_end_holds_although_deadlines_are_set_anew)
{
    struct error err = {0};
    struct dial *d;
    char c;

    start_peer(serve_drips, 1);
    d = open_peer();
    dial_set_end(d, 300);
    while (err.kind == ERR_NONE) {
        dial_set_deadline(d, 10000);
        dial_read_exact(d, &c, 1, &err);
    }
    assert_int_equal(err.kind, ERR_TIMED_OUT);
    dial_close(&d);
    stop_peer();
}

FIBER_TEST(nobody_there_is_an_error_for_later)
{
    struct error err = {0};

    start_peer(wait_for_end, 0);
    stop_peer();
    assert_null(dial_open(&peer.address, NULL, 5000, &err));
    assert_int_equal(err.kind, ERR_TRY_LATER);
}

FIBER_TEST(a_source_address_that_is_not_ours_is_our_fault)
{
    struct sockaddr_storage from = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&from;
    struct error err = {0};

    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1 */
    start_peer(wait_for_end, 0);
    assert_null(dial_open(&peer.address, &from, 5000, &err));
    assert_int_equal(err.kind, ERR_INTERNAL);
    stop_peer();
}

static void serve_farewell(int fd)
{
    char scrap[16];

    if (recv(fd, scrap, sizeof scrap, 0) > 0)
        say(fd, "554 enough\r\n");
    shutdown(fd, SHUT_WR);
    usleep(200000);
}

/* A server that has had enough says why and closes, while we still send. */
FIBER_TEST(the_last_words_of_a_peer_are_read_although_writing_fails)
{
    char *block = memory_alloc(1 << 20);
    struct str line;
    struct dial *d;

    memset(block, 'y', 1 << 20);
    start_peer(serve_farewell, 1);
    d = open_peer();
    for (int i = 0; i < 64 && !dial_failed(d); i++)
        dial_write(d, str_of(block, 1 << 20));
    assert_true(dial_failed(d));
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_true(str_eq(line, STR("554 enough")));
    dial_close(&d);
    stop_peer();
    free(block);
}

static void serve_echo(int fd)
{
    char scrap[65536];
    ssize_t n;

    while ((n = recv(fd, scrap, sizeof scrap, 0)) > 0)
        if (send(fd, scrap, (size_t)n, MSG_NOSIGNAL) < 0)
            return;
}

FIBER_TEST(idle_connections_know_whether_they_are_fresh)
{
    struct str line;
    struct dial *d;

    start_peer(serve_echo, 1);
    d = open_peer();
    assert_true(dial_is_fresh(d));
    dial_printf(d, "hello %d\r\n", 1);
    assert_false(dial_is_fresh(d));
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_true(str_eq(line, STR("hello 1")));
    assert_true(dial_is_fresh(d));
    dial_printf(d, "a\r\nb\r\n");
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_false(dial_is_fresh(d));
    dial_close(&d);
    stop_peer();
}

static void write_to_unix(int fd)
{
    say(fd, "unix\r\n");
}

FIBER_TEST(unix_sockets_are_dialled_too)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&peer.address;
    struct str line;
    struct dial *d;

    memset(&peer.address, 0, sizeof peer.address);
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path, sizeof un->sun_path, "%s/socket", folder);
    peer.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(peer.listener, (struct sockaddr *)un, sizeof *un), 0);
    assert_int_equal(listen(peer.listener, 8), 0);
    peer.serve = write_to_unix;
    peer.count = 1;
    assert_int_equal(pthread_create(&peer.thread, NULL, peer_main, NULL), 0);
    d = open_peer();
    assert_true(str_eq(dial_peer_text(d), STR("unix")));
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_true(str_eq(line, STR("unix")));
    dial_close(&d);
    stop_peer();
    unlink(un->sun_path);
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static void serve_tls(int fd)
{
    SSL *ssl = SSL_new(peer_context);
    char scrap[1000];
    int n;

    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1)
        while ((n = SSL_read(ssl, scrap, sizeof scrap)) > 0)
            SSL_write(ssl, scrap, n);
    SSL_free(ssl);
}

/* The outcome of a handshake; d is left open on success. */
static enum error_kind shake(const struct dial_tls *tls, struct dial **d,
                             enum dial_tls_result *result)
{
    struct error err = {0};
    int status;

    *d = open_peer();
    status = dial_start_tls(*d, tls, &err);
    *result = dial_tls_result(*d);
    if (status == 0)
        return ERR_NONE;
    assert_true(dial_failed(*d));
    dial_close(d);
    return err.kind;
}

static void check_echo(struct dial *d)
{
    struct str line;

    dial_write(d, STR("through TLS\r\n"));
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_true(str_eq(line, STR("through TLS")));
}

FIBER_TEST(any_certificate_will_do_where_none_is_asked_for)
{
    struct dial_tls tls = {.server_name = STR("mx.example.test")};
    enum dial_tls_result result;
    struct dial *d;

    start_peer(serve_tls, 1);
    assert_int_equal(shake(&tls, &d, &result), ERR_NONE);
    assert_int_equal(result, DIAL_TLS_UNTRUSTED);
    assert_true(str_starts(dial_tls_description(d), STR("TLSv1.")));
    check_echo(d);
    assert_true(dial_is_fresh(d)); /* tickets are no input */
    dial_close(&d);
    stop_peer();
}

FIBER_TEST(pkix_wants_a_known_ca)
{
    struct dial_tls tls = {.server_name = STR("mx.example.test"), .verify = DIAL_TLS_PKIX};
    enum dial_tls_result result;
    struct dial *d;

    start_peer(serve_tls, 1);
    assert_int_equal(shake(&tls, &d, &result), ERR_DENIED);
    assert_int_equal(result, DIAL_TLS_UNTRUSTED);
    stop_peer();
}

/* The context read its CA store when it was made: begin anew. */
static void trust_own_ca(void)
{
    struct error err = {0};

    dial_fini();
    assert_int_equal(config_set(STR("tls_ca_file"), str_c(ca_path), &err), 0);
}

FIBER_TEST(pkix_with_our_ca_takes_the_right_name_only)
{
    struct dial_tls tls = {.server_name = STR("mx.example.test"), .verify = DIAL_TLS_PKIX};
    enum dial_tls_result result;
    struct dial *d;

    trust_own_ca();
    start_peer(serve_tls, 3);
    assert_int_equal(shake(&tls, &d, &result), ERR_NONE);
    assert_int_equal(result, DIAL_TLS_OK);
    check_echo(d);
    assert_false(dial_tls_was_resumed(d));
    dial_close(&d);
    assert_int_equal(shake(&tls, &d, &result), ERR_NONE);
    assert_int_equal(result, DIAL_TLS_OK);
    assert_true(dial_tls_was_resumed(d));
    check_echo(d);
    dial_close(&d);
    tls.server_name = STR("other.example.test");
    assert_int_equal(shake(&tls, &d, &result), ERR_DENIED);
    assert_int_equal(result, DIAL_TLS_NAME);
    stop_peer();
}

/* "3 1 1": the digest of the peer's public key. */
static struct str tlsa_of_peer(unsigned char *record, unsigned usage)
{
    X509 *certificate = SSL_CTX_get0_certificate(peer_context);
    unsigned size;

    record[0] = (unsigned char)usage;
    record[1] = 1;
    record[2] = 1;
    assert_int_equal(X509_pubkey_digest(certificate, EVP_sha256(), record + 3, &size), 1);
    /* X509_pubkey_digest is of the bit string alone; a TLSA record is of the whole key. */
    unsigned char *der = NULL;
    int der_size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    assert_int_equal(EVP_Digest(der, (size_t)der_size, record + 3, &size, EVP_sha256(), NULL), 1);
    OPENSSL_free(der);
    return str_of((const char *)record, 3 + size);
}

FIBER_TEST(dane_takes_the_key_that_dns_names_whatever_the_name)
{
    unsigned char record[35], wrong[35];
    struct str good = tlsa_of_peer(record, 3), bad = tlsa_of_peer(wrong, 3);
    struct str both[2] = {bad, good};
    struct dial_tls tls = {.server_name = STR("no.such.name.test"),
                           .verify = DIAL_TLS_DANE,
                           .tlsa = &good,
                           .tlsa_count = 1};
    enum dial_tls_result result;
    struct dial *d;

    wrong[34] ^= 1;
    dial_fini();
    assert_int_equal(config_set(STR("tls_ca_file"), STR(""), NULL), 0);
    start_peer(serve_tls, 3);
    assert_int_equal(shake(&tls, &d, &result), ERR_NONE);
    assert_int_equal(result, DIAL_TLS_OK);
    check_echo(d);
    dial_close(&d);
    tls.tlsa = &bad;
    assert_int_equal(shake(&tls, &d, &result), ERR_DENIED);
    assert_int_equal(result, DIAL_TLS_UNTRUSTED);
    tls.tlsa = both;
    tls.tlsa_count = 2;
    assert_int_equal(shake(&tls, &d, &result), ERR_NONE);
    dial_close(&d);
    stop_peer();
}

FIBER_TEST(tlsa_records_that_nobody_can_use_are_told_before_anything_is_sent)
{
    unsigned char record[35];
    struct str pkix = tlsa_of_peer(record, 1);
    struct str shapes[] = {pkix, str_of("\3\1\1short", 8), str_of("\3\2\1", 3), str_of("", 0)};
    struct dial_tls tls = {.server_name = STR("mx.example.test"),
                           .verify = DIAL_TLS_DANE,
                           .tlsa = shapes,
                           .tlsa_count = 4};
    enum dial_tls_result result;
    struct dial *d;

    assert_int_equal(dial_tlsa_usable(shapes, 4), 0);
    start_peer(wait_for_end, 1);
    assert_int_equal(shake(&tls, &d, &result), ERR_DENIED);
    assert_int_equal(result, DIAL_TLS_NO_TLSA);
    stop_peer();
}

static void serve_injection(int fd)
{
    say(fd, "220 go ahead\r\n250 injected\r\n");
    wait_for_end(fd);
}

FIBER_TEST(what_was_sent_ahead_of_the_handshake_ends_the_connection)
{
    struct dial_tls tls = {.server_name = STR("mx.example.test")};
    struct error err = {0};
    struct str line;
    struct dial *d;

    start_peer(serve_injection, 1);
    d = open_peer();
    assert_int_equal(read_kind(d, 100, &line), ERR_NONE);
    assert_int_equal(dial_start_tls(d, &tls, &err), -1);
    assert_int_equal(err.kind, ERR_SYNTAX);
    assert_int_equal(read_kind(d, 100, &line), ERR_SYNTAX);
    dial_close(&d);
    stop_peer();
}

static void serve_garbage(int fd)
{
    say(fd, "HTTP/1.1 400 this is no TLS\r\n\r\n");
    wait_for_end(fd);
}

FIBER_TEST(a_peer_that_does_not_speak_tls_fails_the_handshake)
{
    struct dial_tls tls = {.server_name = STR("mx.example.test")};
    enum dial_tls_result result;
    struct dial *d;

    start_peer(serve_garbage, 1);
    assert_int_equal(shake(&tls, &d, &result), ERR_CLOSED);
    assert_int_equal(result, DIAL_TLS_FAILED);
    stop_peer();
}

FIBER_TEST(a_handshake_that_stalls_costs_the_deadline)
{
    struct dial_tls tls = {.server_name = STR("mx.example.test")};
    struct error err = {0};
    struct dial *d;

    start_peer(wait_for_end, 1);
    d = open_peer();
    dial_set_deadline(d, 200);
    assert_int_equal(dial_start_tls(d, &tls, &err), -1);
    assert_int_equal(err.kind, ERR_TIMED_OUT);
    dial_close(&d);
    stop_peer();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_without_their_ends_and_blocks_whole),
        cmocka_unit_test(an_endless_line_costs_its_limit_and_the_failure_stays),
        cmocka_unit_test(a_peer_that_stalls_at_every_byte_costs_one_deadline),
        cmocka_unit_test(the_end_holds_although_deadlines_are_set_anew),
        cmocka_unit_test(nobody_there_is_an_error_for_later),
        cmocka_unit_test(a_source_address_that_is_not_ours_is_our_fault),
        cmocka_unit_test(the_last_words_of_a_peer_are_read_although_writing_fails),
        cmocka_unit_test(idle_connections_know_whether_they_are_fresh),
        cmocka_unit_test(unix_sockets_are_dialled_too),
        cmocka_unit_test(any_certificate_will_do_where_none_is_asked_for),
        cmocka_unit_test(pkix_wants_a_known_ca),
        cmocka_unit_test(pkix_with_our_ca_takes_the_right_name_only),
        cmocka_unit_test(dane_takes_the_key_that_dns_names_whatever_the_name),
        cmocka_unit_test(tlsa_records_that_nobody_can_use_are_told_before_anything_is_sent),
        cmocka_unit_test(what_was_sent_ahead_of_the_handshake_ends_the_connection),
        cmocka_unit_test(a_peer_that_does_not_speak_tls_fails_the_handshake),
        cmocka_unit_test(a_handshake_that_stalls_costs_the_deadline),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
