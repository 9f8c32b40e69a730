// SPDX-License-Identifier: MIT
// The engine over io_uring: a batch of requests is one system call.
//
// No more requests are in the kernel than the submission queue has entries, and the completion
// queue has twice as many: neither can overflow, whatever waits. The ring's own descriptor says to
// the loop that there are completions. Files are registered in a table, which saves the kernel a
// look-up and a count a request; a disk past the table's end works without.
#include "blk/engine_kinds.h"

#include "base/log.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 128u
#define FILES 64
/* What the kernel had no memory for is tried again after this. */
#define RETRY_NS 1000000u

struct uring {
	struct blk_engine engine;
	struct io_uring ring;
	struct watch watch;
	unsigned inside; /* requests in the ring or in the kernel */
	bool table;      /* of files */
	bool used[FILES];
};

static struct uring *of(struct blk_engine *e)
{
	return container_of(e, struct uring, engine);
}

static void prepare_move(struct io_uring_sqe *sqe, const struct blk_request *r)
{
	bool reads = r->step == ENGINE_READ;
	uint64_t off = r->file->base + r->off + r->moved;
	struct iovec part;
	const struct iovec *iov;
	unsigned n = engine_rest(r, &part, &iov);
	int fd = r->file->fd;

	/* `part` is gone when the kernel looks. */
	if (n == 1 && reads)
		io_uring_prep_read(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, off);
	else if (n == 1)
		io_uring_prep_write(sqe, fd, iov->iov_base, (unsigned)iov->iov_len, off);
	else if (reads)
		io_uring_prep_readv(sqe, fd, iov, n, off);
	else
		io_uring_prep_writev(sqe, fd, iov, n, off);
	if (r->step == ENGINE_WRITE_DURABLE)
		sqe->rw_flags = RWF_DSYNC;
}

static void prepare(struct io_uring_sqe *sqe, struct blk_request *r)
{
	const struct engine_file *f = r->file;

	if (r->step == ENGINE_SYNC_DATA)
		io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
	else if (r->step < ENGINE_SYNC_DATA)
		prepare_move(sqe, r);
	else
		io_uring_prep_fallocate(sqe, f->fd, engine_fallocate_mode(r),
			(off_t)(f->base + r->off), (off_t)r->len);
	if (f->slot >= 0) {
		sqe->fd = f->slot;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
	io_uring_sqe_set_data(sqe, r);
}

static void fill(struct uring *u)
{
	struct io_uring_sqe *sqe;
	struct blk_request *r;

	while (u->inside < DEPTH && (r = line_take(&u->engine.line))) {
		sqe = io_uring_get_sqe(&u->ring);
		if (!sqe) {
			line_prepend(&u->engine.line, r);
			return;
		}
		prepare(sqe, r);
		u->inside++;
	}
}

/* Brings all that there is room for into the kernel. */
static int enter(struct uring *u, bool wait)
{
	int rc;

	do {
		fill(u);
		if (wait)
			rc = io_uring_submit_and_wait(&u->ring, 1);
		else if (io_uring_sq_ready(&u->ring))
			rc = io_uring_submit(&u->ring);
		else
			return 0;
	} while (rc == -EINTR || (rc > 0 && !wait));
	if (io_uring_sq_ready(&u->ring))
		loop_arm(u->engine.loop, &u->engine.again, RETRY_NS);
	if (rc < 0 && rc != -EAGAIN && rc != -EBUSY)
		return failno(-rc, "io_uring");
	return 0;
}

/* Those that were there on entry: who submits from a completion does not keep the loop. */
static void reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	bool nested = u->engine.running;

	u->engine.running = true;
	for (unsigned n = io_uring_cq_ready(&u->ring); n; n--) {
		struct blk_request *r;
		int result;

		if (io_uring_peek_cqe(&u->ring, &cqe))
			break;
		r = io_uring_cqe_get_data(cqe);
		result = cqe->res;
		io_uring_cqe_seen(&u->ring, cqe);
		u->inside--;
		engine_result(&u->engine, r, result);
	}
	u->engine.running = nested;
}

/*
 * One read alone may find its data in the page cache: asking for just that is cheaper than the
 * ring. A batch is not. What is not there, or not all of it, goes on through the ring.
 */
