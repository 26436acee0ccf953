/* What milters answer: any bytes as packets, and whatever they change must leave a message behind. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "mail/milter/milter_mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(struct str reply)
{
    struct milter_refusal r;

    if (!milter_refusal_read(reply, &r))
        return;
    assert(r.code >= 400 && r.code <= 599);
    assert(r.enhanced[0] == '0' + r.code / 100);
    for (const char *p = r.text; *p != '\0'; p++)
        assert(*p >= ' ' && *p < 127);
}

static void check_options(struct str packet)
{
    struct milter_options o;

    if (milter_options_read(packet, &o, NULL) < 0)
        return;
    assert((o.actions & ~MILTER_MAY_ALL) == 0 && (o.steps & ~MILTER_STEPS_ALL) == 0);
    for (size_t i = 0; i < MILTER_STAGE_COUNT; i++)
        assert(o.macros[i].p == NULL || o.macros[i].p + o.macros[i].n < packet.p + packet.n);
}

/* The new message reads as the fields that it was made of, and its body is where it should be. */
static void check_message(const struct milter_mail *m)
{
    struct str text = milter_mail_text(m, 16);
    struct header_edit again;
    struct arena *a = arena_new();

    assert(str_ends(text, m->header.body));
    if (header_edit_open(&again, a, text, NULL) == 0) {
        assert(again.count == m->header.count);
        assert(str_eq(again.body, m->header.body));
    }
    arena_free(&a);
}

static void run(struct arena *a, struct str input)
{
    struct milter_mail m;
    struct milter_changes c;

    assert(milter_mail_init(&m, a, STR("Subject: a\r\nX: 1\r\n\r\nbody\r\n"), NULL) == 0);
    m.body_size_max = 4096;
    m.rcpt_max = 20;
    milter_mail_add_rcpt(&m, STR("a@b.test"), true);
    milter_changes_init(&c, &m);
    while (input.n > 4) {
        struct str packet;
        struct milter_answer answer;
        uint32_t packet_size;

        if (milter_packet_size((const unsigned char *)input.p, &packet_size, NULL) < 0)
            break;
        packet = str_head(str_from(input, 4), packet_size);
        input = str_from(input, 4 + packet.n);
        check_options(packet);
        if (milter_answer_read(packet, &answer, NULL) < 0)
            continue;
        check_refusal(answer.value);
        milter_changes_add(&c, &m, &answer, MILTER_MAY_ALL, NULL);
    }
    while (milter_changes_apply_next(&c, &m))
        ;
    check_message(&m);
    assert(m.rcpt_count <= m.rcpt_max);
    milter_changes_fini(&c);
    milter_mail_fini(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *a = arena_new();

    run(a, str_of((const char *)data, size));
    arena_free(&a);
    return 0;
}
