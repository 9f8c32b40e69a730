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
#include <linux/fs.h>
#include <stdlib.h>

#define DEPTH 128u
#define FILES 64
/* What the kernel had no memory for is tried again after this. */
#define RETRY_NS 1000000u
/* A call that took this long has waited, or its thread was not let run: two within SHY_NS have
 * waited. For so long calls are not made after them. */
#define SLOW_NS 5000000u
#define SHY_NS NSEC_PER_SEC

struct uring {
	struct blk_engine engine;
	struct io_uring ring;
	struct watch watch;
	unsigned inside;    /* requests in the ring or in the kernel */
	uint64_t slow_at;   /* CLOCK_MONOTONIC ns: when a call took long last; 0: never */
	uint64_t shy_until; /* until then nothing is done here that may wait */
	bool table;         /* of files, in use */
	bool workers;       /* are to read */
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

static void prepare(const struct uring *u, struct io_uring_sqe *sqe, struct blk_request *r)
{
	const struct engine_file *f = r->file;

	if (r->step == ENGINE_SYNC_DATA)
		io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
	else if (r->step < ENGINE_SYNC_DATA)
		prepare_move(sqe, r);
	else
		io_uring_prep_fallocate(sqe, f->fd, engine_fallocate_mode(r),
			(off_t)(f->base + r->off), (off_t)r->len);
	if (u->table && f->slot >= 0) {
		sqe->fd = f->slot;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
	if (u->workers && r->step == ENGINE_READ)
		sqe->flags |= IOSQE_ASYNC;
	io_uring_sqe_set_data(sqe, r);
}

/* What it completes may submit: that waits in the line. */
static void complete(struct uring *u, struct blk_request *r, int64_t result)
{
	bool nested = u->engine.running;

	line_take(&u->engine.line);
	u->engine.running = true;
	engine_result(&u->engine, r, result);
	u->engine.running = nested;
}

/* Does it, if that can be without waiting. */
static bool do_at_once(struct uring *u, struct blk_request *r, enum engine_tells *tells)
{
	int64_t n = engine_move(r, RWF_NOWAIT);

	*tells = n == -EOPNOTSUPP ? TELLS_NOT : TELLS;
	if (n > 0)
		complete(u, r, n);
	return n > 0;
}

static void slow(struct uring *u, uint64_t now)
{
	if (u->slow_at && now - u->slow_at < SHY_NS)
		u->shy_until = now + SHY_NS;
	u->slow_at = now;
}

/* Does it, unless a call that was made so has waited a short while ago. */
static bool do_waiting(struct uring *u, struct blk_request *r)
{
	uint64_t start = now_ns();
	int64_t n;

	if (start < u->shy_until)
		return false;
	n = engine_move(r, 0);
	if (now_ns() - start > SLOW_NS)
		slow(u, start);
	complete(u, r, n);
	return true;
}

/*
 * Whether the request is done here, not through the ring: the page cache has what is read, most
 * often, and takes what is written. What the ring cannot do without waiting it hands to a worker,
 * which costs two wake-ups; and some file systems cannot tell whether they would wait (ext4 for
 * writes, tmpfs), so that there the ring never does such a request by itself. They rarely do wait,
 * but for a writer that is slowed down so that the storage keeps up: a call that took long, for
 * which others on the loop have waited, sends the next ones to the workers.
 */
static bool do_here(struct uring *u, struct blk_request *r, bool *cached)
{
	struct engine_file *f = r->file;
	enum engine_tells *tells = r->step == ENGINE_READ ? &f->reads : &f->writes;

	if (!f->buffered || r->step > ENGINE_WRITE || (u->workers && r->step == ENGINE_READ))
		return false;
	if (*tells == TELLS_NOT)
		return do_waiting(u, r);
	*cached = *cached && do_at_once(u, r, tells);
	return *cached;
}

/* Where one of a batch was not in the page cache, the others are not looked for. */
static void fill(struct uring *u)
{
	bool cached = true;
	struct blk_request *r;

	while (u->inside < DEPTH && (r = u->engine.line.first)) {
		struct io_uring_sqe *sqe;

		if (do_here(u, r, &cached))
			continue;
		sqe = io_uring_get_sqe(&u->ring);
		if (!sqe)
			return;
		line_take(&u->engine.line);
		prepare(u, sqe, r);
		u->inside++;
	}
}

/* The kernel tells the thread that has submitted a request of its end: that is not to be a vCPU's.
 */
static int leave_to_thread(struct uring *u)
{
	if (io_uring_sq_ready(&u->ring) && !u->engine.again.at_ns)
		loop_arm(u->engine.loop, &u->engine.again, 0);
	return 0;
}

/* Brings all that there is room for into the kernel. */
static int enter(struct uring *u, bool wait)
{
	int rc;

	do {
		fill(u);
		if (loop_visited(u->engine.loop))
			return leave_to_thread(u);
		if (wait && u->inside)
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

static int uring_run(struct blk_engine *e, bool wait)
{
	struct uring *u = of(e);
	int rc;

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

/*
 * The table goes as a whole: emptied place by place, some kernels keep the files for a second more.
 * That waits for what is under way, so where something is it stays. What comes still names its file
 * by descriptor.
 */
static void uring_leave(struct blk_engine *e)
{
	struct uring *u = of(e);

	if (!u->table || u->inside)
		return;
	io_uring_unregister_files(&u->ring);
	u->table = false;
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
	struct io_uring_restriction r[ARRAY_SIZE(ops) + 3] = {
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
			.sqe_flags = IOSQE_FIXED_FILE | (u->workers ? IOSQE_ASYNC : 0)},
		{.opcode = IORING_RESTRICTION_REGISTER_OP,
			.register_op = IORING_REGISTER_FILES_UPDATE},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_UNREGISTER_FILES},
	};
	int rc;

	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		r[i + 3].opcode = IORING_RESTRICTION_SQE_OP;
		r[i + 3].sqe_op = ops[i];
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

int engine_uring_create(struct blk_engine **out, struct loop *loop, bool workers)
{
	static const struct engine_ops ops = {
		.name = "io_uring",
		.add = uring_add,
		.remove = uring_remove,
		.run = uring_run,
		.leave = uring_leave,
		.destroy = uring_destroy,
	};
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return fail(ENOMEM, "I/O engine: no memory");
	u->engine.ops = &ops;
	u->workers = workers;
	u->watch = WATCH_INIT(ready, u);
	rc = init(u, loop);
	if (rc)
		free(u);
	else
		*out = &u->engine;
	return rc;
}
