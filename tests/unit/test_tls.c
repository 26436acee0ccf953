/* test_tls.c - the self-signed pair, reloading, and sessions over a connection, with OpenSSL as client. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "server/base/buf.h"
#include "server/run/config.h"
#include "server/run/conn_internal.h"
#include "server/run/listener.h"
#include "server/run/tls.h"

static char folder[64], cert_path[96], key_path[96], ca_path[96];

static const struct str names[] = {
    {"localhost", 9},
    {"mail.example.test", 17},
    {"127.0.0.1", 9},
    {"::1", 3},
};
#define NAME_COUNT (sizeof names / sizeof names[0])

static void prepare(size_t name_count)
{
    struct error err = {0};

    if (tls_prepare_self_signed(folder, names, name_count, &err) < 0)
        print_error("%s\n", err.text);
    assert_int_equal(err.kind, ERR_NONE);
}

static void load(void)
{
    struct error err = {0};

    if (tls_load(cert_path, key_path, &err) < 0)
        print_error("%s\n", err.text);
    assert_int_equal(err.kind, ERR_NONE);
}

static int setup(void **state)
{
    config_defaults();
    loop_init();
    snprintf(folder, sizeof folder, "/tmp/test_tls.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(cert_path, sizeof cert_path, "%s/tls/cert.pem", folder);
    snprintf(key_path, sizeof key_path, "%s/tls/key.pem", folder);
    snprintf(ca_path, sizeof ca_path, "%s/tls/ca.pem", folder);
    return 0;
}

static int teardown(void **state)
{
    static const char *const files[] = {
        "tls/ca.pem", "tls/ca-key.pem", "tls/cert.pem", "tls/key.pem", "tls", ""};
    char path[128];

    assert_int_equal(conn_count(), 0);
    tls_fini();
    listener_fini();
    loop_fini();
    fiber_pool_fini();
    config_fini();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        assert_int_equal(remove(path), 0);
    }
    return 0;
}

/* ---- the pair --------------------------------------------------------------------------------- */

static X509 *read_certificate(const char *path)
{
    FILE *f = fopen(path, "r");
    X509 *certificate;

    assert_non_null(f);
    certificate = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_non_null(certificate);
    return certificate;
}

static void assert_mode(const char *path, mode_t mode)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, mode);
}

static void the_pair_verifies_for_every_name_and_no_other(void **state)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    X509 *leaf;

    prepare(NAME_COUNT);
    assert_mode(key_path, 0600);
    assert_mode(cert_path, 0644);
    leaf = read_certificate(cert_path);
    assert_int_equal(X509_STORE_load_file(store, ca_path), 1);
    assert_int_equal(X509_STORE_CTX_init(verification, store, leaf, NULL), 1);
    X509_STORE_CTX_set_purpose(verification, X509_PURPOSE_SSL_SERVER);
    assert_int_equal(X509_verify_cert(verification), 1);
    assert_int_equal(X509_check_host(leaf, "mail.example.test", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(leaf, "::1", 0), 1);
    assert_int_equal(X509_check_host(leaf, "example.test", 0, 0, NULL), 0);
    assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.2", 0), 0);
    X509_free(leaf);
    X509_STORE_CTX_free(verification);
    X509_STORE_free(store);
}

static void the_leaf_is_made_again_for_a_new_name_and_the_ca_and_the_key_are_kept(void **state)
{
    X509 *ca, *leaf, *same, *other, *kept;

    prepare(1);
    ca = read_certificate(ca_path);
    leaf = read_certificate(cert_path);
    prepare(1);
    same = read_certificate(cert_path);
    assert_int_equal(X509_cmp(leaf, same), 0);
    prepare(NAME_COUNT);
    other = read_certificate(cert_path);
    kept = read_certificate(ca_path);
    assert_int_not_equal(X509_cmp(leaf, other), 0);
    assert_int_equal(EVP_PKEY_eq(X509_get0_pubkey(leaf), X509_get0_pubkey(other)), 1);
    assert_int_equal(X509_cmp(ca, kept), 0);
    X509_free(ca);
    X509_free(leaf);
    X509_free(same);
    X509_free(other);
    X509_free(kept);
}

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void a_damaged_key_is_replaced(void **state)
{
    prepare(1);
    write_text(key_path, "damaged");
    prepare(1);
    load();
}

