// SPDX-License-Identifier: MIT
// The host's side of a byte-wise device.
//
// A guest writes its console byte by byte, an exit each, and must neither wait for a slow terminal
// nor cost a system call a byte. So bytes go into a ring; the first one arms a timerfd, and what
// has gathered when it fires is written at once by the loop's thread. A ring half full fires it
// immediately. While the terminal takes nothing the loop waits for it to become writable and the
// ring fills; the device above stops its guest by saying "not ready". The same timerfd is how other
// threads tell the loop that input has been taken.
//
// Input comes in portions. A driver reads in its interrupt handler until nothing is left, so that a
// device which always has more, as none on a real line does, would keep it there: the device asks
// for the next portion, and the loop brings it a moment later.
//
// Descriptors are the user's: a terminal is shared with the shell, so O_NONBLOCK is never set on
// it. A description of our own is opened instead where the kernel has a way to do that.
#include "hw/chardev.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#define OUT_SIZE 65536u /* a boot's messages; its pages are touched only while output is stuck */
#define IN_SIZE 512u
#define GATHER_NS 1000000 /* how long bytes of output gather: not to be seen by a person */
#define REFILL_NS 250000  /* before more input follows what the device has passed on */
#define CHUNK_POLLED 512u /* where a write might wait */

/* How output is written without waiting. */
enum out_kind { OUT_NONBLOCK, OUT_SOCKET, OUT_FILE, OUT_POLLED };

struct chardev {
	struct chardev_config cfg;
	struct watch timer, in, out;
	int timer_fd;
	int out_fd; /* owned; -1 when output is dropped. The loop's thread closes it. */
	enum out_kind out_kind;
	bool in_unpollable, in_ended; /* touched by the loop's thread only */

	pthread_mutex_t lock; /* guards what follows */
	bool dropping;        /* there is nowhere to write to */
	bool armed;           /* the timer will fire for the bytes that are there */
	bool waiting;         /* for the descriptor to become writable */
	bool starved;         /* the device was told that it is not ready */
	bool in_paused;       /* the input is full, its descriptor is not watched */
	size_t out_pos, out_len;
	size_t in_pos, in_len;
	uint8_t in_ring[IN_SIZE];
	uint8_t out_ring[OUT_SIZE];
};

static void arm(struct chardev *c, long ns)
{
	struct itimerspec at = {.it_value.tv_nsec = ns};

	timerfd_settime(c->timer_fd, 0, &at, NULL);
}

/* ---- Out ---- */

static bool ready_locked(const struct chardev *c)
{
	return c->dropping || OUT_SIZE - c->out_len >= CHARDEV_BURST;
}

void chardev_put(struct chardev *c, uint8_t byte)
{
	pthread_mutex_lock(&c->lock);
	if (!c->dropping && c->out_len < OUT_SIZE) {
		c->out_ring[(c->out_pos + c->out_len++) % OUT_SIZE] = byte;
		if (!c->waiting && (!c->armed || c->out_len == OUT_SIZE / 2)) {
			arm(c, c->armed ? 1 : GATHER_NS);
			c->armed = true;
		}
	}
	pthread_mutex_unlock(&c->lock);
}

bool chardev_ready(struct chardev *c)
{
	bool ready;

	pthread_mutex_lock(&c->lock);
	ready = ready_locked(c);
	c->starved |= !ready;
	pthread_mutex_unlock(&c->lock);
	return ready;
}

/* Bytes written, or -errno; -EAGAIN where it would wait. */
static ssize_t write_some(const struct chardev *c, const uint8_t *data, size_t len)
{
	struct pollfd p = {.fd = c->out_fd, .events = POLLOUT};
	ssize_t n;

	if (c->out_kind == OUT_POLLED) {
		if (poll(&p, 1, 0) <= 0)
			return -EAGAIN;
		len = MIN(len, CHUNK_POLLED);
	}
	n = c->out_kind == OUT_SOCKET ? send(c->out_fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)
				      : write(c->out_fd, data, len);
	return n < 0 ? -errno : n;
}

