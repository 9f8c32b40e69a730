// SPDX-License-Identifier: MIT
// The loop: watches, deletion inside a batch, timers in order, calls from many threads.
#include "base/loop.h"
#include "tests/unit/test.h"

#include "base/util.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pair {
	struct loop *loop;
	struct watch w[2];
	int fd[2], calls;
};

/* Whichever comes first deletes the other, whose event is in the same batch. */
static void delete_other(void *arg, uint32_t events)
{
	struct pair *p = arg;

	p->calls++;
	loop_del(p->loop, &p->w[0]);
	loop_del(p->loop, &p->w[1]);
	loop_stop(p->loop);
}

static void test_delete_in_batch(void **state)
{
	struct pair p = {0};

	assert_int_equal(loop_create(&p.loop, "test"), 0);
	for (int i = 0; i < 2; i++) {
		p.w[i] = WATCH_INIT(delete_other, &p);
		p.fd[i] = eventfd(1, EFD_CLOEXEC);
		assert_int_equal(loop_add(p.loop, &p.w[i], p.fd[i], EPOLLIN), 0);
	}
	assert_int_equal(loop_run(p.loop), 0);
	assert_int_equal(p.calls, 1);
	loop_destroy(p.loop);
	close(p.fd[0]);
	close(p.fd[1]);
}

struct order {
	struct loop *loop;
	struct timer t[4];
	char seen[8];
	unsigned n;
};

static void note(struct order *o, char c)
{
	o->seen[o->n++] = c;
}

static void fired_a(void *arg)
{
	note(arg, 'a');
}

static void fired_b(void *arg)
{
	struct order *o = arg;

	note(o, 'b');
	loop_disarm(o->loop, &o->t[2]);
}

static void fired_c(void *arg)
{
	note(arg, 'c');
}

static void fired_last(void *arg)
{
	struct order *o = arg;

	note(o, 'z');
	loop_stop(o->loop);
}

static void test_timers(void **state)
{
	struct order o = {0};

	assert_int_equal(loop_create(&o.loop, "test"), 0);
	o.t[0] = TIMER_INIT(fired_a, &o);
	o.t[1] = TIMER_INIT(fired_b, &o);
	o.t[2] = TIMER_INIT(fired_c, &o);
	o.t[3] = TIMER_INIT(fired_last, &o);
	loop_arm(o.loop, &o.t[3], 3000000);
	loop_arm(o.loop, &o.t[2], 2000000);
	loop_arm(o.loop, &o.t[0], 9000000);
	loop_arm(o.loop, &o.t[1], 1000000);
	loop_arm(o.loop, &o.t[0], 0); /* re-armed: first now */
	assert_int_equal(loop_run(o.loop), 0);
	assert_string_equal(o.seen, "abz");
	loop_destroy(o.loop);
}

struct counter {
	struct loop *loop;
	unsigned n; /* touched by the loop's thread only */
};

static void increment(void *arg)
{
	struct counter *c = arg;

	c->n++;
}

static void *call_1000(void *arg)
{
	struct counter *c = arg;

	for (int i = 0; i < 1000; i++)
		loop_call(c->loop, increment, c);
	return NULL;
}

