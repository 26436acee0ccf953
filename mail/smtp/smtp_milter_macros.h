/* smtp_milter_macros.h - what milters may ask about a session, in the names of Sendmail and Postfix. */
#pragma once
#include "mail/smtp/smtp_internal.h"

struct smtp_macros {
    struct smtp_session *session;
    struct str client_name;                             /* confirmed; empty: there is none */
    char client_name_text[SMTP_DOMAIN_SIZE_MAX];
    struct str rcpt;                                    /* the recipient at hand */
};

/* name: "j", "{j}", "{client_addr}". Empty: unknown, or not known now. Borrowed until the command ends. arg: struct smtp_macros. */
struct str smtp_macro_value(void *arg, struct str name);
