/* smtp_client.c - the session: greeting, EHLO, STARTTLS, and what every command needs.
 *
 * What a peer may say is bounded in lines and bytes (smtp_answer.h), and in time by a deadline for
 * each answer and an end for the whole. After an answer that is none, or a 421, nobody knows where
 * the conversation stands: the session is broken and is never used again. */
#include "mail/queue/smtp_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/queue/smtp_client_internal.h"
#include "server/base/memory.h"
#include "server/base/object.h"
#include "server/run/config.h"

#define TRACE_TEXT_MAX 1000

/* ---- life ---------------------------------------------------------------------------------- */

struct smtp_client *smtp_client_new(struct dial **d, bool is_lmtp, struct str name, bool is_traced)
{
    struct smtp_client *c = memory_alloc(sizeof *c);

    c->magic = SMTP_CLIENT_MAGIC;
    c->dial = *d;
    *d = NULL;
    c->session = arena_new();
    c->step = arena_new();
    c->name = memory_copy_str(name);
    c->is_lmtp = is_lmtp;
    c->is_traced = is_traced;
    return c;
}

void smtp_client_free(struct smtp_client **c)
{
    struct smtp_client *gone = *c;

    if (gone == NULL)
        return;
    CHECK_OBJ(gone, SMTP_CLIENT_MAGIC);
    *c = NULL;
    if (!gone->is_broken && dial_is_fresh(gone->dial)) {
        /* Nothing is pending, so it fits into the buffers and nobody waits. */
        smtp_client_say(gone, STR("QUIT"), NULL);
        dial_push(gone->dial);
    }
    dial_close(&gone->dial);
    arena_free(&gone->session);
    arena_free(&gone->step);
    free(gone->name);
    gone->magic = 0;
    free(gone);
}

const struct smtp_capabilities *smtp_client_capabilities(const struct smtp_client *c)
{
    return &c->capabilities;
}

const struct smtp_answer *smtp_client_answer(const struct smtp_client *c)
{
    return &c->answer;
}

struct dial *smtp_client_dial(struct smtp_client *c)
{
    return c->dial;
}

bool smtp_client_is_reusable(struct smtp_client *c)
{
    uint32_t mail_max = c->capabilities.mail_max;

    return !c->is_broken && c->messages_sent < config.delivery_reuse &&
           (mail_max == 0 || c->messages_sent < mail_max) && dial_is_fresh(c->dial);
}

/* ---- saying and listening ------------------------------------------------------------------ */

static void trace(const struct smtp_client *c, const char *who, struct str line)
{
    if (c->is_traced)
        log_info(NULL, "smtp_dialogue", KV("host", c->name), KV("from", who),
                 KV("line", str_head(line, TRACE_TEXT_MAX)));
}

PARKS void smtp_client_say(struct smtp_client *c, struct str text, const char *shown)
{
    trace(c, "us", shown == NULL ? text : str_c(shown));
    dial_write(c->dial, text);
    dial_write(c->dial, STR("\r\n"));
}

PARKS void smtp_client_sayf(struct smtp_client *c, const char *format, ...)
{
    char *text;
    va_list ap;
    int n;

    va_start(ap, format);
    n = vasprintf(&text, format, ap);
    va_end(ap);
    if (n < 0)
        memory_exhausted("SMTP command", 0);
    smtp_client_say(c, str_of(text, (size_t)n), NULL);
    free(text);
}

static enum smtp_outcome broken(struct smtp_client *c)
{
    c->is_broken = true;
    return SMTP_BROKEN;
}

static enum smtp_outcome closing(struct smtp_client *c, struct error *err)
{
    fail(err, ERR_CLOSED, "the other server is closing: %.*s",
         (int)(c->answer.text.n < 160 ? c->answer.text.n : 160), c->answer.text.p);
    return broken(c);
}

PARKS enum smtp_outcome smtp_client_listen(struct smtp_client *c, int64_t timeout_ms,
                                           struct error *err)
{
    int state = 0;

    arena_reset(c->step);
    c->answer = (struct smtp_answer){0};
    dial_set_deadline(c->dial, timeout_ms);
    while (state == 0) {
        struct str line;

        if (dial_read_line(c->dial, SMTP_ANSWER_LINE_MAX, &line, err) < 0) {
            c->answer.code = 0; /* half an answer is none */
            return broken(c);
        }
        /* A challenge may be all that a guesser lacks. */
        trace(c, "them", str_starts(line, STR("334 ")) ? STR("334 ...") : line);
        state = smtp_answer_add(c->step, &c->answer, line, err);
    }
    if (state < 0)
        c->answer.code = 0;
    if (state < 0)
        return broken(c);
    return c->answer.code == 421 ? closing(c, err) : SMTP_DONE;
}

PARKS enum smtp_outcome smtp_client_expect(struct smtp_client *c, int hundreds, int64_t timeout_ms,
                                           struct error *err)
{
    enum smtp_outcome outcome = smtp_client_listen(c, timeout_ms, err);

    if (outcome != SMTP_DONE || smtp_answer_is(&c->answer, hundreds))
        return outcome;
    return SMTP_REFUSED;
}

/* ---- EHLO ---------------------------------------------------------------------------------- */

