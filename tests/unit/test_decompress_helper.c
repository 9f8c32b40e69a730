// SPDX-License-Identifier: MIT
// The process that decompresses clusters: many at a time, broken data, its death, one that is not
// what it should be.
#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/util.h"
#include "loader/unpack/clusters.h"
#include "vmm/decompress_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <zlib.h>
#include <zstd.h>

#define CLUSTER KIB(64)
#define SLOTS 40u /* more than it has at the same time */

static const char *program; /* the helper's file */
static struct loop *loop;
static struct decompress_helper h;
static unsigned ended;
static char why_ended[64];
static bool late; /* nothing comes in time */

struct slot {
	struct decompress_job job;
	uint8_t plain[CLUSTER];
	unsigned left; /* of times that it is to be done again */
	unsigned done;
	int rc;
};

static struct slot slots[SLOTS];

int __real_fd_await(int fd, short events, uint64_t deadline_ns);
int __wrap_fd_await(int fd, short events, uint64_t deadline_ns);

int __wrap_fd_await(int fd, short events, uint64_t deadline_ns)
{
	return late ? -ETIMEDOUT : __real_fd_await(fd, events, deadline_ns);
}

static int open_program(const char *name)
{
	assert_string_equal(name, "kvick-unpack");
	return open(program, O_RDONLY | O_CLOEXEC);
}

static int open_nothing(const char *name)
{
	return fail(ENOENT, "%s: not found", name);
}

/* A sanitizer makes calls of its own, which no filter of ours allows. */
static enum jail_mode mode(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return JAIL_OFF;
#else
	return JAIL_KILL;
#endif
}

static void note_end(void *arg, const char *why)
{
	ended++;
	snprintf(why_ended, sizeof(why_ended), "%s", why);
}

static void start(void)
{
	assert_int_equal(loop_create(&loop, "test"), 0);
	ended = 0;
	if (decompress_helper_start(&h, mode(), open_program, 0))
		fail_msg("%s", last_error());
	h.ended = note_end;
}

static void finish(void)
{
	decompress_helper_unwatch(&h);
	decompress_helper_finish(&h);
	loop_destroy(loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
}

static void done(struct decompress_job *j, int rc)
{
	struct slot *s = container_of(j, struct slot, job);

	s->rc = rc;
	s->done++;
	if (rc || !s->left)
		return;
	s->left--;
	assert_memory_equal(j->to, s->plain, CLUSTER);
	memset(j->to, 0, CLUSTER);
	h.decompressor.submit(&h.decompressor, j);
}

static size_t pack_zlib(const uint8_t *plain, uint8_t *to, size_t cap, int bits)
{
	z_stream s = {.avail_in = CLUSTER, .next_out = to, .avail_out = (unsigned)cap};

	memcpy(&s.next_in, &plain, sizeof(plain));
	assert_int_equal(deflateInit2(&s, 1, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
	deflateEnd(&s);
	return s.total_out;
}

/* Each slot another kind, and what comes after the data is something. */
static void fill(struct slot *s, unsigned n)
{
	uint8_t *from = h.decompressor.buffer(&h.decompressor, CLUSTER + 512);
	uint8_t *to = h.decompressor.buffer(&h.decompressor, CLUSTER);
	size_t len;

	assert_true(from && to && (uintptr_t)from % 4096 == 0 && (uintptr_t)to % 4096 == 0);
	*s = (struct slot){.job = {.kind = (enum decompress_kind)(n % 3), .done = done}};
	for (unsigned i = 0; i < CLUSTER; i++)
		s->plain[i] = (uint8_t)((i >> 4) * 2654435761u * (n + 1) >> 24);
	if (s->job.kind == DECOMPRESS_ZSTD)
		len = ZSTD_compress(from, CLUSTER, s->plain, CLUSTER, 1);
	else
		len = pack_zlib(
			s->plain, from, CLUSTER, s->job.kind == DECOMPRESS_ZLIB ? MAX_WBITS : -12);
	assert_true(len > 100 && len <= CLUSTER);
	memset(from + len, 0xee, 512);
	s->job.from = from;
	s->job.from_len = len + 512;
	s->job.to = to;
	s->job.to_len = CLUSTER;
}

static void fill_all(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		fill(&slots[i], i);
}

static void submit_all(unsigned again)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		slots[i].left = again;
		slots[i].done = 0;
		h.decompressor.submit(&h.decompressor, &slots[i].job);
	}
}

static void check_all(unsigned times, int rc)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		assert_int_equal(slots[i].done, times);
		assert_int_equal(slots[i].rc, rc);
		if (!rc)
			assert_memory_equal(slots[i].job.to, slots[i].plain, CLUSTER);
	}
}

