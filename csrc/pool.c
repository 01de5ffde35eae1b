/* The caller works too, and waits for nobody who has not begun: where others call at the same time, or
 * cores are busy, it does more of the parts itself. Threads are started when they are first wanted and
 * stay for the life of the process; a child that it forks starts its own. */
#define _GNU_SOURCE
#include "pool.h"
#include "floatfmt.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

/* How long a thread that is done looks for more before it sleeps: to wake it takes 8 to 30 us, and the
 * second step of a call comes a few us after the first. */
enum { SPIN_NS = 50000 };
/* Kernels keep blocks of values on the stack, and some systems give threads 128 KB. */
enum { STACK_BYTES = 1 << 21 };

struct job {
    void (*part)(void *, size_t);
    void *what;
    size_t parts;
    atomic_size_t next;   /* the first part that nobody has taken */
    atomic_uint helpers;  /* who are at work on it; written with the lock */
    unsigned wanted;      /* how many more may come */
    struct job *after;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static struct job *jobs;     /* that want helpers */
static unsigned n_threads;   /* that have been started */
static atomic_uint n_posted; /* jobs, ever: it tells a thread that looks for one without the lock */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Returns when `value` is no longer `from`, or after a while. */
static void spin(atomic_uint *value, unsigned from)
{
    const int64_t end = now_ns() + SPIN_NS;
    while (atomic_load(value) == from && now_ns() < end)
        relax();
}

static void take_parts(struct job *job)
{
    size_t k;
    while ((k = atomic_fetch_add(&job->next, 1)) < job->parts)
        job->part(job->what, k);
}

/* Waits, with the lock, for a job that wants helpers, and returns it. */
static struct job *next_job(void)
{
    while (jobs == NULL) {
        const unsigned seen = atomic_load(&n_posted);
        pthread_mutex_unlock(&lock);
        spin(&n_posted, seen);
        pthread_mutex_lock(&lock);
        while (jobs == NULL && atomic_load(&n_posted) == seen)
            pthread_cond_wait(&posted, &lock);
    }
    return jobs;
}

/* Wakes two at most, each of whom wakes two more: a caller that woke all of many would be at that for
 * longer than its work takes. */
static void wake(const struct job *job)
{
    for (unsigned k = 0; k < 2 && k < job->wanted; k++)
        pthread_cond_signal(&posted);
}

static void *help(void *unused)
{
    (void)unused; /* the floating-point environment is that of ff_share, which started it */
#if defined(__linux__)
    pthread_setname_np(pthread_self(), "floatfmt");
#endif
    pthread_mutex_lock(&lock);
    for (;;) {
        struct job *job = next_job();
        if (--job->wanted == 0)
            jobs = job->after;
        wake(job);
        atomic_fetch_add(&job->helpers, 1);
        pthread_mutex_unlock(&lock);
        take_parts(job);
        pthread_mutex_lock(&lock);
        if (atomic_fetch_sub(&job->helpers, 1) == 1)
            pthread_cond_broadcast(&finished);
    }
    return NULL;
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }
/* Of a process's threads only the one that forks is in the child. */
static void in_child(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    posted = finished = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    jobs = NULL;
    n_threads = 0;
}
static void mind_forks(void) { pthread_atfork(before_fork, after_fork, in_child); }

/* A thread's own, for a handler that says what happened: blocked, they end the process without one. */
static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};

/* Sees to it, with the lock, that there are so many threads, or as many as can be had. */
static void start_threads(unsigned wanted)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (n_threads >= wanted || pthread_attr_init(&attributes))
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all); /* signals are for threads that know what to do about them, but for faults */
    for (size_t k = 0; k < sizeof FAULTS / sizeof *FAULTS; k++)
        sigdelset(&all, FAULTS[k]);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    while (n_threads < wanted && pthread_create(&thread, &attributes, help, NULL) == 0)
        n_threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void post(struct job *job)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, mind_forks);
    pthread_mutex_lock(&lock);
    start_threads(job->wanted);
    job->after = jobs;
    jobs = job;
    atomic_fetch_add(&n_posted, 1);
    wake(job);
    pthread_mutex_unlock(&lock);
}

/* Lets nobody begin, and waits for those who have. */
static void withdraw(struct job *job)
{
    pthread_mutex_lock(&lock);
    for (struct job **at = &jobs; *at != NULL; at = &(*at)->after)
        if (*at == job) {
            *at = job->after;
            break;
        }
    pthread_mutex_unlock(&lock);
    const int64_t end = now_ns() + SPIN_NS;
    while (atomic_load(&job->helpers) != 0 && now_ns() < end)
        relax();
    pthread_mutex_lock(&lock); /* whoever is done holds it until it has let go of the job */
    while (atomic_load(&job->helpers) != 0)
        pthread_cond_wait(&finished, &lock);
    pthread_mutex_unlock(&lock);
}

void ff_share(void (*part)(void *, size_t), void *what, size_t parts, unsigned threads)
{
    const uint64_t saved = ff_default_float_environment();
    struct job job = {.part = part, .what = what, .parts = parts};
    const size_t most = threads < parts ? threads : parts;
    if (most > 1) {
        job.wanted = (unsigned)(most - 1);
        post(&job);
    }
    take_parts(&job);
    if (most > 1)
        withdraw(&job);
    ff_restore_float_environment(saved);
}