/* ---- loading ---------------------------------------------------------------------------------- */

static void a_certificate_that_cannot_be_used_says_which_and_why(void **state)
{
    struct error err = {0};

    prepare(1);
    assert_int_equal(tls_load("/nowhere/cert.pem", key_path, &err), -1);
    assert_non_null(strstr(err.text, "/nowhere/cert.pem"));
    assert_non_null(strstr(err.text, "No such file"));
    err = (struct error){0};
    assert_int_equal(tls_load(ca_path, key_path, &err), -1);
    assert_non_null(strstr(err.text, "private key"));
    err = (struct error){0};
    assert_int_equal(tls_load(cert_path, cert_path, &err), -1);
    assert_non_null(strstr(err.text, "cannot use the private key"));
}

static void a_change_on_disk_is_loaded_and_a_broken_one_is_not(void **state)
{
    prepare(1);
    load();
    assert_false(tls_reload_if_changed());
    prepare(NAME_COUNT);
    assert_true(tls_reload_if_changed());
    assert_false(tls_reload_if_changed());
    write_text(cert_path, "broken");
    assert_false(tls_reload_if_changed());
    prepare(NAME_COUNT);
    assert_true(tls_reload_if_changed());
}

/* ---- sessions over a connection ---------------------------------------------------------------- */

static struct conn *served;
static struct buf exporter, end_point;
static enum error_kind start_tls_error;

static void *test_open(struct conn *c, int tag)
{
    served = c;
    conn_write(c, STR("hello\r\n"));
    return c;
}

static void test_close(void *session)
{
    served = NULL;
}

static void big(struct conn *c)
{
    for (int i = 0; i < 100000; i++)
        conn_write(c, STR("0123456789"));
}

static enum step test_step(void *session)
{
    struct conn *c = session;
    struct error err = {0};
    struct str line;

    if (conn_take_wake(c))
        conn_write(c, STR("* news\r\n"));
    if (!conn_has_input(c))
        return STEP_REST;
    if (conn_read_line(c, 100, &line, &err) < 0)
        return STEP_END;
    if (str_eq(line, STR("starttls"))) {
        conn_write(c, STR("go ahead\r\n"));
        if (conn_start_tls(c, &err) < 0) {
            start_tls_error = err.kind;
            return STEP_END;
        }
        return STEP_REST;
    }
    if (str_eq(line, STR("big"))) {
        big(c);
        return STEP_REST;
    }
    conn_printf(c, "%.*s\r\n", STR_ARG(line));
    return str_eq(line, STR("quit")) ? STEP_END : STEP_REST;
}

static const struct service imap_like = {
    .name = "imap",
    .open = test_open,
    .step = test_step,
    .close = test_close,
};
static const struct service http_like = {
    .name = "http",
    .open = test_open,
    .step = test_step,
    .close = test_close,
};

static int connect_pair(const struct service *service, enum tls_mode mode)
{
    struct endpoint e = {.service = service, .tls = mode};
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    conn_start(conn_new(fds[0], &e, false));
    return fds[1];
}

static SSL_CTX *client_context(void)
{
    static SSL_CTX *context;

    if (context == NULL)
        context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(context, SSL_MODE_AUTO_RETRY);
    return context;
}

static SSL *client_new(int fd)
{
    SSL *ssl = SSL_new(client_context());

    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, "mail.example.test");
    SSL_set_connect_state(ssl);
    return ssl;
}

/* Waits for what the last call wanted; false when it failed for good. */
static bool client_wait(SSL *ssl, int result)
{
    int why = SSL_get_error(ssl, result);

    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        return false;
    assert_int_equal(loop_wait_fd(SSL_get_fd(ssl), why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT,
                                  loop_deadline(10000)),
                     WAKE_READY);
    return true;
}

static bool client_handshake(SSL *ssl)
{
    int result;

    do {
        ERR_clear_error();
        result = SSL_do_handshake(ssl);
    } while (result != 1 && client_wait(ssl, result));
    return result == 1;
}

static void client_say(SSL *ssl, const char *s)
{
    ERR_clear_error();
    assert_int_equal(SSL_write(ssl, s, (int)strlen(s)), (int)strlen(s));
}

