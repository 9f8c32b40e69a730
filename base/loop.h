// SPDX-License-Identifier: MIT
// An event loop: descriptors, timers and calls from other threads, on one thread.
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

struct loop;

/* A watched descriptor. Embed it in its owner; the loop never owns the descriptor. */
struct watch {
	void (*ready)(void *arg, uint32_t events); /* EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
	void *arg;
	int fd; /* set by loop_add; -1 while not added (see WATCH_INIT) */
};

#define WATCH_INIT(ready_, arg_) ((struct watch){.ready = (ready_), .arg = (arg_), .fd = -1})

/* A one-shot timer. Embed it in its owner. */
struct timer {
	void (*fired)(void *arg);
	void *arg;
	uint64_t at_ns; /* CLOCK_MONOTONIC; 0 while not armed */
	struct timer *next;
};

#define TIMER_INIT(fired_, arg_) ((struct timer){.fired = (fired_), .arg = (arg_)})

/* Work for when the callback in progress is over: what can be done once for many. Embed it. */
struct deferred {
	void (*run)(void *arg);
	void *arg;
	struct deferred *next;
	bool due;
};

#define DEFERRED_INIT(run_, arg_) ((struct deferred){.run = (run_), .arg = (arg_)})

/* `name` (15 bytes at most) names the thread made by loop_spawn. 0 or -errno. */
int loop_create(struct loop **out, const char *name);

/* Stops and joins the loop's thread if it has one. NULL is fine. Watches must be gone by then. */
void loop_destroy(struct loop *l);

/* Runs the loop on the calling thread until loop_stop. 0 or -errno. */
int loop_run(struct loop *l);

/*
 * Runs the loop on a thread of its own with all signals blocked; `enter` (NULL is fine) is called
 * on it first, as is what a jail must do there. 0 or -errno.
 */
int loop_spawn(struct loop *l, void (*enter)(void *arg), void *arg);

/*
 * Stops the loop's thread and waits for its end; a no-op when there is none. What is called into
 * the loop from then on runs at once on the caller's thread.
 */
void loop_join(struct loop *l);

/* Makes loop_run return after the callback in progress. From any thread. */
void loop_stop(struct loop *l);

/*
 * The following are for the loop's own thread, or for any thread while the loop does not run.
 * loop_add sets w->fd; EPERM where the descriptor cannot be watched (a regular file).
 * loop_del is NULL-op on a watch that is not added, and safe inside any callback: the watch's
 * callback is not called any more once it has returned.
 */
int loop_add(struct loop *l, struct watch *w, int fd, uint32_t events);
int loop_mod(struct loop *l, struct watch *w, uint32_t events);
void loop_del(struct loop *l, struct watch *w);

/* Arms (or re-arms) a timer `ns` from now; loop_disarm is a no-op on one not armed. */
void loop_arm(struct loop *l, struct timer *t, uint64_t ns);
void loop_disarm(struct loop *l, struct timer *t);

/*
 * Has d->run called once, after the callback in progress and before the next; a no-op where it is
 * due already. What is deferred while no thread runs the loop waits for one. loop_undefer takes it
 * back: true where it was due.
 */
void loop_defer(struct loop *l, struct deferred *d);
bool loop_undefer(struct loop *l, struct deferred *d);

/*
 * Runs fn(arg) on the loop's thread and waits until it has returned. Runs it at once when called on
 * that thread, or when no thread runs the loop. From any thread; never from one that the loop waits
 * for.
 */
void loop_call(struct loop *l, void (*fn)(void *arg), void *arg);

/*
 * Another thread in the place of the loop's: from a successful visit until it leaves it may do what
 * is for that thread only, but for loop_call, and must not wait for anything. False where somebody
 * is at work on the loop, or no thread runs it. What has been deferred runs before it leaves.
 */
bool loop_visit(struct loop *l);
void loop_leave(struct loop *l);

/* Whether who is at work on the loop is a visitor. For whoever that is. */
bool loop_visited(const struct loop *l);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t now_ns(void);

#endif
