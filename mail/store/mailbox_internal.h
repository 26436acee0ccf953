/* mailbox_internal.h - rows of the table mailbox, for those who read them. */
#pragma once
#include "mail/store/mailbox.h"
#include "server/pg/pg.h"

/* From the columns that the queries of mail_mailbox.sql select; rights are the owner's. */
void mailbox_read(struct arena *a, const struct pg_rows *rows, size_t row, struct mailbox *out);
/* The rows of sql_mailbox_list, with has_children. */
PARKS void mailbox_read_list(struct arena *a, const struct pg_rows *rows, struct mailbox **out,
                             size_t *count);
