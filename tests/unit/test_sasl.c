/* test_sasl.c - the mechanisms from the client's side: the RFC's example, whole exchanges, and every way to be wrong.
 *
 * The connection is a stand-in with just what sasl.c asks of one. */
#include "tests/unit/directory_fixture.h"

#include <openssl/evp.h>

#include "server/base/encode.h"
#include "server/directory/sasl_internal.h"
#include "server/directory/saslprep.h"
#include "server/directory/scram.h"
#include "server/run/conn.h"

struct conn {
    bool is_tls, is_secure;
    struct log log;
};

static struct conn connection;

bool conn_is_tls(const struct conn *c)
{
    return c->is_tls;
}
bool conn_is_secure(const struct conn *c)
{
    return c->is_secure;
}
struct str conn_peer_text(const struct conn *c)
{
    return STR("192.0.2.7");
}
struct log *conn_log(struct conn *c)
{
    return &c->log;
}

bool conn_tls_binding(const struct conn *c, const char *type, struct buf *out)
{
    if (!c->is_tls)
        return false;
    buf_adds(out, strcmp(type, "tls-exporter") == 0 ? "EXPORTER" : "ENDPOINT");
    return true;
}

/* --- pure parts ------------------------------------------------------------------------------------ */

static struct str decoded(const char *base64)
{
    struct buf bytes;
    struct str out;

    buf_init(&bytes, 4096);
    assert_true(base64_decode(&bytes, str_c(base64)));
    out = arena_str(arena, buf_str(&bytes));
    buf_fini(&bytes);
    return out;
}

