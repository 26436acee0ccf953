/* report_sender.h - what we owe other domains goes out: DMARC reports (RFC 9990) and TLS reports (RFC 8460).
 *
 * One worker of each host takes the reports of days that are over, each at its time (report_spread), and puts them into the
 * queue as mail of ours, in the transaction that marks them as sent; or posts them where a domain wants its TLS
 * reports by HTTPS. What fails is tried again every hour for most of a day. */
#pragma once
#include "mail/queue/remote.h"
#include "server/run/fiber.h"

void report_sender_start(void);
PARKS void report_sender_stop(void);

/* For remote_set_tls_observer(), on every worker: counts the session for the report to its domain. */
void report_sender_note_session(const struct remote_tls_event *event);
