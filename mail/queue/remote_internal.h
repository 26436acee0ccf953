/* remote_internal.h - what remote.c (hosts and recipients) and remote_session.c (making a session) share. */
#pragma once
#include "mail/queue/remote.h"
#include "mail/queue/remote_pool.h"
#include "mail/queue/route_hosts.h"
#include "mail/queue/tls_policy.h"

/* One address of one host, with all that is known of it. */
struct remote_target {
    struct arena *arena;
    struct remote_job *job;
    const struct route_hosts *hosts;
    const struct route_host *host;
    const struct tls_domain *domain;
    const struct tls_host *tls;
    const struct sockaddr_storage *address;
    struct str text;                                    /* "mx1.example.net [192.0.2.1]:25" */
    struct str user, password;                          /* empty: nobody logs in */
};

/* A session that is ready for MAIL, from the pool if `may_reuse`. NULL: see *why. */
PARKS struct remote_session *remote_session_open(const struct remote_target *t, bool may_reuse,
                                                 struct route_refusal *why);

/* Name and password for a relay, from delivery_credentials; empty when it is not listed. */
void remote_credentials(struct arena *a, const struct route_hosts *hosts, struct str *user, struct str *password);

/* Tells the observer. result NULL: success. */
void remote_report(struct arena *a, const struct tls_domain *domain, const struct route_hosts *hosts,
                   const struct route_host *host, const struct tls_host *tls, struct dial *d, const char *result,
                   struct str reason);
