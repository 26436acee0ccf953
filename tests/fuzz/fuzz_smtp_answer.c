/* What servers answer: any bytes, cut into lines. What is kept must be bounded and printable. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/queue/smtp_client.h"
#include "server/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct arena *a, const struct smtp_answer *answer)
{
    struct smtp_capabilities capabilities;

    assert(answer->code == 0 || (answer->code >= 200 && answer->code < 600));
    assert(answer->line_count <= SMTP_ANSWER_LINES_MAX);
    assert(answer->text.n <= SMTP_ANSWER_TEXT_MAX);
    assert(utf8_valid(answer->text));
    for (size_t i = 0; i < answer->text.n; i++)
        assert((unsigned char)answer->text.p[i] >= ' ');
    smtp_capabilities_parse(a, answer, &capabilities);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str input = str_of((const char *)data, size), line;
    struct arena *a = arena_new();
    struct smtp_answer answer = {0};

    while (input.n > 0) {
        int state;

        str_cut(input, '\n', &line, &input);
        state = smtp_answer_add(a, &answer, str_head(line, SMTP_ANSWER_LINE_MAX), NULL);
        check(a, &answer);
        if (state == 1)
            assert(answer.enhanced.n >= 5);
        if (state != 0)
            answer = (struct smtp_answer){0};
    }
    arena_free(&a);
    return 0;
}
