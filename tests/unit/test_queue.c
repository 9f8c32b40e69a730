// SPDX-License-Identifier: MIT
// Split rings: honest drivers at every size and index, drivers that break each rule, random
// operations.
#include "tests/unit/driver.h"
#include "tests/unit/test.h"

#include "base/iov.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#define RAM MIB(4)
#define BUFS MIB(1) /* buffers lie from here on */
#define EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TABLE VRING_DESC_F_INDIRECT

struct fixture {
	struct mem *mem;
	struct queue q;
	struct driver d;
	struct queue_host host;
	unsigned calls, breaks;
	char why[200];
	struct iovec iov[QUEUE_SIZE_MAX];
	struct queue_elem e;
};

static void on_call(void *arg, unsigned index)
{
	struct fixture *f = arg;

	f->calls++;
}

static void on_break(void *arg, const char *why)
{
	struct fixture *f = arg;

	f->breaks++;
	snprintf(f->why, sizeof(f->why), "%s", why);
}

static void check_says(const char *text, const char *what)
{
	if (!strstr(text, what))
		print_error("\"%s\" does not say \"%s\"\n", text, what);
	assert_non_null(strstr(text, what));
}

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	assert_int_equal(mem_create(&f.mem, RAM, MEM_PRIVATE), 0);
	f.host = (struct queue_host){.raise = on_call, .broken = on_break, .arg = &f};
	f.e = (struct queue_elem){.iov = f.iov, .cap = QUEUE_SIZE_MAX};
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	mem_destroy(f->mem);
	return 0;
}

static void begin(struct fixture *f, uint16_t size, uint16_t at, uint64_t features)
{
	driver_init(&f->d, f->mem, 0x1000, size, at);
	f->calls = f->breaks = 0;
	assert_int_equal(queue_start(&f->q, f->mem, &f->d.setup, features, &f->host), 0);
	f->q.index = 5;
}

/* ---- Honest drivers ---- */

static void test_one_request(void **state)
{
	struct fixture *f = *state;
	uint32_t id = 0, len = 0;
	char got[8] = "";

	begin(f, 8, 0, 0);
	assert_false(queue_pop(&f->q, &f->e));
	mem_write(f->mem, BUFS, "hello", 6);
	driver_desc(&f->d, 3, BUFS, 2, NEXT);
	driver_desc(&f->d, 4, BUFS + 2, 4, NEXT);
	driver_desc(&f->d, 5, BUFS + 64, 32, NEXT | WRITE);
	driver_desc(&f->d, 6, BUFS + 128, 1, WRITE);
	driver_offer(&f->d, 3);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.head, 3);
	assert_int_equal(f->e.out_n, 2);
	assert_int_equal(f->e.in_n, 2);
	assert_int_equal(f->e.out_len, 6);
	assert_int_equal(f->e.in_len, 33);
	assert_int_equal(iov_read(f->e.iov, f->e.out_n, 0, got, sizeof(got)), 6);
	assert_string_equal(got, "hello");
	assert_false(queue_pop(&f->q, &f->e));
	queue_push(&f->q, &f->e, 33);
	queue_notify(&f->q);
	assert_true(driver_reap(&f->d, &id, &len));
	assert_int_equal(id, 3);
	assert_int_equal(len, 33);
	assert_false(driver_reap(&f->d, &id, &len));
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->breaks, 0);
}

static void round_trip(struct fixture *f, uint16_t head, uint32_t want_len)
{
	uint32_t id = 0, len = 0;

	driver_desc(&f->d, head, BUFS + head * 64, 64, WRITE);
	driver_offer(&f->d, head);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.head, head);
	queue_push(&f->q, &f->e, want_len);
	assert_true(driver_reap(&f->d, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, want_len);
}

/* Through the end of the ring at every size, and through 65536 of the indices. */
static void test_wrap(void **state)
{
	struct fixture *f = *state;

	for (unsigned size = 1; size <= QUEUE_SIZE_MAX; size *= 2) {
		const uint16_t starts[] = {0, (uint16_t)(65536 - size), 65535, 32767};

		for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
			begin(f, (uint16_t)size, starts[s], EVENT_IDX);
			for (unsigned i = 0; i < 2 * size + 3; i++)
				round_trip(f, (uint16_t)(i * 7 % size), i % 65);
			assert_int_equal(f->breaks, 0);
		}
	}
}