/* The longest piece of the ring that is in one place. Only the loop's thread takes from it. */
static size_t peek(struct chardev *c, const uint8_t **data)
{
	size_t len;

	pthread_mutex_lock(&c->lock);
	*data = c->out_ring + c->out_pos;
	len = MIN(c->out_len, OUT_SIZE - c->out_pos);
	pthread_mutex_unlock(&c->lock);
	return len;
}

static void consume(struct chardev *c, size_t len)
{
	bool told;

	pthread_mutex_lock(&c->lock);
	c->out_len -= len;
	/* An empty ring starts over, so that a terminal that keeps up uses its first page only. */
	c->out_pos = c->out_len ? (c->out_pos + len) % OUT_SIZE : 0;
	told = c->starved && ready_locked(c);
	if (told)
		c->starved = false;
	pthread_mutex_unlock(&c->lock);
	if (told)
		c->cfg.room(c->cfg.arg);
}

static void drop_output(struct chardev *c, int err)
{
	size_t len;

	log_warn("%s: output: %s; it is dropped from here on", c->cfg.name, strerror(err));
	pthread_mutex_lock(&c->lock);
	c->dropping = true;
	c->waiting = false;
	len = c->out_len;
	pthread_mutex_unlock(&c->lock);
	loop_del(c->cfg.loop, &c->out);
	close(c->out_fd);
	c->out_fd = -1;
	consume(c, len);
}

/* Writes up to `limit` bytes. 0 when they are gone, else -EAGAIN. */
static int write_out(struct chardev *c, size_t limit)
{
	while (limit && c->out_fd >= 0) {
		const uint8_t *data;
		size_t len = peek(c, &data);
		ssize_t n;

		if (!len)
			break;
		n = write_some(c, data, MIN(len, limit));
		if (n == -EAGAIN)
			return -EAGAIN;
		if (n == -EINTR)
			continue;
		if (n < 0) {
			drop_output(c, (int)-n);
			break;
		}
		consume(c, (size_t)n);
		limit -= (size_t)n;
	}
	return 0;
}

static void wait_writable(struct chardev *c)
{
	pthread_mutex_lock(&c->lock);
	c->waiting = true;
	pthread_mutex_unlock(&c->lock);
	if (c->out.fd < 0 && loop_add(c->cfg.loop, &c->out, c->out_fd, EPOLLOUT))
		drop_output(c, EPERM);
}

/* What comes in after the look at out_len has armed the timer again: a flood cannot keep us here.
 */
static void drain(struct chardev *c)
{
	size_t len;

	pthread_mutex_lock(&c->lock);
	c->armed = false;
	len = c->out_len;
	pthread_mutex_unlock(&c->lock);
	if (write_out(c, len))
		wait_writable(c);
}

static void out_writable(void *arg, uint32_t events)
{
	struct chardev *c = arg;
	bool empty;

	drain(c);
	pthread_mutex_lock(&c->lock);
	empty = !c->out_len;
	if (empty)
		c->waiting = false;
	pthread_mutex_unlock(&c->lock);
	if (empty)
		loop_del(c->cfg.loop, &c->out);
}

int chardev_flush(struct chardev *c, int timeout_ms)
{
	uint64_t end = now_ns() + (uint64_t)MAX(timeout_ms, 0) * 1000000;

	while (write_out(c, OUT_SIZE)) {
		struct pollfd p = {.fd = c->out_fd, .events = POLLOUT};
		uint64_t now = now_ns();

		if (timeout_ms >= 0 && now >= end)
			return -ETIMEDOUT;
		poll(&p, 1, timeout_ms < 0 ? -1 : (int)((end - now) / 1000000 + 1));
	}
	return 0;
}

/* ---- In ---- */