/* Fewer bytes than asked for only at the end. */
static size_t client_hear(SSL *ssl, char *to, size_t size)
{
    size_t n = 0;

    while (n < size) {
        int got;

        ERR_clear_error();
        got = SSL_read(ssl, to + n, (int)(size - n));
        if (got > 0)
            n += (size_t)got;
        else if (!client_wait(ssl, got))
            break;
    }
    return n;
}

static void client_expect(SSL *ssl, const char *wanted)
{
    char got[256];
    size_t n = client_hear(ssl, got, strlen(wanted));

    got[n] = '\0';
    assert_string_equal(got, wanted);
}

static void client_close(SSL *ssl)
{
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
    while (conn_count() > 0)
        fiber_sleep(1);
}

static void client_quit(SSL *ssl)
{
    char c;

    client_say(ssl, "quit\r\n");
    client_expect(ssl, "quit\r\n");
    assert_int_equal(client_hear(ssl, &c, 1), 0);
    assert_int_equal(SSL_get_shutdown(ssl), SSL_RECEIVED_SHUTDOWN); /* close_notify came */
    SSL_shutdown(ssl); /* or OpenSSL would not use the session again */
    client_close(ssl);
}

static void load_pair(void)
{
    prepare(NAME_COUNT);
    load();
}

static void body_implicit(void *arg)
{
    SSL *ssl;

    load_pair();
    ssl = client_new(connect_pair(&imap_like, TLS_IMPLICIT));
    assert_true(client_handshake(ssl));
    client_expect(ssl, "hello\r\n");
    client_say(ssl, "one\r\ntwo\r\n");
    client_expect(ssl, "one\r\ntwo\r\n");
    assert_true(conn_is_tls(served));
    assert_true(conn_is_secure(served));
    assert_true(str_starts(conn_tls_description(served), STR("TLSv1.3 with cipher TLS_")));
    assert_true(str_eq(conn_tls_server_name(served), STR("mail.example.test")));
    fiber_sleep(5);
    assert_null(served->fiber);
    assert_null(served->in.p);
    assert_null(served->out.p);
    conn_wake(served);
    client_expect(ssl, "* news\r\n");
    client_quit(ssl);
}

static void commands_and_wakes_go_over_tls(void **state)
{
    loop_run_fiber("client", body_implicit, NULL);
}

static void body_many_records(void *arg)
{
    SSL *ssl;

    load_pair();
    ssl = client_new(connect_pair(&imap_like, TLS_IMPLICIT));
    assert_true(client_handshake(ssl));
    client_expect(ssl, "hello\r\n");
    for (int i = 0; i < 50; i++) /* a record each, in one read of the server's */
        client_say(ssl, "x\r\n");
    for (int i = 0; i < 50; i++)
        client_expect(ssl, "x\r\n");
    client_quit(ssl);
}

static void records_that_wait_inside_openssl_are_not_forgotten(void **state)
{
    loop_run_fiber("client", body_many_records, NULL);
}

static void body_big(void *arg)
{
    char *got = malloc(1000000);
    SSL *ssl;

    load_pair();
    ssl = client_new(connect_pair(&imap_like, TLS_IMPLICIT));
    assert_true(client_handshake(ssl));
    client_expect(ssl, "hello\r\n");
    client_say(ssl, "big\r\n");
    fiber_sleep(5);
    assert_true(served->out.cap <= 256 << 10);
    assert_int_equal(client_hear(ssl, got, 1000000), 1000000);
    for (int i = 0; i < 1000000; i++)
        assert_int_equal(got[i], '0' + i % 10);
    free(got);
    client_quit(ssl);
}

static void a_long_answer_arrives_whole_over_tls(void **state)
{
    loop_run_fiber("client", body_big, NULL);
}

static void plain_expect(int fd, const char *wanted)
{
    char got[64];

    assert_int_equal(loop_wait_fd(fd, EPOLLIN, loop_deadline(10000)), WAKE_READY);
    assert_int_equal(recv(fd, got, sizeof got, 0), strlen(wanted));
    assert_memory_equal(got, wanted, strlen(wanted));
}

static void body_start_tls(void *arg)
{
    int fd;
    SSL *ssl;

    load_pair();
    fd = connect_pair(&imap_like, TLS_OFFERED);
    plain_expect(fd, "hello\r\n");
    assert_int_equal(send(fd, "starttls\r\n", 10, 0), 10);
    plain_expect(fd, "go ahead\r\n");
    ssl = client_new(fd);
    assert_true(client_handshake(ssl));
    client_say(ssl, "over tls\r\n");
    client_expect(ssl, "over tls\r\n");
    client_quit(ssl);
}

