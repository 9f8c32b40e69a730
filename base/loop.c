// SPDX-License-Identifier: MIT
// The event loop over epoll: one thread runs it, any thread may call into it.
//
// A callback may delete any watch, also one whose event lies further on in the batch that
// epoll_pwait2 has just returned. loop_del therefore looks through the rest of the batch. Calls
// from other threads are a linked list of records on the callers' stacks; an eventfd wakes the
// loop, a futex-backed condition wakes the caller.
//
// The turn is a lock that the loop's thread lets go only to wait for events. What a visitor deletes
// may be in the batch that the thread gets meanwhile: so a watch is looked at before it is called.
#include "base/loop.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define BATCH 16

struct call {
	void (*fn)(void *arg);
	void *arg;
	bool done;
	struct call *next;
};

struct loop {
	int epoll_fd;
	struct watch wake;
	struct timer *timers; /* sorted by at_ns; touched by the loop's thread only */
	struct deferred *deferred, **deferred_end; /* as are these, in order */
	struct epoll_event batch[BATCH];
	int batch_len, batch_pos;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t called;
	struct call *calls;
	bool stop;
	pthread_t runner;

	pthread_mutex_t turn; /* of whoever may touch what is the loop's thread's */
	bool visited;         /* that is a visitor; under `turn` */
	atomic_bool running;  /* written under `lock` */