/* RFC 7677, 3. */
CASE(the_example_of_the_rfc_holds)
{
    struct str nonce = STR("rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"), server_first,
               auth_message;
    struct scram_client_first first;
    struct scram_client_final final;
    struct scram_verifier v;
    struct error err = {0};
    struct buf text;

    buf_init(&text, 1024);
    assert_true(
        scram_verifier_add(&text, STR("pencil"), decoded("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096));
    assert_true(scram_verifier_parse(arena, buf_str(&text), &v));
    assert_int_equal(
        scram_parse_client_first(arena, STR("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), &first, &err), 0);
    assert_str(first.gs2_header, "n,,");
    assert_str(first.name, "user");
    server_first = scram_server_first(arena, nonce, v.salt, v.iterations);
    assert_str(
        server_first,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    assert_int_equal(
        scram_parse_client_final(arena,
                                 STR("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                     "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
                                 &final, &err),
        0);
    assert_str(final.binding, "n,,");
    auth_message = scram_auth_message(arena, first.bare, server_first, final.without_proof);
    assert_true(scram_proof_matches(&v, auth_message, final.proof));
    assert_str(scram_server_final(arena, &v, auth_message),
               "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    final.proof[7] ^= 1;
    assert_false(scram_proof_matches(&v, auth_message, final.proof));
    buf_fini(&text);
}

CASE(client_first_messages_are_checked)
{
    static const struct {
        const char *message, *name, *authzid, *binding;
        bool is_good;
    } rows[] = {
        {"n,,n=user,r=abc", "user", "", "", true},
        {"y,,n=user,r=abc", "user", "", "", true},
        {"p=tls-exporter,,n=user,r=abc", "user", "", "tls-exporter", true},
        {"n,a=boss,n=user,r=abc", "user", "boss", "", true},
        {"n,,n=a=2Cb=3Dc,r=abc", "a,b=c", "", "", true},
        {"n,,n=us\xc3\xa9r,r=abc", "us\xc3\xa9r", "", "", true},
        {"n,,n=user,r=abc,x=future", "user", "", "", true},
        {"", NULL, NULL, NULL, false},
        {"n", NULL, NULL, NULL, false},
        {"n,", NULL, NULL, NULL, false},
        {"n,,", NULL, NULL, NULL, false},
        {",,n=user,r=abc", NULL, NULL, NULL, false},
        {"x,,n=user,r=abc", NULL, NULL, NULL, false},
        {"nn,,n=user,r=abc", NULL, NULL, NULL, false},
        {"p,,n=user,r=abc", NULL, NULL, NULL, false},
        {"p=,,n=user,r=abc", NULL, NULL, NULL, false},
        {"p=tls exporter,,n=user,r=abc", NULL, NULL, NULL, false},
        {"n,boss,n=user,r=abc", NULL, NULL, NULL, false},
        {"n,a=,n=user,r=abc", NULL, NULL, NULL, false},
        {"n,,n=,r=abc", NULL, NULL, NULL, false},
        {"n,,n=user", NULL, NULL, NULL, false},
        {"n,,n=user,r=", NULL, NULL, NULL, false},
        {"n,,n=user,r=a b", NULL, NULL, NULL, false},
        {"n,,r=abc,n=user", NULL, NULL, NULL, false},
        {"n,,m=ext,n=user,r=abc", NULL, NULL, NULL, false},
        {"n,,n=us=er,r=abc", NULL, NULL, NULL, false},
        {"n,,n=user=2,r=abc", NULL, NULL, NULL, false},
        {"n,,n=user=2c,r=abc", NULL, NULL, NULL, false},
        {"n,,n=us\xffr,r=abc", NULL, NULL, NULL, false},
        {"n,,N=user,r=abc", NULL, NULL, NULL, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct scram_client_first first;
        struct error err = {0};
        int status = scram_parse_client_first(arena, str_c(rows[i].message), &first, &err);

        if ((status == 0) != rows[i].is_good)
            print_error("%s\n", rows[i].message);
        assert_int_equal(status == 0, rows[i].is_good);
        assert_int_equal(err.kind, rows[i].is_good ? ERR_NONE : ERR_SYNTAX);
        if (!rows[i].is_good)
            continue;
        assert_str(first.name, rows[i].name);
        assert_str(first.authzid, rows[i].authzid);
        assert_str(first.binding_type, rows[i].binding);
    }
}

#define PROOF "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="

CASE(client_final_messages_are_checked)
{
    static const struct {
        const char *message;
        bool is_good;
    } rows[] = {
        {"c=biws,r=abc,p=" PROOF, true},
        {"c=biws,r=abc,x=future,p=" PROOF, true},
        {"", false},
        {",", false},
        {"c=biws,r=abc", false},
        {"c=biws,p=" PROOF, false},
        {"r=abc,p=" PROOF, false},
        {"r=abc,c=biws,p=" PROOF, false},
        {"c=b,r=abc,p=" PROOF, false},
        {"c=,r=,p=" PROOF, false},
        {"c=biws,r=abc,p=", false},
        {"c=biws,r=abc,p=AAAA", false},
        {"c=biws,r=abc,P=" PROOF, false},
        {"c=biws,r=abc,p=" PROOF ",x=y", false},
        {"c=biws,r=abc,p=****", false},
        {"c=biws,r=a\xff,p=" PROOF, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct scram_client_final final;
        struct error err = {0};
        int status = scram_parse_client_final(arena, str_c(rows[i].message), &final, &err);

        if ((status == 0) != rows[i].is_good)
            print_error("%s\n", rows[i].message);
        assert_int_equal(status == 0, rows[i].is_good);
        assert_int_equal(err.kind, rows[i].is_good ? ERR_NONE : ERR_SYNTAX);
    }
    struct scram_client_final final;
    assert_int_equal(scram_parse_client_final(arena, STR("c=biws,r=a\0,p=" PROOF), &final, NULL),
                     -1);
}

CASE(bearer_messages_are_checked)
{
    static const struct {
        const char *message, *name, *token;
        bool is_xoauth2;
    } rows[] = {
        {"n,a=u@x,\1host=h\1port=143\1auth=Bearer abc\1\1", "u@x", "abc", false},
        {"n,,\1auth=Bearer abc\1\1", "", "abc", false},
        {"y,,\1auth=bearer  a.b-c~+/=\1\1", "", "a.b-c~+/=", false},
        {"n,a=a=2Cb=3D,\1auth=Bearer abc\1\1", "a,b=", "abc", false},
        {"p=tls-exporter,,\1auth=Bearer abc\1\1", NULL, NULL, false},
        {"n,a=,\1auth=Bearer abc\1\1", NULL, NULL, false},
        {"n,u@x,\1auth=Bearer abc\1\1", NULL, NULL, false},
        {"n,a=a=b,\1auth=Bearer abc\1\1", NULL, NULL, false},
        {"n,,\1auth=Bearer abc\1", NULL, NULL, false},
        {"n,,\1auth=Bearer abc\1\1x", NULL, NULL, false},
        {"n,,\1auth=Bearer \1\1", NULL, NULL, false},
        {"n,,\1auth=Basic abc\1\1", NULL, NULL, false},
        {"n,,\1auth=Bearer a b\1\1", NULL, NULL, false},
        {"n,,\1auth=Bearer a\1auth=Bearer b\1\1", NULL, NULL, false},
        {"n,,\1host\1auth=Bearer abc\1\1", NULL, NULL, false},
        {"n,,\1host=h\1\1", NULL, NULL, false},
        {"\1", NULL, NULL, false},
        {"", NULL, NULL, false},
        {"n", NULL, NULL, false},
        {"n,", NULL, NULL, false},
        {"user=u@x\1auth=Bearer abc\1\1", "u@x", "abc", true},
        {"user=u@x\1auth=Bearer abc\1", NULL, NULL, true},
        {"auth=Bearer abc\1\1", NULL, NULL, true},
        {"user=\1auth=Bearer abc\1\1", NULL, NULL, true},
        {"user=u@x\1\1", NULL, NULL, true},
        {"", NULL, NULL, true},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str message = str_c(rows[i].message);
        struct sasl_bearer bearer;
        int status = rows[i].is_xoauth2 ? sasl_parse_xoauth2(message, &bearer, NULL)
                                        : sasl_parse_oauthbearer(arena, message, &bearer, NULL);

        if ((status == 0) != (rows[i].token != NULL))
            print_error("%s\n", rows[i].message);
        assert_int_equal(status == 0, rows[i].token != NULL);
        if (status < 0)
            continue;
        assert_str(bearer.name, rows[i].name);
        assert_str(bearer.token, rows[i].token);
    }
}

CASE(damaged_verifiers_are_not_read)
{
    static const char *const rows[] = {
        "",
        "SCRAM-SHA-256$",
        "SCRAM-SHA-1$4096:c2FsdA==$" PROOF ":" PROOF,
        "SCRAM-SHA-256$0:c2FsdA==$" PROOF ":" PROOF,
        "SCRAM-SHA-256$-1:c2FsdA==$" PROOF ":" PROOF,
        "SCRAM-SHA-256$4096:$" PROOF ":" PROOF,
        "SCRAM-SHA-256$4096:c2FsdA==$" PROOF,
        "SCRAM-SHA-256$4096:c2FsdA==$AAAA:" PROOF,
        "SCRAM-SHA-256$99999999999:c2FsdA==$" PROOF ":" PROOF,
    };
    struct scram_verifier v;

    assert_true(
        scram_verifier_parse(arena, STR("SCRAM-SHA-256$4096:c2FsdA==$" PROOF ":" PROOF), &v));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_false(scram_verifier_parse(arena, str_c(rows[i]), &v));
}

/* RFC 4013, 3 and some of RFC 3454's tables. */
CASE(saslprep_prepares_or_refuses)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"I\xc2\xadX", "IX"},
        {"user", "user"},
        {"USER", "USER"},
        {"\xc2\xaa", "a"},
        {"\xe2\x85\xa8", "IX"},
        {"a\xc2\xa0"
         "b",
         "a b"},
        {"a\xe3\x80\x80"
         "b",
         "a b"},
        {"e\xcc\x81", "\xc3\xa9"},
        {"\xd8\xa7\xd8\xa8", "\xd8\xa7\xd8\xa8"},
        {"\x07", NULL},
        {"a\x7f", NULL},
        {"\xd8\xa7\x31", NULL},
        {"\xd8\xa7"
         "a\xd8\xa7",
         NULL},
        {"\xee\x80\x80", NULL},
        {"\xef\xbf\xbd", NULL},
        {"\xe2\x80\xae", NULL},
        {"\xcd\xb8", NULL},
        {"\xff", NULL},
        {"\xed\xa0\x80", NULL},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf out;
        buf_init(&out, 256);
        assert_int_equal(saslprep(str_c(rows[i].in), &out), rows[i].out != NULL);
        if (rows[i].out != NULL)
            assert_string_equal(buf_c(&out), rows[i].out);
        buf_fini(&out);
    }
}

CASE(plain_messages_are_checked)
{
    static const struct {
        struct str message;
        bool is_good;
    } rows[] = {
        {STR("\0ani\0pencil"), true},
        {STR("boss\0ani\0pencil"), true},
        {STR(""), false},
        {STR("ani"), false},
        {STR("\0ani"), false},
        {STR("\0ani\0"), false},
        {STR("\0\0pencil"), false},
        {STR("\0ani\0pen\0cil"), false},
        {STR("\0ani\0pencil\0"), false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sasl_plain plain;
        assert_int_equal(sasl_parse_plain(rows[i].message, &plain, NULL) == 0, rows[i].is_good);
    }
}

/* --- whole exchanges ------------------------------------------------------------------------------- */

static struct sasl *sasl;
static struct str challenge;
static struct error error;

static void begin(const char *mechanism, bool is_tls)
{
    connection = (struct conn){.is_tls = is_tls, .is_secure = is_tls};
    log_init(&connection.log, NULL);
    error = (struct error){0};
    sasl = sasl_new(arena, str_c(mechanism), &connection, STR("test"), &error);
}

static enum sasl_status say(struct str message)
{
    error = (struct error){0};
    return sasl_step(sasl, true, message, &challenge, &error);
}

static void make_ani(void)
{
    make_account("ani@example.test", ACCOUNT_PERSON, "pencil");
    assert_int_equal(alias_add(STR("a.putri@other.test"), STR("ani@example.test"), NULL), 0);
    make_account("budi@example.test", ACCOUNT_PERSON, NULL);
}

CASE(mechanisms_are_offered_where_they_are_safe)
{
    struct buf words;

    buf_init(&words, 256);
    begin("x", false);
    sasl_add_mechanisms(&words, &connection, "AUTH=");
    assert_string_equal(buf_c(&words), "AUTH=SCRAM-SHA-256");
    buf_clear(&words);
    begin("x", true);
    sasl_add_mechanisms(&words, &connection, "");
    assert_string_equal(buf_c(&words), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN");
    buf_fini(&words);

    begin("PLAIN", false);
    assert_null(sasl);
    assert_int_equal(error.kind, ERR_DENIED);
    begin("SCRAM-SHA-256-PLUS", false);
    assert_int_equal(error.kind, ERR_DENIED);
    begin("GSSAPI", true);
    assert_int_equal(error.kind, ERR_UNSUPPORTED);
    begin("plain", true);
    assert_non_null(sasl);
}

CASE(plain_logs_in_as_oneself_only)
{
    static const struct {
        struct str message;
        enum error_kind refusal;
    } rows[] = {
        {STR("\0ani@example.test\0pencil"), ERR_NONE},
        {STR("ani@example.test\0ani@example.test\0pencil"), ERR_NONE},
        {STR("A.Putri@other.test\0ani@example.test\0pencil"), ERR_NONE},
        {STR("budi@example.test\0ani@example.test\0pencil"), ERR_DENIED},
        {STR("nobody@example.test\0ani@example.test\0pencil"), ERR_DENIED},
        {STR("Ani\0ani@example.test\0pencil"), ERR_NONE},
        {STR("budi\0ani@example.test\0pencil"), ERR_DENIED},
        {STR("nonsense\0ani@example.test\0pencil"), ERR_DENIED},
        {STR("budi@example.test\0ani@example.test\0eraser"), ERR_AUTH},
        {STR("\0ani@example.test\0eraser"), ERR_AUTH},
        {STR("ani"), ERR_SYNTAX},
    };

    make_ani();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        begin("PLAIN", true);
        assert_int_equal(say(rows[i].message),
                         rows[i].refusal == ERR_NONE ? SASL_DONE : SASL_FAILED);
        assert_int_equal(error.kind, rows[i].refusal);
        if (rows[i].refusal == ERR_NONE)
            assert_int_equal(sasl_account(sasl)->account_id, 1);
        assert_int_equal(say(rows[i].message), SASL_FAILED);
    }
}

CASE(an_exchange_may_begin_without_data)
{
    make_ani();
    begin("PLAIN", true);
    assert_int_equal(sasl_step(sasl, false, STR_NULL, &challenge, &error), SASL_CONTINUE);
    assert_str(challenge, "");
    assert_int_equal(say(STR("\0ani@example.test\0pencil")), SASL_DONE);

    begin("LOGIN", true);
    assert_int_equal(sasl_step(sasl, false, STR_NULL, &challenge, &error), SASL_CONTINUE);
    assert_str(challenge, "Username:");
    assert_int_equal(say(STR("ani@example.test")), SASL_CONTINUE);
    assert_str(challenge, "Password:");
    assert_int_equal(say(STR("pencil")), SASL_DONE);

    begin("LOGIN", true);
    assert_int_equal(say(STR("ani@example.test")), SASL_CONTINUE);
    assert_int_equal(say(STR("eraser")), SASL_FAILED);
    assert_int_equal(error.kind, ERR_AUTH);
    begin("LOGIN", true);
    assert_int_equal(say(STR("")), SASL_FAILED);
}

/* --- a SCRAM client -------------------------------------------------------------------------------- */

struct client {
    const char *name, *password, *header;
    struct str binding; /* behind the header */
    struct str first_bare, server_first, nonce, salt;
    uint32_t iterations;
    uint8_t server_key[DIGEST_SIZE];
    struct str auth_message;
};

static enum sasl_status client_first(struct client *c)
{
    c->first_bare = arena_printf(arena, "n=%s,r=clientnonce", c->name);
    return say(arena_printf(arena, "%s%.*s", c->header, STR_ARG(c->first_bare)));
}

static void client_reads(struct client *c)
{
    struct str rest, salt, iterations;

    c->server_first = challenge;
    rest = str_from(challenge, 2);
    assert_true(str_cut(rest, ',', &c->nonce, &rest));
    assert_true(str_cut(rest, ',', &salt, &iterations));
    c->salt = decoded(arena_c(arena, str_from(salt, 2)));
    assert_true(str_to_u32(str_from(iterations, 2), &c->iterations));
}

static struct str encoded(struct str bytes)
{
    struct buf text;
    struct str out;

    buf_init(&text, 4096);
    base64_encode(&text, bytes);
    out = arena_str(arena, buf_str(&text));
    buf_fini(&text);
    return out;
}

static struct str client_proof(struct client *c)
{
    uint8_t salted[DIGEST_SIZE], client_key[DIGEST_SIZE], stored_key[DIGEST_SIZE],
        signature[DIGEST_SIZE];

    PKCS5_PBKDF2_HMAC(c->password, (int)strlen(c->password), (const unsigned char *)c->salt.p,
                      (int)c->salt.n, (int)c->iterations, EVP_sha256(), DIGEST_SIZE, salted);
    hmac_sha256(digest_str(salted), STR("Client Key"), client_key);
    hmac_sha256(digest_str(salted), STR("Server Key"), c->server_key);
    sha256(digest_str(client_key), stored_key);
    hmac_sha256(digest_str(stored_key), c->auth_message, signature);
    for (size_t i = 0; i < DIGEST_SIZE; i++)
        client_key[i] ^= signature[i];
    return encoded(digest_str(client_key));
}

static enum sasl_status client_final(struct client *c)
{
    struct str binding = arena_printf(arena, "%s%.*s", c->header, STR_ARG(c->binding));
    struct str without_proof =
        arena_printf(arena, "c=%.*s,r=%.*s", STR_ARG(encoded(binding)), STR_ARG(c->nonce));

    c->auth_message = scram_auth_message(arena, c->first_bare, c->server_first, without_proof);
    return say(
        arena_printf(arena, "%.*s,p=%.*s", STR_ARG(without_proof), STR_ARG(client_proof(c))));
}

/* The whole of it; the kind of the failure, or ERR_NONE. */
static enum error_kind scram(struct client *c, const char *mechanism, bool is_tls)
{
    uint8_t signature[DIGEST_SIZE];

    begin(mechanism, is_tls);
    if (client_first(c) != SASL_CONTINUE)
        return error.kind;
    client_reads(c);
    if (client_final(c) != SASL_CONTINUE)
        return error.kind;
    hmac_sha256(digest_str(c->server_key), c->auth_message, signature);
    assert_str(challenge, arena_printf(arena, "v=%.*s", STR_ARG(encoded(digest_str(signature)))).p);
    assert_int_equal(say(STR("")), SASL_DONE);
    return ERR_NONE;
}

CASE(scram_proves_both_sides)
{
    static const struct {
        const char *mechanism, *name, *password, *header, *binding;
        bool is_tls;
        enum error_kind refusal;
    } rows[] = {
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "n,,", "", false, ERR_NONE},
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "n,,", "", true, ERR_NONE},
        {"SCRAM-SHA-256", "A.Putri@Other.test", "pencil", "n,,", "", true, ERR_NONE},
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "n,a=a.putri@other.test,", "", true,
         ERR_NONE},
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "y,,", "", false, ERR_NONE},
        {"SCRAM-SHA-256-PLUS", "ani@example.test", "pencil", "p=tls-exporter,,", "EXPORTER", true,
         ERR_NONE},
        {"SCRAM-SHA-256-PLUS", "ani@example.test", "pencil", "p=tls-server-end-point,,", "ENDPOINT",
         true, ERR_NONE},

        {"SCRAM-SHA-256", "ani@example.test", "eraser", "n,,", "", false, ERR_AUTH},
        {"SCRAM-SHA-256", "budi@example.test", "pencil", "n,,", "", false, ERR_AUTH},
        {"SCRAM-SHA-256", "nobody@example.test", "pencil", "n,,", "", false, ERR_AUTH},
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "n,a=budi@example.test,", "", false,
         ERR_DENIED},
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "y,,", "", true, ERR_AUTH},
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "n,,", "EXPORTER", true, ERR_AUTH},
        {"SCRAM-SHA-256", "ani@example.test", "pencil", "p=tls-exporter,,", "EXPORTER", true,
         ERR_SYNTAX},
        {"SCRAM-SHA-256-PLUS", "ani@example.test", "pencil", "n,,", "", true, ERR_SYNTAX},
        {"SCRAM-SHA-256-PLUS", "ani@example.test", "pencil", "p=tls-unique,,", "UNIQUE", true,
         ERR_UNSUPPORTED},
        {"SCRAM-SHA-256-PLUS", "ani@example.test", "pencil", "p=tls-exporter,,", "ENDPOINT", true,
         ERR_AUTH},
        {"SCRAM-SHA-256-PLUS", "ani@example.test", "pencil", "p=tls-exporter,,", "", true,
         ERR_AUTH},
    };

    make_ani();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct client c = {.name = rows[i].name,
                           .password = rows[i].password,
                           .header = rows[i].header,
                           .binding = str_c(rows[i].binding)};
        enum error_kind kind = scram(&c, rows[i].mechanism, rows[i].is_tls);

        if (kind != rows[i].refusal)
            print_error("%s %s %s: %s\n", rows[i].mechanism, rows[i].header, rows[i].password,
                        error.text);
        assert_int_equal(kind, rows[i].refusal);
        if (kind == ERR_NONE)
            assert_int_equal(sasl_account(sasl)->account_id, 1);
    }
}

CASE(an_unknown_name_has_a_salt_of_its_own_that_stays)
{
    struct client one = {.name = "nobody@example.test", .password = "x", .header = "n,,"},
                  again = one, other = one, ani = one;

    make_ani();
    other.name = "somebody@example.test";
    ani.name = "ani@example.test";
    assert_int_equal(scram(&one, "SCRAM-SHA-256", false), ERR_AUTH);
    assert_int_equal(scram(&again, "SCRAM-SHA-256", false), ERR_AUTH);
    assert_int_equal(scram(&other, "SCRAM-SHA-256", false), ERR_AUTH);
    assert_int_equal(scram(&ani, "SCRAM-SHA-256", false), ERR_AUTH);
    assert_true(str_eq(one.salt, again.salt));
    assert_false(str_eq(one.salt, other.salt));
    assert_int_equal(one.salt.n, ani.salt.n);
    assert_int_equal(one.iterations, ani.iterations);
}

CASE(an_app_password_does_scram_too)
{
    struct client c = {.name = "ani@example.test", .header = "n,,"};
    struct str phone;
    int64_t id;

    make_ani();
    assert_int_equal(app_password_add(arena, 1, STR("phone"), &id, &phone, NULL), 0);
    c.password = phone.p;
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_NONE);
    c.password = "pencil";
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_NONE);
    assert_int_equal(credential_set_password(1, STR("eraser"), NULL), 0);
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_AUTH);
    c.password = "eraser";
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_NONE);
    c.password = phone.p;
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_NONE);
}