static void starttls_changes_over(void **state)
{
    loop_run_fiber("client", body_start_tls, NULL);
}

static void body_injection(void *arg)
{
    int fd;

    load_pair();
    fd = connect_pair(&imap_like, TLS_OFFERED);
    plain_expect(fd, "hello\r\n");
    start_tls_error = ERR_NONE;
    assert_int_equal(send(fd, "starttls\r\ninjected\r\n", 20, 0), 20);
    while (conn_count() > 0)
        fiber_sleep(1);
    assert_int_equal(start_tls_error, ERR_SYNTAX);
    close(fd);
}

static void what_is_sent_ahead_of_the_handshake_is_refused(void **state)
{
    loop_run_fiber("client", body_injection, NULL);
}

static void body_no_handshake(void *arg)
{
    int fd;

    load_pair();
    fd = connect_pair(&imap_like, TLS_IMPLICIT);
    assert_int_equal(send(fd, "EHLO plain.example\r\n", 20, 0), 20);
    while (conn_count() > 0)
        fiber_sleep(1);
    close(fd);
    fd = connect_pair(&imap_like, TLS_IMPLICIT);
    fiber_sleep(2);
    close(fd);
    while (conn_count() > 0)
        fiber_sleep(1);
}

static void a_client_that_cannot_shake_hands_is_closed(void **state)
{
    loop_run_fiber("client", body_no_handshake, NULL);
}

static bool shakes_hands(const struct service *service, const char *alpn, char *chosen)
{
    SSL *ssl = client_new(connect_pair(service, TLS_IMPLICIT));
    const unsigned char *name;
    unsigned size;
    bool is_done;

    SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    is_done = client_handshake(ssl);
    SSL_get0_alpn_selected(ssl, &name, &size);
    snprintf(chosen, 32, "%.*s", (int)size, (const char *)name);
    client_close(ssl);
    return is_done;
}

static void body_alpn(void *arg)
{
    static const struct {
        const struct service *service;
        const char *offer, *chosen; /* NULL: the handshake must fail */
    } rows[] = {
        {&http_like, "\x02h2\x08http/1.1", "http/1.1"},
        {&http_like, "\x05other", ""},
        {&imap_like, "\x04imap", "imap"},
        {&imap_like, "\x05other", ""},
        {&imap_like, "\x08http/1.1", NULL},
        {&imap_like, "\x02h2", NULL},
    };
    char chosen[32];

    load_pair();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_done = shakes_hands(rows[i].service, rows[i].offer, chosen);

        assert_int_equal(is_done, rows[i].chosen != NULL);
        if (is_done)
            assert_string_equal(chosen, rows[i].chosen);
    }
}

static void alpn_gives_each_its_own_and_sends_browsers_away(void **state)
{
    loop_run_fiber("client", body_alpn, NULL);
}

static void body_versions(void *arg)
{
    static const struct {
        int version;
        bool works;
    } rows[] = {
        {TLS1_3_VERSION, true},
        {TLS1_2_VERSION, true},
        {TLS1_1_VERSION, false},
    };

    load_pair();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        SSL *ssl = client_new(connect_pair(&imap_like, TLS_IMPLICIT));

        SSL_set_min_proto_version(ssl, TLS1_VERSION);
        SSL_set_max_proto_version(ssl, rows[i].version);
        SSL_set_security_level(ssl, 0);
        assert_int_equal(client_handshake(ssl), rows[i].works);
        client_close(ssl);
    }
}

static void tls_1_2_and_1_3_are_spoken_and_nothing_older(void **state)
{
    loop_run_fiber("client", body_versions, NULL);
}

