/* smtp_policy.h - whom we take mail from, and how much of it: everything that is a setting rather than a rule of SMTP.
 *
 * Each question is asked at one point of the session. 0: go on. 1: the refusal is written already (and perhaps the phase
 * is CLOSING). -1: err says why not. LMTP, unix sockets, this machine's own addresses and smtp_trusted_networks
 * are exempt from what is meant for strangers, and so is whoever logged in; limits of accounts hold everywhere. */
#pragma once
#include "mail/smtp/smtp_internal.h"

/* After accept and after XCLIENT: who is it? */
void smtp_policy_meet(struct smtp_session *s);
/* Before the greeting: rate of connections, greeting delay, clients that talk first. */
PARKS int smtp_policy_connect(struct smtp_session *s);
/* A command was read: is there more behind it than may be sent ahead? ends_group: its answer must be waited for. */
PARKS int smtp_policy_sent_ahead(struct smtp_session *s, bool ends_group);
PARKS int smtp_policy_mail(struct smtp_session *s, const struct smtp_path *path, struct error *err);
/* postmaster and abuse: they must stay reachable for whoever is refused by mistake (RFC 5321, 4.5.1; RFC 2142). */
bool smtp_policy_is_role(const struct smtp_path *path);
/* Of a recipient that there is, or that we relay to. */
PARKS int smtp_policy_rcpt(struct smtp_session *s, const struct smtp_path *path, struct error *err);
/* After the refusal of one that there is not. */
PARKS void smtp_policy_unknown_rcpt(struct smtp_session *s);
/* A message was taken. */
PARKS void smtp_policy_accepted(struct smtp_session *s);

/* Per worker; the counts of all workers and hosts are brought together behind the work. */
int smtp_policy_start(struct error *err);                /* ERR_SYNTAX: a list of a setting cannot be read */
PARKS void smtp_policy_stop(void);
