/* remote_tool.c - delivers the jobs that standard input describes in JSON, and prints what became of
 * them. For tests in Python: no queue, no server, and a database only for MTA-STS policies. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mail/queue/remote.h"
#include "server/base/encode.h"
#include "server/pg/migrate.h"
#include "server/pg/pg.h"
#include "server/run/config.h"
#include "server/run/conn_buffer.h"
#include "server/run/dns.h"
#include "server/run/loop.h"
#include "server/run/offload.h"

static json_t *input, *output, *events;
static unsigned running;
static struct fiber *waiter;

static struct str get(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return str_c(text == NULL ? "" : text);
}

static void set(json_t *object, const char *key, struct str value)
{
    json_object_set_new(object, key, json_stringn(value.n == 0 ? "" : value.p, value.n));
}

static void observe(const struct remote_tls_event *event)
{
    json_t *o = json_object();

    set(o, "domain", event->domain);
    json_object_set_new(o, "policy_type", json_integer(event->policy_type));
    set(o, "policy_domain", event->policy_domain);
    set(o, "policy_text", event->policy_text);
    set(o, "mx_patterns", event->mx_patterns);
    set(o, "result", str_c(event->result_type));
    set(o, "host", event->host);
    set(o, "ip", event->ip);
    set(o, "reason", event->reason);
    json_array_append_new(events, o);
}

static void read_rcpts(struct arena *a, const json_t *list, struct remote_job *job)
{
    job->rcpt_count = json_array_size(list);
    job->rcpts = ARENA_ARRAY(a, job->rcpt_count, struct remote_recipient);
    for (size_t i = 0; i < job->rcpt_count; i++) {
        const json_t *one = json_array_get(list, i);

        job->rcpts[i].address = get(one, "address");
        job->rcpts[i].orcpt = get(one, "orcpt");
        job->rcpts[i].notify = (unsigned)json_integer_value(json_object_get(one, "notify"));
    }
}

static void read_job(struct arena *a, const json_t *in, struct remote_job *job)
{
    struct buf message;

    job->destination = get(in, "destination");
    job->route = get(in, "route");
    job->sender = get(in, "sender");
    job->envid = get(in, "envid");
    job->ret = (unsigned)json_integer_value(json_object_get(in, "ret"));
    job->body = (unsigned)json_integer_value(json_object_get(in, "body"));
    job->is_utf8 = json_is_true(json_object_get(in, "utf8"));
    job->requires_tls = json_is_true(json_object_get(in, "requires_tls"));
    job->tls_optional = json_is_true(json_object_get(in, "tls_optional"));
    job->priority = (int)json_integer_value(json_object_get(in, "priority"));
    job->deliver_by_us = json_integer_value(json_object_get(in, "deliver_by_us"));
    buf_init(&message, SIZE_MAX);
    base64_decode(&message, get(in, "message"));
    job->message = arena_str(a, buf_str(&message));
    buf_fini(&message);
    read_rcpts(a, json_object_get(in, "rcpts"), job);
}

static json_t *rcpt_json(const struct remote_recipient *r)
{
    static const char *const names[] = {"deferred", "delivered", "failed"};
    json_t *o = json_object();

    set(o, "address", r->address);
    set(o, "status", str_c(names[r->status]));
    json_object_set_new(o, "code", json_integer(r->code));
    set(o, "enhanced", r->enhanced);
    set(o, "text", r->text);
    json_object_set_new(o, "remote", json_boolean(r->is_remote_answer));
    json_object_set_new(o, "dsn", json_boolean(r->was_dsn_relayed));
    return o;
}

static json_t *job_json(const struct remote_job *job)
{
    json_t *o = json_object(), *rcpts = json_array();

    set(o, "host", job->host);
    set(o, "tls", job->tls);
    json_object_set_new(o, "down", json_boolean(job->is_destination_down));
    for (size_t i = 0; i < job->rcpt_count; i++)
        json_array_append_new(rcpts, rcpt_json(&job->rcpts[i]));
    json_object_set_new(o, "rcpts", rcpts);
    return o;
}

static void deliver(void *arg)
{
    size_t index = (size_t)(uintptr_t)arg;
    const json_t *in = json_array_get(json_object_get(input, "jobs"), index);
    struct arena *a = arena_new();
    struct remote_job job = {0};

    read_job(a, in, &job);
    remote_deliver(a, &job);
    json_array_set_new(output, index, job_json(&job));
    arena_free(&a);
    if (--running == 0 && waiter != NULL)
        fiber_wake(waiter);
}

static void run_jobs(size_t count)
{
    bool in_parallel = json_is_true(json_object_get(input, "parallel"));

    running = (unsigned)count;
    for (size_t i = 0; i < count; i++)
        json_array_append_new(output, json_null());
    for (size_t i = 0; i < count; i++) {
        if (in_parallel)
            fiber_start("deliver", deliver, (void *)(uintptr_t)i);
        else
            deliver((void *)(uintptr_t)i);
    }
    waiter = fiber_self();
    while (running > 0)
        fiber_park(NO_DEADLINE);
}

static void run(void *arg)
{
    struct str database = get(input, "database");

    if (database.n > 0)
        pg_pool_init(database.p, 2);
    remote_set_tls_observer(observe);
    remote_start();
    run_jobs(json_array_size(json_object_get(input, "jobs")));
    remote_stop();
    if (database.n > 0)
        pg_pool_fini();
}

static int read_settings(void)
{
    const char *name;
    json_t *value;
    struct error err = {0};

    config_defaults();
    json_object_foreach(json_object_get(input, "settings"), name,
                        value) if (config_set(str_c(name), str_c(json_string_value(value)), &err) <
                                   0)
    {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    return 0;
}

int main(void)
{
    json_t *all;

    input = json_loadf(stdin, 0, NULL);
    if (input == NULL || read_settings() < 0)
        return 2;
    output = json_array();
    events = json_array();
    loop_init();
    loop_run_fiber("tool", run, NULL);
    dns_fini();
    offload_fini();
    conn_buffer_pool_fini();
    loop_fini();
    fiber_pool_fini();
    all = json_pack("{s:o, s:o}", "jobs", output, "events", events);
    json_dumpf(all, stdout, 0);
    json_decref(all);
    json_decref(input);
    config_fini();
    return 0;
}