static void append_locked(struct chardev *c, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		c->in_ring[(c->in_pos + c->in_len++) % IN_SIZE] = data[i];
}

/* What may be added, leaving room for what the device puts back. */
static size_t room_locked(const struct chardev *c)
{
	return c->in_len < IN_SIZE - CHARDEV_BURST ? IN_SIZE - CHARDEV_BURST - c->in_len : 0;
}

static size_t in_room(struct chardev *c)
{
	size_t room;

	pthread_mutex_lock(&c->lock);
	room = room_locked(c);
	pthread_mutex_unlock(&c->lock);
	return room;
}

/* When the input is full: notes that its descriptor is not looked at, for chardev_get to undo. */
static bool pause_input(struct chardev *c)
{
	bool full;

	pthread_mutex_lock(&c->lock);
	full = !room_locked(c);
	c->in_paused |= full;
	pthread_mutex_unlock(&c->lock);
	return full;
}

size_t chardev_feed(struct chardev *c, const void *data, size_t len)
{
	pthread_mutex_lock(&c->lock);
	len = MIN(len, room_locked(c));
	append_locked(c, data, len);
	pthread_mutex_unlock(&c->lock);
	if (len)
		c->cfg.input(c->cfg.arg);
	return len;
}

/* One read; false when the input has ended, is full, or has nothing now. */
static bool read_some(struct chardev *c)
{
	uint8_t buf[IN_SIZE];
	size_t room = in_room(c);
	ssize_t n;

	if (!room)
		return false;
	do
		n = read(c->cfg.in_fd, buf, room);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		c->in_ended = true;
		return false;
	}
	chardev_feed(c, buf, (size_t)n);
	return true;
}

static void in_readable(void *arg, uint32_t events)
{
	struct chardev *c = arg;

	/* Not just ignored while full: a descriptor that hung up would be reported again and again.
	 */
	if (!read_some(c) && (c->in_ended || pause_input(c)))
		loop_del(c->cfg.loop, &c->in);
}

/* Watches the input while there is room; a plain file, which cannot be watched, is read right now.
 */
static void resume_input(struct chardev *c)
{
	if (c->cfg.in_fd < 0 || c->in_ended || c->in.fd >= 0 || !in_room(c))
		return;
	if (!c->in_unpollable && loop_add(c->cfg.loop, &c->in, c->cfg.in_fd, EPOLLIN))
		c->in_unpollable = true;
	while (c->in_unpollable && (read_some(c) || (!c->in_ended && !pause_input(c))))
		;
}

size_t chardev_get(struct chardev *c, uint8_t *buf, size_t len)
{
	pthread_mutex_lock(&c->lock);
	len = MIN(len, c->in_len);
	for (size_t i = 0; i < len; i++)
		buf[i] = c->in_ring[(c->in_pos + i) % IN_SIZE];
	c->in_pos = (c->in_pos + len) % IN_SIZE;
	c->in_len -= len;
	if (c->in_paused && c->in_len <= IN_SIZE / 2) {
		c->in_paused = false;
		arm(c, 1);
	}
	pthread_mutex_unlock(&c->lock);
	return len;
}

void chardev_request(struct chardev *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->in_len)
		arm(c, REFILL_NS);
	pthread_mutex_unlock(&c->lock);
}

void chardev_unget(struct chardev *c, const uint8_t *buf, size_t len)
{
	pthread_mutex_lock(&c->lock);
	len = MIN(len, IN_SIZE - c->in_len);
	c->in_pos = (c->in_pos + IN_SIZE - len) % IN_SIZE;
	c->in_len += len;
	for (size_t i = 0; i < len; i++)
		c->in_ring[(c->in_pos + i) % IN_SIZE] = buf[i];
	pthread_mutex_unlock(&c->lock);
}

static bool has_input(struct chardev *c)
{
	bool has;

	pthread_mutex_lock(&c->lock);
	has = c->in_len;
	pthread_mutex_unlock(&c->lock);
	return has;
}

