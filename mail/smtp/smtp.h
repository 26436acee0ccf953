/* smtp.h - the SMTP and LMTP server (RFC 5321, RFC 2033): receives mail and delivers it locally.
 *
 * One protocol, three roles, told apart by the listener's tag. */
#pragma once
#include "server/run/service.h"

enum smtp_role {
    SMTP_MX,                /* port 25: mail from other servers for our domains           */
    SMTP_SUBMISSION,        /* ports 587 and 465: mail from users, who must log in first  */
    SMTP_LMTP,              /* port 24 and unix sockets: from trusted neighbours, an answer per recipient */
};

extern const struct service smtp_service;
