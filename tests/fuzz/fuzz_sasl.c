/* fuzz_sasl.c - what clients send in PLAIN, SCRAM, OAUTHBEARER and XOAUTH2, stored verifiers, SASLprep, and names typed at a log-in.
 * The first byte picks the parser. */
#include <stdlib.h>

#include "server/directory/directory_internal.h"
#include "server/directory/sasl_internal.h"
#include "server/directory/saslprep.h"
#include "server/directory/scram.h"
#include "server/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_so)
{
    if (!is_so)
        abort();
}

static bool lies_within(struct str part, struct str whole)
{
    return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

static void try_plain(struct str message)
{
    struct sasl_plain plain;

    if (sasl_parse_plain(message, &plain, NULL) < 0)
        return;
    must(plain.name.n > 0 && plain.password.n > 0);
    must(lies_within(plain.authzid, message) && lies_within(plain.name, message) &&
         lies_within(plain.password, message));
    must(plain.authzid.n + plain.name.n + plain.password.n + 2 == message.n);
}

static void try_client_first(struct arena *a, struct str message)
{
    struct scram_client_first first;

    if (scram_parse_client_first(a, message, &first, NULL) < 0)
        return;
    must(first.binding_flag == 'n' || first.binding_flag == 'y' || first.binding_flag == 'p');
    must((first.binding_flag == 'p') == (first.binding_type.n > 0));
    must(first.gs2_header.n + first.bare.n == message.n);
    must(first.name.n > 0 && first.nonce.n > 0 && lies_within(first.nonce, first.bare));
}

static void try_client_final(struct arena *a, struct str message)
{
    struct scram_client_final final;

    if (scram_parse_client_final(a, message, &final, NULL) < 0)
        return;
    must(final.nonce.n > 0 && lies_within(final.nonce, final.without_proof));
    must(final.without_proof.n < message.n && lies_within(final.without_proof, message));
}

static void try_verifier(struct arena *a, struct str text)
{
    struct scram_verifier v;

    if (scram_verifier_parse(a, text, &v))
        must(v.salt.n > 0 && v.iterations > 0 && v.iterations <= SCRAM_ITERATIONS_MAX);
}

static void try_saslprep(struct str text)
{
    struct buf prepared;

    buf_init(&prepared, 1 << 20);
    if (saslprep(text, &prepared))
        must(utf8_valid(buf_str(&prepared)));
    buf_fini(&prepared);
}

static void try_bearer(struct arena *a, struct str message)
{
    struct sasl_bearer bearer;

    if (sasl_parse_xoauth2(message, &bearer, NULL) == 0)
        must(bearer.name.n > 0 && lies_within(bearer.name, message) && bearer.token.n > 0 &&
             lies_within(bearer.token, message));
    if (sasl_parse_oauthbearer(a, message, &bearer, NULL) == 0)
        must(bearer.token.n > 0 && lies_within(bearer.token, message));
}

/* Whatever is typed becomes a name that the database can hold; an address keeps its form. */
static void try_login_name(struct arena *a, struct str typed)
{
    struct str name, local, domain, again;
    bool is_bare;

    name = login_name(a, typed, &is_bare);
    must(utf8_valid(name) && str_index(name, '\0') < 0);
    if (str_rcut(typed, '@', &local, &domain) &&
        address_canonical(a, local, domain, &name, NULL) == 0) {
        must(str_rcut(name, '@', &local, &domain));
        must(address_canonical(a, local, domain, &again, NULL) == 0);
        must(str_eq(name, again));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a;
    struct str input;

    if (size == 0)
        return 0;
    a = arena_new();
    input = str_of((const char *)data + 1, size - 1);
    switch (data[0] % 7) {
    case 0:
        try_plain(input);
        break;
    case 1:
        try_client_first(a, input);
        break;
    case 2:
        try_client_final(a, input);
        break;
    case 3:
        try_verifier(a, input);
        break;
    case 4:
        try_saslprep(input);
        break;
    case 5:
        try_bearer(a, input);
        break;
    default:
        try_login_name(a, input);
    }
    arena_free(&a);
    return 0;
}