static void test_full_ring(void **state)
{
	struct fixture *f = *state;
	uint16_t heads[QUEUE_SIZE_MAX];
	uint32_t id = 0, len = 0;

	for (unsigned size = 1; size <= QUEUE_SIZE_MAX; size *= 2) {
		begin(f, (uint16_t)size, (uint16_t)(65536 - size / 2), 0);
		for (unsigned i = 0; i < size; i++) {
			driver_desc(&f->d, (uint16_t)i, BUFS + i, 1, WRITE);
			driver_offer(&f->d, (uint16_t)i);
		}
		for (unsigned i = 0; i < size; i++) {
			assert_true(queue_pop(&f->q, &f->e));
			heads[i] = f->e.head;
		}
		assert_false(queue_pop(&f->q, &f->e));
		for (unsigned i = size; i-- > 0;) { /* out of order */
			f->e.head = heads[i];
			queue_push(&f->q, &f->e, 1);
		}
		for (unsigned i = size; i-- > 0;) {
			assert_true(driver_reap(&f->d, &id, &len));
			assert_int_equal(id, i);
		}
		assert_int_equal(f->breaks, 0);
	}
}

static void make_table(struct fixture *f, uint64_t at, unsigned n, unsigned last_flags)
{
	for (unsigned i = 0; i < n; i++) {
		struct vring_desc d = {.addr = BUFS + i * 16ull,
			.len = 16,
			.flags = (uint16_t)(i + 1 < n ? NEXT : last_flags),
			.next = (uint16_t)(i + 1)};

		mem_write(f->mem, at + i * sizeof(d), &d, sizeof(d));
	}
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;

	begin(f, 4, 0, INDIRECT);
	make_table(f, MIB(2), 100, WRITE);
	driver_desc(&f->d, 0, MIB(2), 1600, TABLE | WRITE); /* WRITE is to be ignored here */
	driver_offer(&f->d, 0);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.out_n, 99);
	assert_int_equal(f->e.in_n, 1);
	/* A direct buffer, then a table. */
	make_table(f, MIB(2), 3, 0);
	driver_desc(&f->d, 1, BUFS, 7, NEXT);
	driver_desc(&f->d, 2, MIB(2), 48, TABLE);
	driver_offer(&f->d, 1);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.out_n, 4);
	assert_int_equal(f->e.out_len, 7 + 48);
	/* The largest there may be. */
	make_table(f, MIB(2), QUEUE_SIZE_MAX, 0);
	driver_desc(&f->d, 1, MIB(2), QUEUE_SIZE_MAX * 16, TABLE);
	driver_offer(&f->d, 1);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.out_n, QUEUE_SIZE_MAX);
	assert_int_equal(f->breaks, 0);
}

static void test_unpop(void **state)
{
	struct fixture *f = *state;

	begin(f, 2, 65535, EVENT_IDX);
	driver_desc(&f->d, 1, BUFS, 8, WRITE);
	driver_offer(&f->d, 1);
	driver_desc(&f->d, 0, BUFS, 9, WRITE);
	driver_offer(&f->d, 0);
	assert_true(queue_pop(&f->q, &f->e));
	assert_true(queue_pop(&f->q, &f->e));
	queue_unpop(&f->q, 1);
	assert_true(queue_pending(&f->q));
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.head, 0);
	assert_false(queue_pending(&f->q));
	queue_unpop(&f->q, 2);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.head, 1);
}

