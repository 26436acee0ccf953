/* offload.c - up to two helper threads, started when first needed.
 *
 * A job lies on the stack of the fiber that waits for it. Jobs travel to the threads under a
 * mutex and come back through a second list and an eventfd, so the loop alone wakes fibers. */
#include "server/run/offload.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/base/list.h"
#include "server/base/log.h"
#include "server/run/loop.h"
#include "server/run/run_internal.h"

#define THREADS_MAX       2
#define THREAD_STACK_SIZE (1024 * 1024)

struct job {
    struct list link;
    void (*run)(void *arg);
    void *arg;
    struct fiber *waiter;
    bool is_done; /* written by the loop, never by a thread */
};

static struct {
    pthread_mutex_t mutex; /* guards the next five */
    pthread_cond_t job_came;
    struct list waiting, finished;
    unsigned idle_count;
    bool is_stopping;
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    struct loop_fd back; /* the eventfd */
    pid_t owner;         /* threads do not survive a fork */
} pool;

static void *helper_main(void *unused)
{
    pthread_mutex_lock(&pool.mutex);
    for (;;) {
        struct list *next = list_take_first(&pool.waiting);
        struct job *job;

        if (next == NULL && pool.is_stopping)
            break;
        if (next == NULL) {
            pool.idle_count++;
            pthread_cond_wait(&pool.job_came, &pool.mutex);
            pool.idle_count--;
            continue;
        }
        pthread_mutex_unlock(&pool.mutex);
        job = CONTAINER_OF(next, struct job, link);
        job->run(job->arg);
        pthread_mutex_lock(&pool.mutex);
        list_append(&pool.finished, &job->link);
        eventfd_write(pool.back.fd, 1);
    }
    pthread_mutex_unlock(&pool.mutex);
    return NULL;
}

static void jobs_came_back(struct loop_fd *lfd, uint32_t events)
{
    eventfd_t ignored;
    struct list *next;

    eventfd_read(lfd->fd, &ignored);
    pthread_mutex_lock(&pool.mutex);
    while ((next = list_take_first(&pool.finished)) != NULL) {
        struct job *job = CONTAINER_OF(next, struct job, link);

        job->is_done = true;
        fiber_wake(job->waiter);
    }
    pthread_mutex_unlock(&pool.mutex);
}

static void pool_init(void)
{
    if (pool.owner == getpid())
        return;
    pool.owner = getpid();
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.job_came, NULL);
    list_init(&pool.waiting);
    list_init(&pool.finished);
    pool.idle_count = pool.thread_count = 0;
    pool.is_stopping = false;
    pool.back = (struct loop_fd){
        .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
        .ready = jobs_came_back,
    };
    if (pool.back.fd < 0)
        abort();
    loop_fd_set(&pool.back, EPOLLIN);
}

/* Signals belong to the loop's thread: helpers are born with all of them blocked. */
static bool start_helper(void)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int status;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_SIZE);
    status = pthread_create(&pool.threads[pool.thread_count], &attr, helper_main, NULL);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status == 0)
        pool.thread_count++;
    else
        log_warn(NULL, "helper_thread_failed", KV("errno", status));
    return pool.thread_count > 0;
}

static bool hand_over(struct job *job)
{
    bool wants_helper;

    pthread_mutex_lock(&pool.mutex);
    list_append(&pool.waiting, &job->link);
    wants_helper = pool.idle_count == 0 && pool.thread_count < THREADS_MAX;
    pthread_cond_signal(&pool.job_came);
    pthread_mutex_unlock(&pool.mutex);
    if (!wants_helper || start_helper())
        return true;
    pthread_mutex_lock(&pool.mutex);
    list_remove(&job->link);
    pthread_mutex_unlock(&pool.mutex);
    return false;
}

PARKS void offload(void (*run)(void *arg), void *arg)
{
    struct job job = {.run = run, .arg = arg, .waiter = fiber_self()};

    if (job.waiter != NULL)
        pool_init();
    /* Outside a fiber nobody else is kept waiting; without any thread there is no other way. */
    if (job.waiter == NULL || !hand_over(&job)) {
        run(arg);
        return;
    }
    while (!job.is_done)
        fiber_park_shielded();
}

void offload_fini(void)
{
    if (pool.owner != getpid())
        return;
    pthread_mutex_lock(&pool.mutex);
    pool.is_stopping = true;
    pthread_cond_broadcast(&pool.job_came);
    pthread_mutex_unlock(&pool.mutex);
    while (pool.thread_count > 0)
        pthread_join(pool.threads[--pool.thread_count], NULL);
    loop_fd_set(&pool.back, 0);
    close(pool.back.fd);
    pool.owner = 0;
}
