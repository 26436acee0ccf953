/* milter_mail.h - a message and its envelope on their way through milters: what each changes, the next one sees.
 *
 * What a milter asks for is collected first and takes effect when it has said its last word, so that one that dies
 * half-way leaves nothing half done. The header is edited as header_edit.h does; the body is borrowed until one replaces it. */
#pragma once
#include "mail/milter/milter_protocol.h"
#include "mail/mime/header_edit.h"
#include "server/base/arena.h"

#define MILTER_CHANGES_MAX      2000                    /* of one milter and message */
#define MILTER_CHANGES_SIZE_MAX (4u << 20)              /* all names and values of these together */

struct milter_rcpt {
    struct str address;                                 /* without brackets */
    bool was_given;                                     /* by the client; otherwise a milter added it */
    bool is_removed;
};

struct milter_mail {
    struct arena *arena;
    struct header_edit header;                          /* header.body: the body as it is now */
    struct buf replaced;                                /* holds that, once a milter has replaced it */
    size_t body_size_max;                               /* of such a body */
    struct str sender;                                  /* of the envelope; empty: the null path */
    struct milter_rcpt *rcpts;
    size_t rcpt_count, rcpt_room, rcpt_max;
    struct str quarantine;                              /* why it should be held; empty: it should not */
    bool is_body_changed, is_sender_changed;
};

/* What one milter asks for. */
struct milter_changes {
    struct milter_answer *v;
    size_t n, room, size, applied;
    size_t rcpts_added;
    struct buf body;
    bool has_body;
};

/* ERR_TOO_BIG: the header is beyond header_edit's limits. */
int milter_mail_init(struct milter_mail *m, struct arena *a, struct str message, struct error *err);
void milter_mail_fini(struct milter_mail *m);
void milter_mail_add_rcpt(struct milter_mail *m, struct str address, bool was_given);
bool milter_mail_is_changed(const struct milter_mail *m);        /* header or body */
/* The message as it is now, with room_size bytes before it, in the arena. */
struct str milter_mail_text(const struct milter_mail *m, size_t room_size);

void milter_changes_init(struct milter_changes *c, const struct milter_mail *m);
void milter_changes_fini(struct milter_changes *c);
/* actions: what was negotiated. ERR_DENIED: it may not do this; ERR_TOO_BIG: too much of it. Copies into m's arena. */
int milter_changes_add(struct milter_changes *c, struct milter_mail *m, const struct milter_answer *answer,
                       uint32_t actions, struct error *err);
/* Does one of them; false: all are done. */
bool milter_changes_apply_next(struct milter_changes *c, struct milter_mail *m);