/* Before there is a loop for it, as when a disk is opened. */
static void test_drain(void **state)
{
	start();
	fill_all();
	submit_all(20);
	assert_int_equal(h.decompressor.drain(&h.decompressor), 0);
	check_all(21, 0);
	finish();
}

static void stop_when_done(void *arg)
{
	unsigned count = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		count += slots[i].done == 21;
	if (count == SLOTS || ended)
		loop_stop(loop);
	else
		loop_arm(loop, arg, 1000000);
}

static void run_loop(void)
{
	struct timer t = TIMER_INIT(stop_when_done, &t);

	loop_arm(loop, &t, 1000000);
	assert_int_equal(loop_run(loop), 0);
	loop_disarm(loop, &t);
}

static void test_loop(void **state)
{
	start();
	assert_int_equal(decompress_helper_watch(&h, loop), 0);
	fill_all();
	submit_all(20);
	run_loop();
	check_all(21, 0);
	finish();
}

static void test_broken(void **state)
{
	struct slot *s = &slots[0];

	start();
	for (unsigned n = 0; n < 3; n++) {
		fill(s, n);
		s->job.from_len = 100;
		submit_all(0);
		h.decompressor.drain(&h.decompressor);
		assert_int_equal(s->rc, -EINVAL);
		fill(s, n);
		s->job.to_len -= 512;
		s->job.to_len *= 2;
		submit_all(0);
		h.decompressor.drain(&h.decompressor);
		assert_int_equal(s->rc, -EINVAL);
		fill(s, n);
		memset((uint8_t *)(uintptr_t)s->job.from + 50, 0xff, 100);
		submit_all(0);
		h.decompressor.drain(&h.decompressor);
		assert_true(s->rc == -EINVAL || memcmp(s->job.to, s->plain, CLUSTER));
	}
	assert_int_equal(ended, 0);
	finish();
}

static void test_no_more_memory(void **state)
{
	struct decompressor *d = &h.decompressor;

	start();
	assert_non_null(d->buffer(d, DECOMPRESS_MEMORY - MIB(1)));
	assert_null(d->buffer(d, MIB(2)));
	assert_non_null(d->buffer(d, MIB(1)));
	assert_null(d->buffer(d, 1));
	finish();
}

/* What it has and what is asked afterwards is an error, and it is waited for. */
static void check_dead(unsigned before)
{
	for (unsigned i = 0; i < SLOTS; i++)
		assert_int_equal(slots[i].rc, -EIO);
	assert_int_equal(ended, before + 1);
	submit_all(20);
	check_all(1, -EIO);
	assert_int_equal(h.decompressor.drain(&h.decompressor), 0);
	assert_int_equal(ended, before + 1);
}

static void test_dies(void **state)
{
	start();
	assert_int_equal(decompress_helper_watch(&h, loop), 0);
	assert_int_equal(decompress_helper_reap(&h, loop), 0);
	fill_all();
	kill(h.process.pid, SIGSTOP);
	submit_all(20);
	kill(h.process.pid, SIGKILL);
	run_loop();
	check_dead(0);
	assert_string_equal(why_ended, "kvick-unpack has ended");
	for (unsigned i = 0; i < 1000 && h.process.pid; i++) {
		ended = 0;
		for (unsigned n = 0; n < SLOTS; n++)
			slots[n].done = 21;
		run_loop();
	}
	assert_int_equal(h.process.pid, 0);
	finish();
}

