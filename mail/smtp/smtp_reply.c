/* smtp_reply.c - answers: one line each, and the table from our errors to SMTP's codes. */
#include "mail/smtp/smtp_internal.h"

#include <stdarg.h>
#include <stdio.h>

/* The first is the reason; "goodbye" may follow. */
static void note_refusal(struct smtp_session *s, struct str line)
{
    if (s->refusal[0] == '\0')
        snprintf(s->refusal, sizeof s->refusal, "%.*s", STR_ARG(line));
}

int smtp_reply(struct smtp_session *s, int code, const char *enhanced, const char *format, ...)
{
    struct buf line;
    va_list ap;

    buf_init(&line, 1024);
    buf_addf(&line, "%d %s%s", code, enhanced ? enhanced : "", enhanced ? " " : "");
    va_start(ap, format);
    buf_vaddf(&line, format, ap);
    va_end(ap);
    if (code >= 400) {
        s->error_count++;
        note_refusal(s, buf_str(&line));
    }
    buf_adds(&line, "\r\n");
    conn_write(s->conn, buf_str(&line));
    buf_fini(&line);
    return 0;
}

/* What an error means to an SMTP client (RFC 5321, 4.2; RFC 3463). */
static const struct {
    int code;
    const char *enhanced;
} answers[ERR_KIND_COUNT] = {
    [ERR_NONE] = {451, "4.3.0"},        [ERR_SYNTAX] = {501, "5.5.4"},
    [ERR_DENIED] = {550, "5.7.1"},      [ERR_AUTH] = {535, "5.7.8"},
    [ERR_NOT_FOUND] = {550, "5.1.1"},   [ERR_EXISTS] = {451, "4.3.0"},
    [ERR_TOO_BIG] = {552, "5.3.4"},     [ERR_OVER_QUOTA] = {452, "4.2.2"},
    [ERR_CONFLICT] = {451, "4.3.0"},    [ERR_LIMIT] = {454, "4.7.0"},
    [ERR_UNSUPPORTED] = {504, "5.5.4"}, [ERR_TRY_LATER] = {451, "4.3.0"},
    [ERR_CLOSED] = {421, "4.4.2"},      [ERR_TIMED_OUT] = {421, "4.4.2"},
    [ERR_CANCELLED] = {421, "4.3.2"},   [ERR_INTERNAL] = {451, "4.3.0"},
};

int smtp_reply_error(struct smtp_session *s, const struct error *err)
{
    return smtp_reply(s, answers[err->kind].code, answers[err->kind].enhanced, "%s", err->text);
}

int smtp_reply_message_error(struct smtp_session *s, const struct error *err)
{
    switch (err->kind) {
    case ERR_SYNTAX:
        return smtp_reply(s, 554, "5.6.0", "%s", err->text);
    case ERR_LIMIT:
        return smtp_reply(s, 452, "4.5.3", "%s", err->text);
    default:
        return smtp_reply_error(s, err);
    }
}