/* The driver sees both of two that belong together, or none. */
static void test_put_together(void **state)
{
	struct fixture *f = *state;
	uint32_t id, len;

	begin(f, 2, 65535, 0);
	for (uint16_t i = 0; i < 2; i++) {
		driver_desc(&f->d, i, BUFS + i * 64, 8, WRITE);
		driver_offer(&f->d, i);
	}
	for (uint16_t i = 0; i < 2; i++) {
		assert_true(queue_pop(&f->q, &f->e));
		queue_put(&f->q, &f->e, 7u + i);
		assert_false(driver_reap(&f->d, &id, &len));
	}
	queue_publish(&f->q);
	for (uint16_t i = 0; i < 2; i++) {
		assert_true(driver_reap(&f->d, &id, &len));
		assert_int_equal(id, i);
		assert_int_equal(len, 7 + i);
	}
	queue_notify(&f->q);
	assert_int_equal(f->calls, 1);
	f->d.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	driver_offer(&f->d, 0);
	assert_true(queue_pop(&f->q, &f->e));
	queue_push(&f->q, &f->e, 0);
	queue_notify(&f->q);
	queue_notify(&f->q);
	assert_int_equal(f->q.calls, 1);
	assert_int_equal(f->q.calls_spared, 1);
}

/* What was taken and not given back is taken again by its head, after another owner too. */
static void test_pop_again(void **state)
{
	struct fixture *f = *state;
	struct queue_setup setup;

	begin(f, 4, 65535, EVENT_IDX);
	for (uint16_t i = 0; i < 3; i++) {
		driver_desc(&f->d, i, BUFS + i * 64, 8u + i, WRITE);
		driver_offer(&f->d, i);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_true(queue_pop(&f->q, &f->e));
	queue_push(&f->q, &f->e, 0);
	setup = f->d.setup;
	queue_stop(&f->q, &setup);
	assert_false(queue_pop_again(&f->q, &f->e, 1));
	assert_int_equal(queue_start(&f->q, f->mem, &setup, EVENT_IDX, &f->host), 0);
	assert_true(queue_pop_again(&f->q, &f->e, 1));
	assert_int_equal(f->e.head, 1);
	assert_int_equal(f->e.in_len, 9);
	queue_push(&f->q, &f->e, 9);
	assert_true(queue_pop_again(&f->q, &f->e, 0));
	assert_int_equal(f->e.in_len, 8);
	queue_push(&f->q, &f->e, 8);
	assert_int_equal(f->d.used->ring[0].id, 1);
	assert_int_equal(f->d.used->ring[1].id, 0);
	assert_false(queue_pending(&f->q));
	assert_false(queue_pop_again(&f->q, &f->e, 4));
	assert_int_equal(f->breaks, 1);
	check_says(f->why, "descriptor 4 of a table of 4");
}

static void test_copied_once(void **state)
{
	struct fixture *f = *state;
	struct iovec before;

	begin(f, 4, 0, 0);
	driver_desc(&f->d, 0, BUFS, 16, WRITE);
	driver_offer(&f->d, 0);
	assert_true(queue_pop(&f->q, &f->e));
	before = f->e.iov[0];
	driver_desc(&f->d, 0, UINT64_MAX, UINT32_MAX, NEXT);
	f->d.avail->ring[0] = 0xffff;
	assert_ptr_equal(f->e.iov[0].iov_base, before.iov_base);
	queue_push(&f->q, &f->e, 16);
	assert_int_equal(f->d.used->ring[0].id, 0);
	assert_int_equal(f->d.used->ring[0].len, 16);
	assert_int_equal(f->breaks, 0);
}

static void test_handover(void **state)
{
	struct fixture *f = *state;
	struct queue_setup s;

	begin(f, 4, 65534, EVENT_IDX);
	for (unsigned i = 0; i < 3; i++)
		round_trip(f, (uint16_t)i, 8);
	driver_desc(&f->d, 3, BUFS, 8, WRITE);
	driver_offer(&f->d, 3);
	s = f->d.setup;
	queue_stop(&f->q, &s);
	assert_int_equal(s.next_avail, 1);
	assert_int_equal(s.next_used, 1);
	assert_false(queue_live(&f->q));
	assert_false(queue_pop(&f->q, &f->e));
	assert_false(queue_enable_kicks(&f->q));
	queue_push(&f->q, &f->e, 0);
	queue_notify(&f->q);
	assert_int_equal(f->d.used->idx, 1);
	/* Another owner goes on where this one stopped. */
	assert_int_equal(queue_start(&f->q, f->mem, &s, EVENT_IDX, &f->host), 0);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(f->e.head, 3);
}

static void test_dirty(void **state)
{
	struct fixture *f = *state;
	uint64_t bits[RAM / 4096 / 64];

	begin(f, 4, 0, EVENT_IDX);
	driver_desc(&f->d, 0, BUFS + 4090, 100, NEXT | WRITE);
	driver_desc(&f->d, 1, MIB(2), 8192, WRITE);
	driver_offer(&f->d, 0);
	assert_true(queue_pop(&f->q, &f->e));
	assert_int_equal(mem_track_start(f->mem), 0);
	queue_push(&f->q, &f->e, 101);
	mem_track_take(f->mem, 0, bits);
	assert_int_equal(bits[0], 1 << 1);             /* the used ring */
	assert_int_equal(bits[BUFS / 4096 / 64], 3);   /* both pages of the first buffer */
	assert_int_equal(bits[MIB(2) / 4096 / 64], 1); /* one byte of the second */
	queue_enable_kicks(&f->q);
	mem_track_take(f->mem, 0, bits);
	assert_int_equal(bits[0], 1 << 1);
	mem_track_stop(f->mem);
}

/* ---- Notifications ---- */

static void push_one(struct fixture *f)
{
	driver_desc(&f->d, 0, BUFS, 8, WRITE);
	driver_offer(&f->d, 0);
	assert_true(queue_pop(&f->q, &f->e));
	queue_push(&f->q, &f->e, 8);
}

static void test_interrupt_flag(void **state)
{
	struct fixture *f = *state;

	begin(f, 4, 0, 0);
	push_one(f);
	queue_notify(&f->q);
	queue_notify(&f->q);
	assert_int_equal(f->calls, 1); /* nothing new: no second one */
	f->d.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	push_one(f);
	queue_notify(&f->q);
	assert_int_equal(f->calls, 1);
	f->d.avail->flags = 0;
	push_one(f);
	queue_notify(&f->q);
	assert_int_equal(f->calls, 2);
}

/* The rule of 2.7.10: an interrupt where the event lies among what was used since the last look. */
static void test_interrupt_event(void **state)
{
	struct fixture *f = *state;
	const uint16_t starts[] = {0, 100, 65530, 32765};

	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++)
		for (int event = -4; event < 8; event++)
			for (int batch = 1; batch <= 4; batch++) {
				begin(f, 4, starts[s], EVENT_IDX);
				driver_want_call(&f->d, starts[s]);
				push_one(f);
				queue_notify(&f->q); /* the first is always told */
				assert_int_equal(f->calls, 1);
				driver_want_call(&f->d, (uint16_t)(starts[s] + 1 + event));
				for (int i = 0; i < batch; i++)
					push_one(f);
				queue_notify(&f->q);
				assert_int_equal(f->calls, event >= 0 && event < batch ? 2 : 1);
			}
}

