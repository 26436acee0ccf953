/* login_watch.h - ends the sessions of accounts that were suspended or removed, or whose password was changed.
 *
 * What changes an account or a credential says so in its own transaction (sql: login_notice), and every worker with a
 * session of that account looks once, for all of them together, whether they may stay. A session that was opened with a
 * password lives as long as that password: of app passwords only the one that was removed or changed ends. What
 * a lost notice leaves behind is found by a look at everybody every few minutes. No command costs a query. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/base/list.h"
#include "server/directory/directory.h"
#include "server/pg/notify.h"

struct login_watch {
    struct list link;                                   /* unlinked: not watching */
    struct bus_subscription subscription;
    int64_t account_id, credential_id, credential_us;
    bool is_due, is_asked;
    bool is_over;                                       /* the session must end */
    void (*ended)(struct login_watch *w);               /* was called when is_over became true; must not park */
};

/* account: as a log-in gave it. */
void login_watch_start(struct login_watch *w, const struct account *account, void (*ended)(struct login_watch *w));
void login_watch_stop(struct login_watch *w);           /* harmless when not watching */

void login_watch_keeper_start(void);                    /* worker, after the bus */
PARKS void login_watch_keeper_stop(void);
