/* smtp_client_internal.h - what smtp_client.c (session), smtp_client_send.c (transactions) and smtp_client_auth.c share. */
#pragma once
#include "mail/queue/smtp_client.h"
#include "server/base/log.h"

#define SMTP_CLIENT_MAGIC 0x57c11e27u

struct smtp_client {
    unsigned magic;
    struct dial *dial;
    struct arena *session;                              /* as long as the capabilities */
    struct arena *step;                                 /* the last answer */
    struct smtp_capabilities capabilities;
    struct smtp_answer answer;
    char *name;
    bool is_lmtp, is_traced;
    bool was_greeted;                                   /* the greeting was a welcome */
    bool is_broken;                                     /* out of step, closing, or gone */
    unsigned messages_sent;
};

/* Writes "TEXT\r\n"; `shown` is what the trace says instead, NULL: the same. */
PARKS void smtp_client_say(struct smtp_client *c, struct str text, const char *shown);
PARKS void smtp_client_sayf(struct smtp_client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads one answer. SMTP_DONE: there is one, whatever it says; 421 is SMTP_BROKEN. */
PARKS enum smtp_outcome smtp_client_listen(struct smtp_client *c, int64_t timeout_ms, struct error *err);
/* The same, and SMTP_REFUSED when it does not begin with that digit. */
PARKS enum smtp_outcome smtp_client_expect(struct smtp_client *c, int hundreds, int64_t timeout_ms, struct error *err);