static void test_kicks(void **state)
{
	struct fixture *f = *state;

	begin(f, 4, 0, 0);
	queue_disable_kicks(&f->q);
	assert_int_equal(f->d.used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(queue_enable_kicks(&f->q));
	assert_int_equal(f->d.used->flags, 0);
	driver_desc(&f->d, 0, BUFS, 8, WRITE);
	driver_offer(&f->d, 0);
	assert_true(queue_enable_kicks(&f->q));

	begin(f, 4, 65535, EVENT_IDX);
	assert_false(queue_enable_kicks(&f->q));
	assert_int_equal(driver_kick_event(&f->d), 65535);
	push_one(f);
	queue_disable_kicks(&f->q);
	assert_int_equal(f->d.used->flags, 0);
	assert_int_equal(driver_kick_event(&f->d), 65535);
	assert_false(queue_enable_kicks(&f->q));
	assert_int_equal(driver_kick_event(&f->d), 0);
}

/* ---- Drivers that break the rules ---- */

static void expect_broken(struct fixture *f, const char *why)
{
	assert_false(queue_pop(&f->q, &f->e));
	assert_int_equal(f->breaks, 1);
	check_says(f->why, why);
	assert_false(queue_live(&f->q));
	/* It stays so, and says so once. */
	assert_false(queue_pop(&f->q, &f->e));
	assert_false(queue_pending(&f->q));
	queue_push(&f->q, &f->e, 0);
	queue_notify(&f->q);
	assert_int_equal(f->breaks, 1);
	assert_int_equal(f->calls, 0);
	assert_int_equal(f->d.used->idx, f->d.used_next);
}

struct bad_chain {
	const char *why;
	uint16_t head;
	unsigned n;
	struct vring_desc d[3];
};

static void test_bad_chains(void **state)
{
	static const struct bad_chain bad[] = {
		{"descriptor 8 of a table of 8", 8, 0, {{0}}},
		{"descriptor 65535 of", 65535, 0, {{0}}},
		{"descriptor 9 of", 0, 1, {{BUFS, 1, NEXT, 9}}},
		{"it has a loop", 0, 1, {{BUFS, 1, NEXT, 0}}},
		{"it has a loop", 0, 2, {{BUFS, 1, NEXT, 1}, {BUFS, 1, NEXT, 0}}},
		{"has no length", 0, 1, {{BUFS, 0, 0, 0}}},
		{"has no length", 0, 2, {{BUFS, 1, NEXT, 1}, {BUFS, 0, WRITE, 0}}},
		{"not in RAM", 0, 1, {{RAM, 1, 0, 0}}},
		{"not in RAM", 0, 1, {{RAM - 1, 2, WRITE, 0}}},
		{"not in RAM", 0, 1, {{0, UINT32_MAX, 0, 0}}},
		{"not in RAM", 0, 1, {{UINT64_MAX, 1, 0, 0}}},
		{"not in RAM", 0, 1, {{UINT64_MAX - 7, 16, WRITE, 0}}},
		{"not in RAM", 0, 1, {{GIB(3), 4096, 0, 0}}},
		{"after one to be written", 0, 2, {{BUFS, 1, NEXT | WRITE, 1}, {BUFS, 1, 0, 0}}},
		{"has a next one", 0, 1, {{MIB(2), 16, TABLE | NEXT, 1}}},
		{"table of 0 bytes", 0, 1, {{MIB(2), 0, TABLE, 0}}},
		{"table of 15 bytes", 0, 1, {{MIB(2), 15, TABLE, 0}}},
		{"table of 17 bytes", 0, 1, {{MIB(2), 17, TABLE, 0}}},
		{"table of 1025 descriptors", 0, 1, {{MIB(2), 1025 * 16, TABLE, 0}}},
		{"table of 268435455 descriptors", 0, 1, {{MIB(2), 0xfffffff0, TABLE, 0}}},
		{"table of 32 bytes at 0x3ffff0 is not", 0, 1, {{RAM - 16, 32, TABLE, 0}}},
		{"table of 16 bytes at 0xfffffffffffffff8", 0, 1, {{-8ull, 16, TABLE, 0}}},
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		begin(f, 8, 0, INDIRECT);
		memcpy(f->d.desc, bad[i].d, bad[i].n * sizeof(bad[i].d[0]));
		driver_offer(&f->d, bad[i].head);
		expect_broken(f, bad[i].why);
	}
}

static void offer_table(struct fixture *f, const struct vring_desc *d, unsigned n)
{
	mem_write(f->mem, MIB(2), d, n * sizeof(*d));
	driver_desc(&f->d, 0, MIB(2), n * 16, TABLE);
	driver_offer(&f->d, 0);
}

static void test_bad_tables(void **state)
{
	struct fixture *f = *state;
	const struct vring_desc nested[] = {{BUFS, 1, NEXT, 1}, {MIB(2), 32, TABLE, 0}};
	const struct vring_desc loop[] = {{BUFS, 1, NEXT, 1}, {BUFS, 1, NEXT, 0}};
	const struct vring_desc out[] = {{BUFS, 1, NEXT, 2}, {BUFS, 1, 0, 0}};
	const struct vring_desc self[] = {{0x1000, 16, TABLE, 0}};

	begin(f, 8, 0, INDIRECT);
	offer_table(f, nested, 2);
	expect_broken(f, "indirect descriptor in an indirect table");
	begin(f, 8, 0, INDIRECT);
	offer_table(f, loop, 2);
	expect_broken(f, "it has a loop");
	begin(f, 8, 0, INDIRECT);
	offer_table(f, out, 2);
	expect_broken(f, "descriptor 2 of a table of 2");
	begin(f, 8, 0,
		INDIRECT); /* a table that is the queue's own, which holds an indirect descriptor */
	offer_table(f, self, 1);
	f->d.desc[0] = self[0];
	expect_broken(f, "indirect descriptor in an indirect table");
	begin(f, 8, 0, 0);
	offer_table(f, out, 1);
	expect_broken(f, "not negotiated");
}

static void test_bad_indices(void **state)
{
	struct fixture *f = *state;

	for (unsigned jump = 9; jump < 65536; jump = jump * 3 + 1) {
		begin(f, 8, 60000, 0);
		f->d.avail->idx = (uint16_t)(60000 + jump);
		expect_broken(f, "available at once in a ring of 8");
	}
}

static void test_too_much(void **state)
{
	struct fixture *f = *state;

	begin(f, 8, 0, 0);
	f->e.cap = 2;
	for (uint16_t i = 0; i < 3; i++)
		driver_desc(&f->d, i, BUFS, 1, i < 2 ? NEXT : 0);
	driver_offer(&f->d, 1);
	assert_true(queue_pop(&f->q, &f->e));
	driver_offer(&f->d, 0);
	expect_broken(f, "more than 2 buffers");
	/* 4 GiB in all from the same 3 MiB again and again. */
	f->e.cap = QUEUE_SIZE_MAX;
	begin(f, 1024, 0, INDIRECT);
	for (unsigned i = 0; i < 1024; i++) {
		struct vring_desc d = {0, (uint32_t)RAM, (uint16_t)(i < 1023 ? NEXT : 0), 0};

		d.next = (uint16_t)(i + 1);
		mem_write(f->mem, MIB(3) + i * 16ull, &d, 16);
	}
	driver_desc(&f->d, 0, MIB(3), 1024 * 16, TABLE);
	driver_offer(&f->d, 0);
	expect_broken(f, "4 GiB or more");
}

static void refuse(struct fixture *f, const struct queue_setup *s, const char *why)
{
	assert_int_equal(queue_start(&f->q, f->mem, s, 0, &f->host), -EINVAL);
	check_says(last_error(), why);
	assert_false(queue_live(&f->q));
}

static void test_bad_setups(void **state)
{
	struct fixture *f = *state;
	const struct queue_setup good = {
		.size = 8, .desc = 0x1000, .avail = 0x2000, .used = 0x3000};
	struct queue_setup s;

#define REFUSE(field, value, why)                                                                  \
	do {                                                                                       \
		s = good;                                                                          \
		s.field = (value);                                                                 \
		refuse(f, &s, why);                                                                \
	} while (0)
	for (unsigned size = 0; size < 65536; size++)
		if (size == 0 || size > QUEUE_SIZE_MAX || (size & (size - 1)))
			REFUSE(size, (uint16_t)size, "power of two");
	REFUSE(desc, 0x1008, "descriptor table at 0x1008 is not aligned to 16");
	REFUSE(avail, 0x2001, "available ring at 0x2001 is not aligned to 2");
	REFUSE(used, 0x3002, "used ring at 0x3002 is not aligned to 4");
	REFUSE(desc, RAM - 64, "descriptor table of 128 bytes");
	REFUSE(avail, RAM - 20, "available ring of 22 bytes");
	REFUSE(used, RAM - 68, "used ring of 70 bytes");
	REFUSE(desc, -16ull, "not in RAM");
	REFUSE(used, -4ull, "not in RAM");
#undef REFUSE
	s = good; /* up to the last byte */
	s.avail = RAM - 22;
	assert_int_equal(queue_start(&f->q, f->mem, &s, 0, &f->host), 0);
	queue_stop(&f->q, &s);
}

/* ---- Random operations against a model ---- */

struct model {
	uint32_t seed;
	bool offered[64], taken[64]; /* by head; one descriptor a request */
	uint16_t order[65536];       /* heads in the order offered */
	uint64_t offers, pops, pushes, reaps;
	uint32_t written[64];
	uint16_t pushed[65536];
};

static uint32_t rnd(struct model *m, uint32_t n)
{
	m->seed = m->seed * 1664525u + 1013904223u;
	return (m->seed >> 8) % n;
}

static void op_offer(struct fixture *f, struct model *m)
{
	uint16_t head = (uint16_t)rnd(m, f->d.setup.size);

	if (m->offered[head])
		return;
	driver_desc(&f->d, head, BUFS + head * 4096ull, 1 + rnd(m, 4096), WRITE);
	driver_offer(&f->d, head);
	m->offered[head] = true;
	m->order[m->offers++ % 65536] = head;
}

static void op_pop(struct fixture *f, struct model *m)
{
	bool any = m->offers > m->pops;

	assert_int_equal(queue_pending(&f->q), any);
	assert_int_equal(queue_pop(&f->q, &f->e), any);
	if (!any)
		return;
	assert_int_equal(f->e.head, m->order[m->pops++ % 65536]);
	assert_int_equal(f->e.in_len, f->d.desc[f->e.head].len);
	assert_ptr_equal(f->e.iov[0].iov_base, mem_get(f->mem, BUFS + f->e.head * 4096ull, 1));
	m->taken[f->e.head] = true;
}

static void op_push(struct fixture *f, struct model *m)
{
	uint16_t head = (uint16_t)rnd(m, f->d.setup.size);
	struct iovec v = {mem_get(f->mem, BUFS + head * 4096ull, 4096), f->d.desc[head].len};
	struct queue_elem e = {.iov = &v, .head = head, .in_n = 1, .in_len = (uint32_t)v.iov_len};

	if (!m->taken[head])
		return;
	m->written[head] = rnd(m, e.in_len + 1);
	queue_push(&f->q, &e, m->written[head]);
	m->taken[head] = false;
	m->pushed[m->pushes++ % 65536] = head;
}

static void op_reap(struct fixture *f, struct model *m)
{
	uint32_t id = 0, len = 0;

	assert_int_equal(driver_reap(&f->d, &id, &len), m->pushes > m->reaps);
	if (m->pushes == m->reaps)
		return;
	assert_int_equal(id, m->pushed[m->reaps++ % 65536]);
	assert_int_equal(len, m->written[id]);
	m->offered[id] = false;
}

static void op_handover(struct fixture *f, struct model *m)
{
	struct queue_setup s = f->d.setup;

	if (rnd(m, 100))
		return;
	queue_stop(&f->q, &s);
	assert_int_equal((uint16_t)(s.next_avail - f->d.setup.next_avail), (uint16_t)m->pops);
	assert_int_equal((uint16_t)(s.next_used - f->d.setup.next_used), (uint16_t)m->pushes);
	assert_int_equal(queue_start(&f->q, f->mem, &s, EVENT_IDX, &f->host), 0);
}

static void test_random(void **state)
{
	static void (*const ops[])(struct fixture *, struct model *) = {op_offer, op_pop, op_push,
		op_reap, op_offer, op_pop, op_push, op_reap, op_handover};
	static struct model m;
	struct fixture *f = *state;

	for (unsigned size = 1; size <= 64; size *= 2) {
		m = (struct model){.seed = size};
		begin(f, (uint16_t)size, (uint16_t)(65000 + size), EVENT_IDX);
		for (unsigned i = 0; i < 100000; i++)
			ops[rnd(&m, ARRAY_SIZE(ops))](f, &m);
		assert_true(m.reaps > 1000);
		assert_int_equal(f->breaks, 0);
	}
}

/* A driver that scribbles over the rings: nothing but a broken queue may come of it. */
static void test_scribble(void **state)
{
	static struct model m;
	struct fixture *f = *state;
	uint64_t popped = 0, broken = 0;

	m = (struct model){.seed = 7};
	for (unsigned run = 0; run < 3000; run++) {
		uint16_t size = (uint16_t)(1u << rnd(&m, 8));
		uint8_t *ring;

		begin(f, size, (uint16_t)rnd(&m, 65536), EVENT_IDX | INDIRECT);
		for (uint16_t i = 0; i < size; i++)
			driver_desc(&f->d, i, BUFS + i, 1 + i, i + 1 < size ? rnd(&m, 8) : 2);
		for (uint16_t i = 0; i < size; i++)
			driver_offer(&f->d, (uint16_t)rnd(&m, size));
		ring = mem_get(f->mem, 0x1000, driver_bytes(size));
		for (unsigned i = rnd(&m, 4); i > 0; i--)
			ring[rnd(&m, (uint32_t)driver_bytes(size))] = (uint8_t)rnd(&m, 256);
		while (queue_pop(&f->q, &f->e)) {
			popped++;
			for (unsigned i = 0; i < (unsigned)f->e.out_n + f->e.in_n; i++)
				((volatile uint8_t *)f->e.iov[i].iov_base)[f->e.iov[i].iov_len - 1];
			queue_push(&f->q, &f->e, f->e.in_len);
		}
		broken += f->breaks;
	}
	assert_true(popped > 1000 && broken > 1000);
}

/* ---- A driver that changes descriptors while they are read ---- */

static atomic_bool scribbling;

static void *scribbler(void *arg)
{
	struct fixture *f = arg;
	static struct model m = {.seed = 1};

	while (scribbling) {
		struct vring_desc *d = &f->d.desc[rnd(&m, 8)];
		uint32_t r = rnd(&m, 256);

		__atomic_store_n(&d->len, r & 3 ? 16 : UINT32_MAX, __ATOMIC_RELAXED);
		__atomic_store_n(&d->addr, r & 12 ? BUFS : UINT64_MAX - 8, __ATOMIC_RELAXED);
		__atomic_store_n(&d->next, (uint16_t)(r >> 4 & 7), __ATOMIC_RELAXED);
		__atomic_store_n(&d->flags, r >> 7 ? WRITE : 0, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* Whatever is popped was judged as it is used: a length read a second time would run out of memory.
 */
static void test_scribble_in_flight(void **state)
{
	struct fixture *f = *state;
	const char *ram = mem_get(f->mem, 0, RAM);
	uint64_t end = now_ns() + NSEC_PER_SEC / 2, popped = 0, broken = 0;
	pthread_t t;

#ifdef __SANITIZE_THREAD__
	skip(); /* the race is the test */
#endif
	begin(f, 8, 0, 0);
	scribbling = true;
	assert_int_equal(pthread_create(&t, NULL, scribbler, f), 0);
	while (now_ns() < end) {
		driver_offer(&f->d, (uint16_t)((popped + broken) % 8));
		while (queue_pop(&f->q, &f->e)) {
			uint64_t sum = 0;

			for (unsigned i = 0; i < (unsigned)f->e.out_n + f->e.in_n; i++) {
				const char *p = f->e.iov[i].iov_base;

				assert_true(p >= ram && p + f->e.iov[i].iov_len <= ram + RAM);
				sum += f->e.iov[i].iov_len;
			}
			assert_true(sum == (uint64_t)f->e.out_len + f->e.in_len);
			queue_push(&f->q, &f->e, 0);
			popped++;
		}
		if (queue_live(&f->q))
			continue;
		broken++;
		f->d.setup.next_avail = f->d.setup.next_used = f->d.avail_next;
		assert_int_equal(queue_start(&f->q, f->mem, &f->d.setup, 0, &f->host), 0);
	}
	scribbling = false;
	pthread_join(t, NULL);
	assert_true(popped > 100 && broken > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_request, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_indirect, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unpop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pop_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copied_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dirty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupt_flag, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupt_event, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kicks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_chains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_tables, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_indices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_much, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_setups, setup, teardown),
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scribble, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scribble_in_flight, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