static void check_binding(int version)
{
    SSL *ssl = client_new(connect_pair(&imap_like, TLS_IMPLICIT));
    unsigned char ours[32], digest[EVP_MAX_MD_SIZE];
    X509 *leaf;
    unsigned size;

    SSL_set_max_proto_version(ssl, version);
    assert_true(client_handshake(ssl));
    client_expect(ssl, "hello\r\n");
    buf_init(&exporter, 100);
    buf_init(&end_point, 100);
    assert_true(conn_tls_binding(served, "tls-exporter", &exporter));
    assert_true(conn_tls_binding(served, "tls-server-end-point", &end_point));
    assert_false(conn_tls_binding(served, "tls-unique", &end_point));
    assert_int_equal(SSL_export_keying_material(ssl, ours, sizeof ours, "EXPORTER-Channel-Binding",
                                                24, (const unsigned char *)"", 0, 1),
                     1);
    assert_int_equal(exporter.n, sizeof ours);
    assert_memory_equal(exporter.p, ours, sizeof ours);
    leaf = SSL_get1_peer_certificate(ssl);
    assert_int_equal(X509_digest(leaf, EVP_sha256(), digest, &size), 1);
    X509_free(leaf);
    assert_int_equal(end_point.n, size);
    assert_memory_equal(end_point.p, digest, size);
    buf_fini(&exporter);
    buf_fini(&end_point);
    client_close(ssl);
}

static void body_binding(void *arg)
{
    load_pair();
    check_binding(TLS1_3_VERSION);
    check_binding(TLS1_2_VERSION);
}

static void both_sides_have_the_same_channel_binding(void **state)
{
    loop_run_fiber("client", body_binding, NULL);
}

/* A session begun before the certificate was replaced resumes after it, as with another worker. */
static void check_resumption(int version)
{
    SSL *first = client_new(connect_pair(&imap_like, TLS_IMPLICIT)), *second;
    SSL_SESSION *session;

    SSL_set_max_proto_version(first, version);
    assert_true(client_handshake(first));
    client_expect(first, "hello\r\n");
    session = SSL_get1_session(first);
    client_quit(first);
    load();
    second = client_new(connect_pair(&imap_like, TLS_IMPLICIT));
    SSL_set_max_proto_version(second, version);
    SSL_set_session(second, session);
    assert_true(client_handshake(second));
    assert_true(SSL_session_reused(second));
    client_expect(second, "hello\r\n");
    client_quit(second);
    SSL_SESSION_free(session);
}

static void body_resumption(void *arg)
{
    load_pair();
    check_resumption(TLS1_3_VERSION);
    check_resumption(TLS1_2_VERSION);
}

static void a_ticket_outlives_the_context_that_gave_it(void **state)
{
    loop_run_fiber("client", body_resumption, NULL);
}

static void body_half_closed(void *arg)
{
    SSL *ssl;
    char c;

    load_pair();
    ssl = client_new(connect_pair(&imap_like, TLS_IMPLICIT));
    assert_true(client_handshake(ssl));
    client_expect(ssl, "hello\r\n");
    client_say(ssl, "one\r\ntwo\r\n");
    shutdown(SSL_get_fd(ssl), SHUT_WR); /* without close_notify, as many clients do */
    client_expect(ssl, "one\r\ntwo\r\n");
    assert_int_equal(client_hear(ssl, &c, 1), 0);
    client_close(ssl);
}

static void a_client_half_closed_below_tls_hears_its_answers(void **state)
{
    loop_run_fiber("client", body_half_closed, NULL);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(the_pair_verifies_for_every_name_and_no_other),
        CASE(the_leaf_is_made_again_for_a_new_name_and_the_ca_and_the_key_are_kept),
        CASE(a_damaged_key_is_replaced),
        CASE(a_certificate_that_cannot_be_used_says_which_and_why),
        CASE(a_change_on_disk_is_loaded_and_a_broken_one_is_not),
        CASE(commands_and_wakes_go_over_tls),
        CASE(records_that_wait_inside_openssl_are_not_forgotten),
        CASE(a_long_answer_arrives_whole_over_tls),
        CASE(starttls_changes_over),
        CASE(what_is_sent_ahead_of_the_handshake_is_refused),
        CASE(a_client_that_cannot_shake_hands_is_closed),
        CASE(alpn_gives_each_its_own_and_sends_browsers_away),
        CASE(tls_1_2_and_1_3_are_spoken_and_nothing_older),
        CASE(both_sides_have_the_same_channel_binding),
        CASE(a_ticket_outlives_the_context_that_gave_it),
        CASE(a_client_half_closed_below_tls_hears_its_answers),
    };
    int failed = cmocka_run_group_tests_name("tls", tests, NULL, NULL);

    SSL_CTX_free(client_context());
    return failed;
}