CASE(an_app_password_does_scram_after_a_foreign_hash_was_renewed)
{
    struct client c = {.name = "ani@example.test", .header = "n,,"};
    struct str phone;
    int64_t id;

    make_ani();
    assert_int_equal(
        credential_set_hash(1,
                            STR("$6$abcdefgh$BPABm5D7ZFU2YVfMLyE5XRqe91qwdcZ6APg7kB/YBeADxUUq"
                                "XXhg3mlHBbjpyHcrE9xl/9BuqqivCjN2qGEi30"),
                            NULL),
        0);
    assert_int_equal(app_password_add(arena, 1, STR("phone"), &id, &phone, NULL), 0);
    begin("PLAIN", true);
    assert_int_equal(say(STR("\0ani@example.test\0pencil")), SASL_DONE);
    c.password = phone.p;
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_NONE);
    c.password = "pencil";
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_NONE);
}

CASE(wrong_proofs_are_guesses)
{
    struct client c = {.name = "ani@example.test", .password = "eraser", .header = "n,,"};

    make_ani();
    config.auth_guesses_account_max = 3;
    for (int i = 0; i < 3; i++)
        assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_AUTH);
    c.password = "pencil";
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_LIMIT);
    begin("PLAIN", true);
    assert_int_equal(say(STR("\0ani@example.test\0pencil")), SASL_FAILED);
    assert_int_equal(error.kind, ERR_LIMIT);
}

