/* fuzz_sieve.c - Sieve scripts: compiled or refused with a place inside the script, and never big.
 *
 * A script that begins with ";" gets a require of every extension but ihave in front of it. */
#include <assert.h>

#include "mail/sieve/sieve.h"
#include "mail/sieve/sieve_program.h"
#include "server/base/utf8.h"

#define SIZE_BASE   (6u << 20)
#define SIZE_FACTOR 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned count_lines(struct str text)
{
    unsigned n = 1;

    for (size_t i = 0; i < text.n; i++)
        n += text.p[i] == '\n';
    return n;
}

static void check_fault(const struct sieve_fault *fault, struct str text)
{
    assert(fault->line >= 1 && fault->line <= count_lines(text));
    assert(fault->column >= 1 && fault->column <= text.n + 1);
    assert(fault->text.n > 0 && fault->text.n < 400);
    for (size_t i = 0; i < fault->text.n; i++)
        assert((unsigned char)fault->text.p[i] >= ' ');
    assert(utf8_valid(fault->text));
}

static struct str with_require(struct arena *a, struct str text)
{
    struct str all = arena_printf(a, "require [\"%s\"", sieve_extensions[0]);

    for (unsigned i = 1; sieve_extensions[i] != NULL; i++)
        if (i != SIEVE_EXT_IHAVE)
            all = arena_printf(a, "%.*s,\"%s\"", STR_ARG(all), sieve_extensions[i]);
    return arena_printf(a, "%.*s]%.*s", STR_ARG(all), STR_ARG(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();
    struct str input = str_of((const char *)data, size);
    struct str text = str_starts(input, STR(";")) ? with_require(a, input) : input;
    struct sieve_script *script;
    struct sieve_fault fault;

    if (sieve_compile(text, &script, a, &fault) < 0) {
        assert(script == NULL);
        check_fault(&fault, text);
    } else {
        assert(fault.line == 0);
        assert(sieve_script_size(script) <= SIZE_BASE + SIZE_FACTOR * text.n);
        assert(sieve_script_program(script)->variables_count <= SIEVE_VARIABLES_MAX);
    }
    sieve_script_free(&script);
    arena_free(&a);
    return 0;
}