static const struct {
    struct str word;
    unsigned can;
} words[] = {
    {{"PIPELINING", 10}, SMTP_CAN_PIPELINE},
    {{"8BITMIME", 8}, SMTP_CAN_8BIT},
    {{"BINARYMIME", 10}, SMTP_CAN_BINARY},
    {{"CHUNKING", 8}, SMTP_CAN_CHUNK},
    {{"SMTPUTF8", 8}, SMTP_CAN_UTF8},
    {{"DSN", 3}, SMTP_CAN_DSN},
    {{"REQUIRETLS", 10}, SMTP_CAN_REQUIRETLS},
    {{"DELIVERBY", 9}, SMTP_CAN_DELIVER_BY},
    {{"MT-PRIORITY", 11}, SMTP_CAN_PRIORITY},
    {{"STARTTLS", 8}, SMTP_CAN_STARTTLS},
    {{"SIZE", 4}, SMTP_CAN_SIZE},
};

/* RFC 9422, 4: LIMITS RCPTMAX=100 MAILMAX=50; what is unknown or malformed says nothing. */
static void read_limits(struct str rest, struct smtp_capabilities *out)
{
    struct str token;

    while (str_next_token(&rest, ' ', &token)) {
        uint32_t *to = NULL, value;

        if (str_skip_prefix(&token, STR("RCPTMAX=")))
            to = &out->rcpt_max;
        else if (str_skip_prefix(&token, STR("MAILMAX=")))
            to = &out->mail_max;
        if (to != NULL && token.n <= 6 && str_to_u32(token, &value) && value > 0)
            *to = value;
    }
}

static void read_auth(struct arena *a, struct str rest, struct smtp_capabilities *out)
{
    out->auth = out->auth.n == 0 ? arena_str(a, rest)
                                 : arena_printf(a, "%.*s %.*s", STR_ARG(out->auth), STR_ARG(rest));
}

static void read_capability(struct arena *a, struct str line, struct smtp_capabilities *out)
{
    struct str word, rest;

    str_cut(str_trim(line), ' ', &word, &rest);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (str_ieq(word, words[i].word))
            out->can |= words[i].can;
    if (str_ieq(word, STR("SIZE")) && !str_to_u64(str_trim(rest), &out->size_max))
        out->size_max = 0;
    else if (str_ieq(word, STR("DELIVERBY")) && !str_to_u64(str_trim(rest), &out->deliver_by_min_s))
        out->deliver_by_min_s = 0;
    else if (str_ieq(word, STR("LIMITS")))
        read_limits(rest, out);
    else if (str_ieq(word, STR("AUTH")))
        read_auth(a, rest, out);
    else if (str_skip_prefix(&word, STR("AUTH="))) /* "AUTH=LOGIN", of the last century */
        read_auth(a, word, out);
}

void smtp_capabilities_parse(struct arena *a, const struct smtp_answer *answer,
                             struct smtp_capabilities *out)
{
    *out = (struct smtp_capabilities){0};
    for (size_t i = 1; i < answer->line_count; i++) /* the first names the host */
        read_capability(a, answer->lines[i], out);
}

static enum smtp_outcome say_helo(struct smtp_client *c, struct error *err)
{
    smtp_client_sayf(c, "HELO %s", config.hostname);
    return smtp_client_expect(c, 2, config.delivery_command_timeout, err);
}

static enum smtp_outcome say_ehlo(struct smtp_client *c, struct error *err)
{
    enum smtp_outcome outcome;

    c->capabilities = (struct smtp_capabilities){0};
    smtp_client_sayf(c, "%s %s", c->is_lmtp ? "LHLO" : "EHLO", config.hostname);
    outcome = smtp_client_expect(c, 2, config.delivery_command_timeout, err);
    if (outcome == SMTP_DONE) {
        arena_reset(c->session);
        smtp_capabilities_parse(c->session, &c->answer, &c->capabilities);
    }
    /* RFC 5321, 3.2: a server that does not know EHLO. */
    if (outcome == SMTP_REFUSED && smtp_answer_is(&c->answer, 5) && !c->is_lmtp &&
        !dial_is_tls(c->dial))
        return say_helo(c, err);
    return outcome;
}

PARKS enum smtp_outcome smtp_client_greet(struct smtp_client *c, struct error *err)
{
    enum smtp_outcome outcome = smtp_client_expect(c, 2, config.delivery_greeting_timeout, err);

    c->was_greeted = outcome == SMTP_DONE;
    return c->was_greeted ? say_ehlo(c, err) : outcome;
}

bool smtp_client_takes_no_mail(const struct smtp_client *c)
{
    return !c->was_greeted && !c->is_broken && (c->answer.code == 521 || c->answer.code == 554);
}

/* ---- STARTTLS ------------------------------------------------------------------------------ */

PARKS enum smtp_outcome smtp_client_start_tls(struct smtp_client *c, const struct dial_tls *tls,
                                              struct error *err)
{
    enum smtp_outcome outcome;

    smtp_client_say(c, STR("STARTTLS"), NULL);
    outcome = smtp_client_expect(c, 2, config.delivery_command_timeout, err);
    if (outcome != SMTP_DONE)
        return outcome;
    dial_set_deadline(c->dial, config.delivery_connect_timeout);
    if (dial_start_tls(c->dial, tls, err) < 0)
        return broken(c);
    trace(c, "us", dial_tls_description(c->dial));
    return say_ehlo(c, err); /* RFC 3207, 4.2: nothing said before counts */
}