/* One that does nothing is given up, and has to end. */
static void test_hangs(void **state)
{
	start();
	fill_all();
	kill(h.process.pid, SIGSTOP);
	submit_all(20);
	late = true;
	assert_int_equal(h.decompressor.drain(&h.decompressor), 0);
	late = false;
	check_dead(0);
	assert_string_equal(why_ended, "kvick-unpack does not answer");
	kill(h.process.pid, SIGCONT);
	finish();
}

/* ---- from one process to another ---- */

static void test_hand_over(void **state)
{
	struct decompress_helper first;
	int files[DECOMPRESS_FILES], given[DECOMPRESS_FILES], child;

	start();
	child = h.process.pid;
	first = h;
	decompress_helper_files(&first, files);
	for (unsigned i = 0; i < DECOMPRESS_FILES; i++)
		given[i] = dup(files[i]);
	decompress_helper_hand_over(&first);
	assert_int_equal(decompress_helper_adopt(&h, given), 0);
	assert_true(given[0] == -1 && given[1] == -1);
	assert_int_equal(decompress_helper_reap(&h, loop), 0);
	fill_all();
	submit_all(20);
	h.decompressor.drain(&h.decompressor);
	check_all(21, 0);
	decompress_helper_finish(&h);
	assert_int_equal(waitpid(child, NULL, 0), child);
	loop_destroy(loop);
}

/* Whatever is at the other end: `answer` is what it says to the first job. */
static void check_answer(const void *answer, size_t len, const char *why)
{
	int pair[2], memory, given[DECOMPRESS_FILES];
	struct cluster_job got;

	assert_int_equal(loop_create(&loop, "test"), 0);
	memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(memory, (off_t)DECOMPRESS_MEMORY), 0);
	assert_int_equal(fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	given[0] = pair[0];
	given[1] = memory;
	assert_int_equal(decompress_helper_adopt(&h, given), 0);
	h.ended = note_end;
	ended = 0;
	fill_all();
	submit_all(20);
	assert_int_equal(read(pair[1], &got, sizeof(got)), sizeof(got));
	assert_int_equal(got.to, (uint8_t *)slots[got.number].job.to - h.at);
	assert_int_equal(send(pair[1], answer, len, 0), len);
	assert_int_equal(h.decompressor.drain(&h.decompressor), 0);
	check_dead(0);
	assert_string_equal(why_ended, why);
	decompress_helper_finish(&h);
	close(pair[1]);
	loop_destroy(loop);
}

static void test_strange(void **state)
{
	const struct cluster_answer none = {.number = DECOMPRESS_JOBS};
	const struct cluster_answer far = {.number = UINT32_MAX};
	const uint8_t half[3] = {0};

	check_answer(&none, sizeof(none), "kvick-unpack makes no sense");
	check_answer(&far, sizeof(far), "kvick-unpack makes no sense");
	check_answer(half, sizeof(half), "kvick-unpack makes no sense");
}

static void test_not_such(void **state)
{
	int pair[2], given[DECOMPRESS_FILES];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	given[0] = pair[0];
	given[1] = pair[1];
	assert_int_equal(decompress_helper_adopt(&h, given), -EINVAL);
	assert_string_equal(last_error(), "a descriptor is no socket of kvick-unpack");
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	given[0] = pair[0];
	given[1] = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(given[1], (off_t)DECOMPRESS_MEMORY), 0);
	assert_int_equal(decompress_helper_adopt(&h, given), -EINVAL);
	assert_string_equal(last_error(), "a descriptor has not the memory of kvick-unpack");
	assert_true(given[0] == pair[0] && given[1] >= 0);
	decompress_helper_finish(&h);
	close(given[0]);
	close(given[1]);
	close(pair[1]);
}

static void test_is_not_there(void **state)
{
	assert_int_equal(decompress_helper_start(&h, mode(), open_nothing, 0), -ENOTSUP);
	assert_string_equal(last_error(), "kvick-unpack: not found");
	decompress_helper_finish(&h);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_loop),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_no_more_memory),
		cmocka_unit_test(test_dies),
		cmocka_unit_test(test_hangs),
		cmocka_unit_test(test_hand_over),
		cmocka_unit_test(test_strange),
		cmocka_unit_test(test_not_such),
		cmocka_unit_test(test_is_not_there),
	};

	program = argv[argc - 1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
