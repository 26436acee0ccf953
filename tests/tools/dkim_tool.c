/* dkim_tool.c - DKIM and ARC on standard input, for tests in Python.
 *
 *   dkim_tool SETTING=VALUE ...
 *
 * A request is a line of words, and behind it as many bytes as its SIZEs say:
 *   verify SIZE                      arc SIZE
 *   key NAME SIZE                    make NAME rsa|ed25519
 *   pem NAME                         record NAME        zone NAME SELECTOR DOMAIN
 *   matches NAME SIZE
 *   sign SIZE NOW NAME DOMAIN SELECTOR [NAME DOMAIN SELECTOR ...]
 *   seal SIZE NOW NAME DOMAIN SELECTOR AUTHSERV-ID NAMES|- RESULTS-SIZE
 *   cost SIZE COUNT NAME DOMAIN SELECTOR
 * An answer is one line of JSON. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mail/authentic/dkim_internal.h"
#include "server/base/memory.h"
#include "server/run/config.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

#define WORDS_MAX 64
#define KEYS_MAX  16
#define LINE_SIZE 4096

static struct {
    char name[64];
    struct dkim_key *key;
} keys[KEYS_MAX];

struct request {
    struct arena *arena;
    struct str words[WORDS_MAX];
    size_t count;
    json_t *answer;
};

static _Noreturn void give_up(const char *why)
{
    fprintf(stderr, "dkim_tool: %s\n", why);
    exit(2);
}

/* ---- requests -------------------------------------------------------------------------------------- */

static struct str word(struct request *r, size_t at)
{
    if (at >= r->count)
        give_up("a word is missing");
    return r->words[at];
}

static uint64_t number(struct request *r, size_t at)
{
    uint64_t value;

    if (!str_to_u64(word(r, at), &value))
        give_up("this is no number");
    return value;
}

static struct str read_bytes(struct request *r, uint64_t size)
{
    char *p = arena_alloc(r->arena, size + 1);

    if (fread(p, 1, size, stdin) != size)
        give_up("the input ends early");
    return str_of(p, size);
}

static struct dkim_key **key_place(struct str name)
{
    for (size_t i = 0; i < KEYS_MAX; i++) {
        if (keys[i].key == NULL)
            snprintf(keys[i].name, sizeof keys[i].name, "%.*s", STR_ARG(name));
        if (str_eq(str_c(keys[i].name), name))
            return &keys[i].key;
    }
    give_up("too many keys");
}

static const struct dkim_key *key_named(struct str name)
{
    const struct dkim_key *key = *key_place(name);

    if (key == NULL)
        give_up("there is no key of that name");
    return key;
}

static struct dkim_signer signer_at(struct request *r, size_t at)
{
    return (struct dkim_signer){
        .key = key_named(word(r, at)), .domain = word(r, at + 1), .selector = word(r, at + 2)};
}

/* ---- answers --------------------------------------------------------------------------------------- */

static json_t *text(struct str s)
{
    json_t *value = json_stringn(s.p == NULL ? "" : s.p, s.n);

    return value != NULL ? value : json_string("(not UTF-8)");
}

static void put(struct request *r, const char *name, json_t *value)
{
    json_object_set_new(r->answer, name, value);
}

static void put_status(struct request *r, int status, const char *name, struct str value,
                       const struct error *err)
{
    if (status == 0)
        put(r, name, text(value));
    else
        put(r, "error", json_pack("[ss]", error_kind_name(err->kind), err->text));
}

static json_t *signature_json(const struct dkim_signature *s)
{
    return json_pack("{ss so so so so so si sb sb sI so}", "result", dkim_result_name(s->result),
                     "domain", text(s->domain), "selector", text(s->selector), "identity",
                     text(s->identity), "algorithm", text(s->algorithm), "b", text(s->b_start),
                     "bits", (int)s->key_bits, "testing", s->is_testing, "has_length",
                     s->has_length, "unsigned", (json_int_t)s->unsigned_size, "problem",
                     text(s->problem));
}

/* ---- the verbs ------------------------------------------------------------------------------------- */

static void run_verify(struct request *r)
{
    struct str message = read_bytes(r, number(r, 1));
    json_t *list = json_array();
    struct dkim_verdict verdict;

    dkim_verify(r->arena, message, &verdict);
    for (size_t i = 0; i < verdict.n; i++)
        json_array_append_new(list, signature_json(&verdict.v[i]));
    put(r, "signatures", list);
}

static void run_arc(struct request *r)
{
    struct str message = read_bytes(r, number(r, 1));
    json_t *domains = json_array();
    struct arc_verdict v;

    arc_verify(r->arena, message, &v);
    for (unsigned i = 0; v.domains != NULL && i < v.count; i++)
        json_array_append_new(domains, text(v.domains[i]));
    put(r, "result", json_string(arc_result_name(v.result)));
    put(r, "count", json_integer(v.count));
    put(r, "oldest_pass", json_integer(v.oldest_pass));
    put(r, "domains", domains);
    put(r, "problem", text(v.problem));
    put(r, "temporary", json_boolean(v.is_temporary));
    put(r, "ended", json_boolean(v.is_ended));
}

static void tell_key(struct request *r, const struct dkim_key *key, const struct error *err)
{
    if (key == NULL) {
        put_status(r, -1, "", STR_NULL, err);
        return;
    }
    put(r, "algorithm", json_string(dkim_algorithm_name(dkim_key_algorithm(key))));
    put(r, "bits", json_integer(dkim_key_bits(key)));
}

