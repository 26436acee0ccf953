/* smtp_message_check.h - what a received message must not be: on its way in a circle, or with a header beyond measure. No I/O. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/str.h"

#define SMTP_OWN_RECEIVED_MAX 10                        /* Received fields that we wrote ourselves: forwards and lists need a few */

struct smtp_message_limits {
    int64_t header_size_max;
    int64_t line_size_max;                              /* 0: any */
    int64_t received_max;
    struct str hostname;
};

struct smtp_recipient;

enum smtp_message_problem { SMTP_MESSAGE_GOOD, SMTP_MESSAGE_LOOPS, SMTP_MESSAGE_HEADER_TOO_LARGE, SMTP_MESSAGE_LINE_TOO_LONG };

/* message: as the client sent it, without our trace fields. It loops when it has too many Received fields, too many of
 * ours, or one of ours and a Delivered-To with an address that it is to be delivered to again. */
enum smtp_message_problem smtp_message_check(struct str message, const struct smtp_message_limits *limits,
                                             const struct smtp_recipient *rcpts, size_t rcpt_count);