static void read_cached(struct uring *u)
{
	struct blk_request *r = u->engine.line.first;
	struct iovec part;
	const struct iovec *iov;
	unsigned n;
	long got;

	if (!r || r->next || r->step != ENGINE_READ || !r->file->buffered)
		return;
	n = engine_rest(r, &part, &iov);
	/* By its number, as musl has no name for it yet. The 0 is the offset's upper half. */
	got = syscall(
		SYS_preadv2, r->file->fd, iov, n, r->file->base + r->off + r->moved, 0, RWF_NOWAIT);
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		r->file->buffered = false;
	if (got <= 0)
		return;
	line_take(&u->engine.line);
	u->engine.running = true;
	engine_result(&u->engine, r, got);
	u->engine.running = false;
}

static int uring_run(struct blk_engine *e, bool wait)
{
	struct uring *u = of(e);
	int rc;

	if (!e->running)
		read_cached(u);
	rc = enter(u, wait && (u->inside || e->line.first) && !io_uring_cq_ready(&u->ring));
	reap(u);
	return rc ? rc : enter(u, false);
}

static void ready(void *arg, uint32_t events)
{
	struct uring *u = arg;

	reap(u);
	if (enter(u, false))
		log_error("%s", last_error());
}

static void uring_add(struct blk_engine *e, struct engine_file *f)
{
	struct uring *u = of(e);
	int slot = 0;

	while (slot < FILES && u->used[slot])
		slot++;
	if (!u->table || slot == FILES)
		return;
	if (io_uring_register_files_update(&u->ring, (unsigned)slot, &f->fd, 1) != 1)
		return;
	u->used[slot] = true;
	f->slot = slot;
}

static void uring_remove(struct engine_file *f)
{
	struct uring *u = of(f->engine);
	int none = -1;

	if (f->slot < 0)
		return;
	io_uring_register_files_update(&u->ring, (unsigned)f->slot, &none, 1);
	u->used[f->slot] = false;
	f->slot = -1;
}

static void uring_destroy(struct blk_engine *e)
{
	struct uring *u = of(e);

	loop_del(e->loop, &u->watch);
	io_uring_queue_exit(&u->ring);
	free(u);
}

/* Without COOP_TASKRUN the kernel interrupts the thread for each completion; old ones lack it. */
static int create_ring(struct uring *u)
{
	const unsigned flags[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0};
	struct io_uring_params p;
	int rc = -EINVAL;

	for (unsigned i = 0; rc == -EINVAL && i < ARRAY_SIZE(flags); i++) {
		p = (struct io_uring_params){.flags = flags[i] | IORING_SETUP_R_DISABLED};
		rc = io_uring_queue_init_params(DEPTH, &u->ring, &p);
	}
	return rc ? failno(-rc, "io_uring") : 0;
}

static void create_table(struct uring *u)
{
	int none[FILES];

	for (unsigned i = 0; i < FILES; i++)
		none[i] = -1;
	u->table = io_uring_register_files(&u->ring, none, FILES) == 0;
}

/*
 * What a ring does passes by the jail's filter: it would open files and make sockets for whoever
 * may enter it. So it is held to what disks need, for good. Kernels before 5.10 cannot.
 */
static int restrict_ring(struct uring *u)
{
	static const uint8_t ops[] = {IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE,
		IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
	struct io_uring_restriction r[ARRAY_SIZE(ops) + 2] = {
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
		{.opcode = IORING_RESTRICTION_REGISTER_OP,
			.register_op = IORING_REGISTER_FILES_UPDATE},
	};
	int rc;

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		r[i + 2].opcode = IORING_RESTRICTION_SQE_OP;
		r[i + 2].sqe_op = ops[i];
	}
	rc = io_uring_register_restrictions(&u->ring, r, ARRAY_SIZE(r));
	rc = rc ? rc : io_uring_enable_rings(&u->ring);
	return rc < 0 ? failno(-rc, "io_uring: restrictions") : 0;
}

static int init(struct uring *u, struct loop *loop)
{
	int rc = create_ring(u);

	if (rc)
		return rc;
	create_table(u);
	rc = restrict_ring(u);
	rc = rc ? rc : loop_add(loop, &u->watch, u->ring.ring_fd, EPOLLIN);
	if (rc)
		io_uring_queue_exit(&u->ring);
	return rc;
}

int engine_uring_create(struct blk_engine **out, struct loop *loop)
{
	static const struct engine_ops ops = {
		.name = "io_uring",
		.add = uring_add,
		.remove = uring_remove,
		.run = uring_run,
		.destroy = uring_destroy,
	};
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return fail(ENOMEM, "I/O engine: no memory");
	u->engine.ops = &ops;
	u->watch = WATCH_INIT(ready, u);
	rc = init(u, loop);
	if (rc)
		free(u);
	else
		*out = &u->engine;
	return rc;
}
