/* smtp_message_check.c - one pass over the header, and over the lines when there is a limit to them. Real mail is messy:
 * what is merely ugly passes. */
#include "mail/smtp/smtp_message_check.h"

#include "mail/mime/header.h"
#include "mail/smtp/smtp_internal.h"

#define DELIVERED_TO_MAX  50   /* that are looked at: each is compared with all recipients */
#define RECEIVED_SIZE_MAX 2000 /* of one field, likewise */

struct trace {
    int64_t received, own, delivered_to;
    bool was_delivered;
};

static bool is_name_end(struct str s, size_t at)
{
    return at >= s.n || strchr(" \t\r\n(;", s.p[at]) != NULL;
}

/* "... by mail.example.org with ...": the clause of RFC 5321, 4.4. */
static bool is_written_by(struct str received, struct str hostname)
{
    ptrdiff_t at;

    received = str_head(received, RECEIVED_SIZE_MAX);
    while ((at = str_ifind(received, STR("by "))) >= 0) {
        bool begins = at == 0 || strchr(" \t\n", received.p[at - 1]) != NULL;

        received = str_from(received, (size_t)at + 3);
        if (begins && str_istarts(received, hostname) && is_name_end(received, hostname.n))
            return true;
    }
    return false;
}

static bool is_recipient(struct str value, const struct smtp_recipient *rcpts, size_t count)
{
    struct str address = str_trim(value);

    for (size_t i = 0; i < count; i++)
        if (str_ieq(address, rcpts[i].path))
            return true;
    return false;
}

static void note_field(struct trace *t, const struct header_field *f,
                       const struct smtp_message_limits *limits, const struct smtp_recipient *rcpts,
                       size_t rcpt_count)
{
    if (str_ieq(f->name, STR("Received"))) {
        t->received++;
        t->own += is_written_by(f->value, limits->hostname);
    } else if (str_ieq(f->name, STR("Delivered-To")) && t->delivered_to++ < DELIVERED_TO_MAX)
        t->was_delivered = t->was_delivered || is_recipient(f->value, rcpts, rcpt_count);
}

static bool has_long_line(struct str message, size_t line_size_max)
{
    while (message.n > line_size_max) {
        const char *lf = memchr(message.p, '\n', message.n);
        size_t n = lf == NULL ? message.n : (size_t)(lf - message.p);

        if (n > line_size_max + (n > 0 && message.p[n - 1] == '\r'))
            return true;
        message = str_from(message, n + 1);
    }
    return false;
}

enum smtp_message_problem smtp_message_check(struct str message,
                                             const struct smtp_message_limits *limits,
                                             const struct smtp_recipient *rcpts, size_t rcpt_count)
{
    struct str rest = str_head(message, (size_t)limits->header_size_max + 1);
    struct header_field field;
    struct trace t = {0};

    while (header_next(&rest, &field))
        note_field(&t, &field, limits, rcpts, rcpt_count);
    if (t.received > limits->received_max || t.own > SMTP_OWN_RECEIVED_MAX ||
        (t.own > 0 && t.was_delivered))
        return SMTP_MESSAGE_LOOPS;
    if (str_empty(rest) && (int64_t)message.n > limits->header_size_max)
        return SMTP_MESSAGE_HEADER_TOO_LARGE;
    if (limits->line_size_max > 0 && has_long_line(message, (size_t)limits->line_size_max))
        return SMTP_MESSAGE_LINE_TOO_LONG;
    return SMTP_MESSAGE_GOOD;
}