static void run_key(struct request *r)
{
    struct dkim_key **place = key_place(word(r, 1));
    struct error err = {0};

    dkim_key_free(place);
    *place = dkim_key_new(read_bytes(r, number(r, 2)), &err);
    tell_key(r, *place, &err);
}

static void run_make(struct request *r)
{
    struct dkim_key **place = key_place(word(r, 1));
    enum dkim_algorithm algorithm;
    struct error err = {0};

    if (!dkim_algorithm_parse(word(r, 2), &algorithm))
        give_up("there is no such algorithm");
    dkim_key_free(place);
    *place = dkim_key_make(algorithm, &err);
    tell_key(r, *place, &err);
}

static void run_pem(struct request *r)
{
    put(r, "text", text(dkim_key_pem(r->arena, key_named(word(r, 1)))));
}

static void run_record(struct request *r)
{
    put(r, "text", text(dkim_key_record(r->arena, key_named(word(r, 1)))));
}

static void run_zone(struct request *r)
{
    put(r, "text",
        text(dkim_key_zone_line(r->arena, key_named(word(r, 1)), word(r, 2), word(r, 3))));
}

static void run_matches(struct request *r)
{
    struct str record = read_bytes(r, number(r, 2));

    put(r, "matches", json_boolean(dkim_key_matches_record(key_named(word(r, 1)), record)));
}

static void run_sign(struct request *r)
{
    struct str message = read_bytes(r, number(r, 1)), fields;
    struct dkim_signer signers[WORDS_MAX / 3];
    struct error err = {0};
    size_t count = 0;
    int status;

    for (size_t at = 3; at < r->count; at += 3)
        signers[count++] = signer_at(r, at);
    status = dkim_sign(r->arena, message, signers, count, (int64_t)number(r, 2), &fields, &err);
    put_status(r, status, "fields", fields, &err);
}

static void run_seal(struct request *r)
{
    struct str message = read_bytes(r, number(r, 1)), results = read_bytes(r, number(r, 8));
    struct dkim_signer signer = signer_at(r, 3);
    struct str names = str_eq(word(r, 7), STR("-")) ? STR_NULL : word(r, 7), fields;
    struct arc_verdict verdict;
    struct error err = {0};
    int status;

    arc_verify(r->arena, message, &verdict);
    status = arc_seal_names(r->arena, message, &signer, &verdict, word(r, 6), results, names,
                            (int64_t)number(r, 2), &fields, &err);
    put_status(r, status, "fields", fields, &err);
}

static int64_t cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* CPU microseconds of one verification and of one signature. */
static void run_cost(struct request *r)
{
    struct str message = read_bytes(r, number(r, 1)), fields;
    uint64_t count = number(r, 2);
    struct dkim_signer signer = signer_at(r, 3);
    struct dkim_verdict verdict;
    struct error err = {0};
    int64_t begun = cpu_us(), verified;

    for (uint64_t i = 0; i < count; i++) {
        struct arena *a = arena_new();
        dkim_verify(a, message, &verdict);
        arena_free(&a);
    }
    verified = cpu_us();
    for (uint64_t i = 0; i < count; i++) {
        struct arena *a = arena_new();
        dkim_sign(a, message, &signer, 1, 1, &fields, &err);
        arena_free(&a);
    }
    put(r, "verify_us", json_real((double)(verified - begun) / (double)count));
    put(r, "sign_us", json_real((double)(cpu_us() - verified) / (double)count));
}

static const struct {
    const char *verb;
    void (*run)(struct request *r);
} verbs[] = {
    {"verify", run_verify}, {"arc", run_arc},       {"key", run_key},   {"make", run_make},
    {"pem", run_pem},       {"record", run_record}, {"zone", run_zone}, {"matches", run_matches},
    {"sign", run_sign},     {"seal", run_seal},     {"cost", run_cost},
};

static void dispatch(struct request *r)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (str_eq(word(r, 0), str_c(verbs[i].verb))) {
            verbs[i].run(r);
            return;
        }
    give_up("there is no such verb");
}

static void answer_requests(void *unused)
{
    char line[LINE_SIZE];

    while (fgets(line, sizeof line, stdin) != NULL) {
        struct request r = {.arena = arena_new(), .answer = json_object()};
        struct str rest = arena_str(r.arena, str_trim(str_c(line)));

        while (r.count < WORDS_MAX && str_next_token(&rest, ' ', &r.words[r.count]))
            r.count++;
        dispatch(&r);
        json_dumpf(r.answer, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(r.answer);
        arena_free(&r.arena);
    }
}

int main(int argc, char **argv)
{
    config_defaults();
    for (int i = 1; i < argc; i++) {
        struct error err = {0};
        struct str name, value;

        if (!str_cut(str_c(argv[i]), '=', &name, &value) || config_set(name, value, &err) < 0)
            give_up(err.kind == ERR_NONE ? "write SETTING=VALUE" : err.text);
    }
    loop_init();
    loop_run_fiber("dkim_tool", answer_requests, NULL);
    for (size_t i = 0; i < KEYS_MAX; i++)
        dkim_key_free(&keys[i].key);
    dns_fini();
    offload_fini();
    loop_fini();
    fiber_pool_fini();
    config_fini();
    return 0;
}