/* ---- Both ---- */

static void timer_fired(void *arg, uint32_t events)
{
	struct chardev *c = arg;
	uint64_t count;

	if (read(c->timer_fd, &count, sizeof(count)) < 0)
		return; /* set again in between: it will fire again */
	drain(c);
	resume_input(c);
	if (has_input(c))
		c->cfg.input(c->cfg.arg);
}

/* Only what opens to the same object: /dev/ptmx would make a new terminal. */
static bool can_reopen(int fd, mode_t mode)
{
	unsigned pty;

	return S_ISFIFO(mode) || (isatty(fd) && ioctl(fd, TIOCGPTN, &pty) < 0);
}

static int open_output(struct chardev *c)
{
	char path[32];
	struct stat st;
	int fd = c->cfg.out_fd;

	if (fd < 0) {
		c->dropping = true;
		return 0;
	}
	if (fstat(fd, &st) < 0)
		return failno(errno, "%s: output", c->cfg.name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (can_reopen(fd, st.st_mode))
		c->out_fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (c->out_fd >= 0)
		return 0;
	c->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (c->out_fd < 0)
		return failno(errno, "%s: output", c->cfg.name);
	if (S_ISSOCK(st.st_mode))
		c->out_kind = OUT_SOCKET;
	else
		c->out_kind = S_ISREG(st.st_mode) ? OUT_FILE : OUT_POLLED;
	return 0;
}

static int open_timer(struct chardev *c)
{
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (c->timer_fd < 0)
		return failno(errno, "%s: timer", c->cfg.name);
	return loop_add(c->cfg.loop, &c->timer, c->timer_fd, EPOLLIN);
}

int chardev_create(struct chardev **out, const struct chardev_config *cfg)
{
	struct chardev *c = malloc(sizeof(*c));
	int rc;

	if (!c)
		return fail(ENOMEM, "%s: out of memory", cfg->name);
	memset(c, 0, offsetof(struct chardev, in_ring)); /* the rings stay untouched */
	c->cfg = *cfg;
	c->timer_fd = c->out_fd = -1;
	c->timer = WATCH_INIT(timer_fired, c);
	c->in = WATCH_INIT(in_readable, c);
	c->out = WATCH_INIT(out_writable, c);
	pthread_mutex_init(&c->lock, NULL);
	rc = open_output(c);
	rc = rc ? rc : open_timer(c);
	if (rc) {
		chardev_destroy(c);
		return rc;
	}
	arm(c, 1); /* the first look at the input is the loop's */
	*out = c;
	return 0;
}

void chardev_destroy(struct chardev *c)
{
	if (!c)
		return;
	if (c->out_fd >= 0)
		write_out(c, OUT_SIZE);
	loop_del(c->cfg.loop, &c->timer);
	loop_del(c->cfg.loop, &c->in);
	loop_del(c->cfg.loop, &c->out);
	if (c->timer_fd >= 0)
		close(c->timer_fd);
	if (c->out_fd >= 0)
		close(c->out_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void chardev_save(struct chardev *c, struct stream_out *s)
{
	pthread_mutex_lock(&c->lock);
	stream_put_u32(s, (uint32_t)c->in_len);
	for (size_t i = 0; i < c->in_len; i++)
		stream_put_u8(s, c->in_ring[(c->in_pos + i) % IN_SIZE]);
	pthread_mutex_unlock(&c->lock);
}

int chardev_load(struct chardev *c, struct stream_in *s)
{
	uint32_t len = stream_get_u32(s);
	uint8_t data[IN_SIZE];

	if (len > IN_SIZE)
		return stream_bad(s, "bytes of input");
	stream_get(s, data, len);
	if (s->err)
		return s->err;
	pthread_mutex_lock(&c->lock);
	c->in_pos = c->in_len = 0;
	append_locked(c, data, len);
	pthread_mutex_unlock(&c->lock);
	return 0;
}