/* The phone whose owner changed the password elsewhere. */
CASE(proofs_of_the_password_before_are_one_guess)
{
    struct client c = {.name = "ani@example.test", .password = "pencil", .header = "n,,"};

    make_ani();
    config.auth_guesses_account_max = 3;
    assert_int_equal(credential_set_password(1, STR("eraser"), NULL), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_AUTH);
    assert_int_equal(fixture_sql("SELECT count(*) FROM login_guess"), 1);
    c.password = "eraser";
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_NONE);
}

/* Else the limit would tell which names there are. */
CASE(wrong_proofs_for_a_name_that_nobody_has_are_guesses_too)
{
    struct client c = {.name = "nobody@example.test", .password = "eraser", .header = "n,,"};

    make_ani();
    config.auth_guesses_account_max = 3;
    for (int i = 0; i < 3; i++)
        assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_AUTH);
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_LIMIT);
}

/* The first message was admitted before the others failed. */
CASE(guesses_prepared_side_by_side_do_not_help)
{
    struct client patient = {.name = "ani@example.test", .password = "pencil", .header = "n,,"};
    struct client hasty = {.name = "ani@example.test", .password = "eraser", .header = "n,,"};
    struct sasl *waiting;

    make_ani();
    config.auth_guesses_account_max = 2;
    begin("SCRAM-SHA-256", false);
    assert_int_equal(client_first(&patient), SASL_CONTINUE);
    client_reads(&patient);
    waiting = sasl;
    assert_int_equal(scram(&hasty, "SCRAM-SHA-256", false), ERR_AUTH);
    assert_int_equal(scram(&hasty, "SCRAM-SHA-256", false), ERR_AUTH);
    sasl = waiting;
    assert_int_equal(client_final(&patient), SASL_FAILED);
    assert_int_equal(error.kind, ERR_LIMIT);
}

