/* remote_pool.h - connections to other servers that wait a few seconds for the next message, of one worker. */
#pragma once
#include "mail/queue/smtp_client.h"

struct remote_session {
    struct smtp_client *client;
    struct str key;                                     /* where to, and all that was proved on the way; owned */
    struct str tls;                                     /* as in remote_job; owned */
    bool was_reused;
};

struct remote_session *remote_session_new(struct str key);
void remote_session_free(struct remote_session **s);    /* says QUIT where that makes sense */

/* NULL: none that still lives. */
struct remote_session *remote_pool_take(struct str key);
/* Takes it; closes it at once when it cannot be used again, or when there is no room. */
void remote_pool_put(struct remote_session **s);
void remote_pool_close(void);
