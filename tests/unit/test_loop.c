// SPDX-License-Identifier: MIT
// The loop: watches, deletion inside a batch, timers in order, calls from many threads.
#include "base/loop.h"
#include "tests/unit/test.h"

#include "base/util.h"

#include <pthread.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delete_in_batch),
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_deferred),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