static void test_calls(void **state)
{
	struct counter c = {0};
	pthread_t t[4];

	assert_int_equal(loop_create(&c.loop, "test"), 0);
	loop_call(c.loop, increment, &c); /* nobody runs it: at once */
	assert_int_equal(loop_spawn(c.loop, NULL, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, call_1000, &c), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	loop_destroy(c.loop);
	assert_int_equal(c.n, 4001);
}

struct work {
	struct loop *loop;
	struct watch w[2];
	struct deferred d[3];
	char seen[16];
	unsigned n;
};

static void deferred_a(void *arg)
{
	struct work *k = arg;

	k->seen[k->n++] = 'a';
	loop_defer(k->loop, &k->d[1]); /* its turn is at once */
}

static void deferred_b(void *arg)
{
	struct work *k = arg;

	k->seen[k->n++] = 'b';
}

/* Twice in one batch: between the two the deferred work is done, and once however often it was due.
 */
static void defers(void *arg, uint32_t events)
{
	struct work *k = arg;

	k->seen[k->n++] = '|';
	loop_defer(k->loop, &k->d[0]);
	loop_defer(k->loop, &k->d[2]);
	loop_defer(k->loop, &k->d[0]);
	assert_true(loop_undefer(k->loop, &k->d[2]));
	assert_false(loop_undefer(k->loop, &k->d[2]));
	if (k->n > 3)
		loop_stop(k->loop);
	else
		loop_defer(k->loop, &k->d[2]);
}

static void test_deferred(void **state)
{
	struct work k = {0};

	assert_int_equal(loop_create(&k.loop, "test"), 0);
	k.d[0] = DEFERRED_INIT(deferred_a, &k);
	k.d[1] = DEFERRED_INIT(deferred_b, &k);
	k.d[2] = DEFERRED_INIT(deferred_b, &k);
	for (int i = 0; i < 2; i++) {
		k.w[i] = WATCH_INIT(defers, &k);
		assert_int_equal(loop_add(k.loop, &k.w[i], eventfd(1, EFD_CLOEXEC), EPOLLIN), 0);
	}
	assert_int_equal(loop_run(k.loop), 0);
	assert_string_equal(k.seen, "|abb|ab");
	for (int i = 0; i < 2; i++) {
		int fd = k.w[i].fd;

		loop_del(k.loop, &k.w[i]);
		close(fd);
	}
	loop_destroy(k.loop);
}

/* Each by a call and by a visit in turn: both are as good as the loop's own thread. */
static void *visit_1000(void *arg)
{
	struct counter *c = arg;

	for (int i = 0; i < 1000; i++) {
		while (!loop_visit(c->loop))
			sched_yield();
		assert_true(loop_visited(c->loop));
		c->n++;
		loop_leave(c->loop);
		loop_call(c->loop, increment, c);
	}
	return NULL;
}

static void test_visits(void **state)
{
	struct counter c = {0};
	pthread_t t[4];

	assert_int_equal(loop_create(&c.loop, "test"), 0);
	assert_false(loop_visit(c.loop)); /* nobody runs it */
	assert_int_equal(loop_spawn(c.loop, NULL, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, visit_1000, &c), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	loop_join(c.loop);
	assert_false(loop_visit(c.loop));
	loop_destroy(c.loop);
	assert_int_equal(c.n, 8000);
}

struct host {
	struct loop *loop;
	struct deferred d;
	struct timer t;
	struct watch w;
	pthread_t deferred_on, fired_on;
	sem_t fired, entered, leave;
	unsigned told;
};

static void note_deferred(void *arg)
{
	((struct host *)arg)->deferred_on = pthread_self();
}

static void note_fired(void *arg)
{
	struct host *h = arg;

	h->fired_on = pthread_self();
	sem_post(&h->fired);
}

static void note_told(void *arg, uint32_t events)
{
	((struct host *)arg)->told++;
}

static void stay(void *arg)
{
	struct host *h = arg;

	sem_post(&h->entered);
	sem_wait(&h->leave);
}

static void *call_stay(void *arg)
{
	loop_call(((struct host *)arg)->loop, stay, arg);
	return NULL;
}

static void enter_as_visitor(struct host *h)
{
	while (!loop_visit(h->loop))
		sched_yield();
}

/* What a visitor has deferred it does itself; what it has armed is the thread's, which wakes up for
 * it; what it has deleted is not told of, though its event is there. */
static void test_visitor(void **state)
{
	struct host h = {0};
	int fd = eventfd(0, EFD_CLOEXEC);

	h.d = DEFERRED_INIT(note_deferred, &h);
	h.t = TIMER_INIT(note_fired, &h);
	h.w = WATCH_INIT(note_told, &h);
	sem_init(&h.fired, 0, 0);
	assert_int_equal(loop_create(&h.loop, "test"), 0);
	assert_int_equal(loop_spawn(h.loop, NULL, NULL), 0);
	enter_as_visitor(&h);
	loop_defer(h.loop, &h.d);
	loop_arm(h.loop, &h.t, 1000000);
	assert_int_equal(loop_add(h.loop, &h.w, fd, EPOLLIN), 0);
	assert_int_equal(eventfd_write(fd, 1), 0);
	usleep(20000); /* the thread has the event, and wants its turn */
	loop_del(h.loop, &h.w);
	loop_leave(h.loop);
	assert_true(pthread_equal(h.deferred_on, pthread_self()));
	sem_wait(&h.fired);
	assert_false(pthread_equal(h.fired_on, pthread_self()));
	loop_destroy(h.loop);
	assert_int_equal(h.told, 0);
	close(fd);
}

static void test_busy(void **state)
{
	struct host h = {0};
	pthread_t t;

	sem_init(&h.entered, 0, 0);
	sem_init(&h.leave, 0, 0);
	assert_int_equal(loop_create(&h.loop, "test"), 0);
	assert_int_equal(loop_spawn(h.loop, NULL, NULL), 0);
	assert_int_equal(pthread_create(&t, NULL, call_stay, &h), 0);
	sem_wait(&h.entered);
	assert_false(loop_visit(h.loop));
	sem_post(&h.leave);
	pthread_join(t, NULL);
	enter_as_visitor(&h);
	loop_leave(h.loop);
	loop_destroy(h.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delete_in_batch),
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_deferred),
		cmocka_unit_test(test_visits),
		cmocka_unit_test(test_visitor),
		cmocka_unit_test(test_busy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
