/* sieve_aside.c - compiling a script of some size takes milliseconds, which are a helper thread's. */
#include "mail/sieve/sieve_aside.h"

#include "server/run/offload.h"

#define ASIDE_SIZE_MIN ((size_t)16 << 10)

struct compilation {
    struct str text;
    struct sieve_script **out;
    struct arena *arena;
    struct sieve_fault *fault;
    int status;
};

static void compile(void *arg)
{
    struct compilation *c = arg;

    c->status = sieve_compile(c->text, c->out, c->arena, c->fault);
}

int sieve_compile_aside(struct str text, struct sieve_script **out, struct arena *a,
                        struct sieve_fault *fault)
{
    struct compilation c = {.text = text, .out = out, .arena = a, .fault = fault};

    if (text.n < ASIDE_SIZE_MIN)
        return sieve_compile(text, out, a, fault);
    offload(compile, &c);
    return c.status;
}