CASE(a_suspended_account_fails_scram)
{
    struct client c = {.name = "ani@example.test", .password = "pencil", .header = "n,,"};

    make_ani();
    assert_int_equal(account_set_active(STR("ani@example.test"), false, NULL), 0);
    assert_int_equal(scram(&c, "SCRAM-SHA-256", false), ERR_AUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_rfc_holds),
        cmocka_unit_test(client_first_messages_are_checked),
        cmocka_unit_test(client_final_messages_are_checked),
        cmocka_unit_test(bearer_messages_are_checked),
        cmocka_unit_test(damaged_verifiers_are_not_read),
        cmocka_unit_test(saslprep_prepares_or_refuses),
        cmocka_unit_test(plain_messages_are_checked),
        cmocka_unit_test(mechanisms_are_offered_where_they_are_safe),
        cmocka_unit_test(plain_logs_in_as_oneself_only),
        cmocka_unit_test(an_exchange_may_begin_without_data),
        cmocka_unit_test(scram_proves_both_sides),
        cmocka_unit_test(an_unknown_name_has_a_salt_of_its_own_that_stays),
        cmocka_unit_test(an_app_password_does_scram_too),
        cmocka_unit_test(an_app_password_does_scram_after_a_foreign_hash_was_renewed),
        cmocka_unit_test(wrong_proofs_are_guesses),
        cmocka_unit_test(proofs_of_the_password_before_are_one_guess),
        cmocka_unit_test(wrong_proofs_for_a_name_that_nobody_has_are_guesses_too),
        cmocka_unit_test(guesses_prepared_side_by_side_do_not_help),
        cmocka_unit_test(a_suspended_account_fails_scram),
    };

    return cmocka_run_group_tests(tests, directory_start, fixture_stop);
}