	bool spawned;
	pthread_t thread;
	void (*enter)(void *arg);
	void *enter_arg;
	char name[16];
};

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void wake_ready(void *arg, uint32_t events)
{
	struct loop *l = arg;
	uint64_t count;

	if (read(l->wake.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("event loop %s: wake-up: %s", l->name, strerror(errno));
}

static void wake(struct loop *l)
{
	uint64_t one = 1;

	while (write(l->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

int loop_create(struct loop **out, const char *name)
{
	CLEANUP_FD int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct loop *l = calloc(1, sizeof(*l));
	int rc;

	if (wake_fd < 0 || !l) {
		free(l);
		return failno(errno, "event loop %s", name);
	}
	snprintf(l->name, sizeof(l->name), "%s", name);
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->turn, NULL);
	pthread_cond_init(&l->called, NULL);
	l->deferred_end = &l->deferred;
	l->wake = WATCH_INIT(wake_ready, l);
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	rc = l->epoll_fd < 0 ? failno(errno, "event loop %s", name)
			     : loop_add(l, &l->wake, wake_fd, EPOLLIN);
	if (rc) {
		loop_destroy(l);
		return rc;
	}
	steal_fd(&wake_fd);
	*out = l;
	return 0;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	loop_join(l);
	if (l->wake.fd >= 0)
		close(l->wake.fd);
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	pthread_cond_destroy(&l->called);
	pthread_mutex_destroy(&l->turn);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

int loop_add(struct loop *l, struct watch *w, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return failno(errno, "event loop %s: descriptor %d", l->name, fd);
	w->fd = fd;
	return 0;
}

int loop_mod(struct loop *l, struct watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &ev) < 0)
		return failno(errno, "event loop %s: descriptor %d", l->name, w->fd);
	return 0;
}

void loop_del(struct loop *l, struct watch *w)
{
	if (w->fd < 0)
		return;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
	for (int i = l->batch_pos; i < l->batch_len; i++)
		if (l->batch[i].data.ptr == w)
			l->batch[i].data.ptr = NULL;
}

void loop_disarm(struct loop *l, struct timer *t)
{
	struct timer **p = &l->timers;

	if (!t->at_ns)
		return;
	while (*p && *p != t)
		p = &(*p)->next;
	if (*p)
		*p = t->next;
	t->at_ns = 0;
}

void loop_arm(struct loop *l, struct timer *t, uint64_t ns)
{
	struct timer **p = &l->timers;

	loop_disarm(l, t);
	if (__builtin_add_overflow(now_ns(), ns, &t->at_ns))
		t->at_ns = UINT64_MAX;
	while (*p && (*p)->at_ns <= t->at_ns)
		p = &(*p)->next;
	t->next = *p;
	*p = t;
	/* The thread waits for the one that was first. */
	if (l->visited && l->timers == t)
		wake(l);
}

static void run_timers(struct loop *l)
{
	uint64_t now;

	if (!l->timers)
		return;
	now = now_ns();
	while (l->timers && l->timers->at_ns <= now) {
		struct timer *t = l->timers;

		l->timers = t->next;
		t->at_ns = 0;
		t->fired(t->arg);
	}
}

static void run_calls(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	while (l->calls) {
		struct call *c = l->calls;

		l->calls = c->next;
		pthread_mutex_unlock(&l->lock);
		c->fn(c->arg);
		pthread_mutex_lock(&l->lock);
		c->done = true;
		pthread_cond_broadcast(&l->called);
	}
	pthread_mutex_unlock(&l->lock);
}

static int wait_events(struct loop *l)
{
	struct timespec ts, *timeout = NULL;
	int n, err;

	if (l->timers) {
		uint64_t now = now_ns();
		uint64_t ns = l->timers->at_ns > now ? l->timers->at_ns - now : 0;

		ts = (struct timespec){(time_t)(ns / NSEC_PER_SEC), (long)(ns % NSEC_PER_SEC)};
		timeout = &ts;
	}
	pthread_mutex_unlock(&l->turn);
	/* By its number, as musl has no name for it yet. */
	n = (int)syscall(SYS_epoll_pwait2, l->epoll_fd, l->batch, BATCH, timeout, NULL, 0);
	err = errno;
	pthread_mutex_lock(&l->turn);
	return n < 0 ? -err : n;
}

void loop_defer(struct loop *l, struct deferred *d)
{
	if (d->due)
		return;
	d->due = true;
	d->next = NULL;
	*l->deferred_end = d;
	l->deferred_end = &d->next;
}

bool loop_undefer(struct loop *l, struct deferred *d)
{
	struct deferred **p = &l->deferred;

	if (!d->due)
		return false;
	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	if (!*p)
		l->deferred_end = p;
	d->due = false;
	return true;
}

/* What these defer in turn is their turn, too. */
static void run_deferred(struct loop *l)
{
	while (l->deferred) {
		struct deferred *d = l->deferred;

		loop_undefer(l, d);
		d->run(d->arg);
	}
}

static void run_batch(struct loop *l, int n)
{
	l->batch_len = n;
	for (l->batch_pos = 0; l->batch_pos < l->batch_len;) {
		struct epoll_event *ev = &l->batch[l->batch_pos++];
		struct watch *w = ev->data.ptr;

		/* A visitor may have deleted it since the kernel told of it. */
		if (w && w->fd >= 0)
			w->ready(w->arg, ev->events);
		run_deferred(l);
	}
	l->batch_len = l->batch_pos = 0;
}

/* The stop request is consumed, so that a stopped loop can be run again. */
static bool stopped(struct loop *l)
{
	bool stop;

	pthread_mutex_lock(&l->lock);
	stop = l->stop;
	if (stop)
		l->running = l->stop = false;
	pthread_mutex_unlock(&l->lock);
	return stop;
}

static int take_turns(struct loop *l)
{
	for (;;) {
		int n;

		run_calls(l);
		run_timers(l);
		run_deferred(l);
		if (stopped(l))
			return 0;
		n = wait_events(l);
		if (n < 0 && n != -EINTR)
			return failno(-n, "event loop %s", l->name);
		run_batch(l, MAX(n, 0));
	}
}

int loop_run(struct loop *l)
{
	int rc;

	pthread_mutex_lock(&l->lock);
	l->runner = pthread_self();
	l->running = true;
	pthread_mutex_unlock(&l->lock);
	pthread_mutex_lock(&l->turn);
	rc = take_turns(l);
	pthread_mutex_unlock(&l->turn);
	if (!rc)
		run_calls(l); /* a call that came in before running became false */
	return rc;
}

bool loop_visit(struct loop *l)
{
	if (pthread_mutex_trylock(&l->turn))
		return false;
	if (!l->running) {
		pthread_mutex_unlock(&l->turn);
		return false;
	}
	l->visited = true;
	return true;
}

void loop_leave(struct loop *l)
{
	run_deferred(l);
	l->visited = false;
	pthread_mutex_unlock(&l->turn);
}

bool loop_visited(const struct loop *l)
{
	return l->visited;
}

void loop_stop(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_mutex_unlock(&l->lock);
	wake(l);
}

void loop_join(struct loop *l)
{
	if (!l->spawned)
		return;
	loop_stop(l);
	pthread_join(l->thread, NULL);
	l->spawned = false;
}

static void *loop_thread(void *arg)
{
	struct loop *l = arg;

	prctl(PR_SET_NAME, l->name);
	if (l->enter)
		l->enter(l->enter_arg);
	if (loop_run(l))
		log_error("%s", last_error());
	return NULL;
}

int loop_spawn(struct loop *l, void (*enter)(void *arg), void *arg)
{
	int rc;

	l->enter = enter;
	l->enter_arg = arg;
	/* Calls made before the thread has come up wait for it. */
	l->running = true;
	rc = thread_start(&l->thread, 0, loop_thread, l);
	if (rc) {
		l->running = false;
		return failno(rc, "event loop %s: thread", l->name);
	}
	l->spawned = true;
	return 0;
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct call c = {.fn = fn, .arg = arg};
	struct call **p = &l->calls;

	pthread_mutex_lock(&l->lock);
	if (!l->running || pthread_equal(l->runner, pthread_self())) {
		pthread_mutex_unlock(&l->lock);
		fn(arg);
		return;
	}
	while (*p)
		p = &(*p)->next;
	*p = &c;
	wake(l);
	while (!c.done)
		pthread_cond_wait(&l->called, &l->lock);
	pthread_mutex_unlock(&l->lock);
}
