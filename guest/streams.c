// SPDX-License-Identifier: MIT
// The command's pipes: its output becomes frames, what the host sends becomes its stdin.
#include "guest/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LARGE_PIPE (1 << 20)

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Asked for when a pipe is first found full, so that a short command does not pay for it. */
static void enlarge(int fd, bool *enlarged)
{
	if (!*enlarged)
		fcntl(fd, F_SETPIPE_SZ, LARGE_PIPE);
	*enlarged = true;
}

static void end_output(struct output *o)
{
	close_fd(&o->fd);
	o->eof_due = true;
}

/* How much may be read now. */
static size_t output_room(const struct output *o, const struct proto_writer *w)
{
	int room = proto_writer_room(w);
	uint64_t length = o->credit < o->left ? o->credit : o->left;

	if (room < OUTPUT_MIN_ROOM)
		return 0;
	return length < (uint64_t)room ? length : (size_t)room;
}

/* Makes a frame of one read. Returns what read returned. */
static ssize_t read_frame(struct output *o, int stream, struct proto_writer *w, size_t room)
{
	struct proto_frame f = {.type = PROTO_DATA, .stream = (uint8_t)stream};
	ssize_t n = read(o->fd, proto_writer_payload(w), room);

	if (n <= 0)
		return n;
	f.length = (uint32_t)n;
	proto_writer_commit(w, &f);
	o->credit -= (uint64_t)n;
	if (o->left != OUTPUT_NO_LIMIT)
		o->left -= (uint64_t)n;
	return n;
}

static bool output_broken(const struct output *o)
{
	if (errno == EINTR)
		return false;
	return errno != EAGAIN || o->left != OUTPUT_NO_LIMIT;
}

void output_pump(struct output *o, int stream, struct proto_writer *w, int frames)
{
	size_t room = output_room(o, w);
	ssize_t n;

	for (; room && frames; frames--) {
		n = read_frame(o, stream, w, room);
		if (!n || (n < 0 && output_broken(o)) || !o->left) {
			end_output(o);
			return;
		}
		if (n < (ssize_t)room)
			return;
		enlarge(o->fd, &o->enlarged);
		room = output_room(o, w);
	}
}

void output_limit(struct output *o)
{
	int held;

	if (o->fd < 0)
		return;
	o->left = ioctl(o->fd, FIONREAD, &held) || held < 0 ? 0 : (uint64_t)held;
	if (!o->left)
		end_output(o);
}

void input_end(struct input *in, bool tell)
{
	close_fd(&in->fd);
	in->close_due = in->close_due || tell;
	ring_drop(&in->ring, in->ring.used);
}

/* Writes what the pipe takes. Returns how much, or -1 when nobody reads it any more. */
static ssize_t write_input(struct input *in, const uint8_t *bytes, size_t length)
{
	ssize_t n = write(in->fd, bytes, length);

	while (n < 0) {
		if (errno == EAGAIN && in->enlarged)
			return 0;
		if (errno == EAGAIN)
			enlarge(in->fd, &in->enlarged);
		else if (errno != EINTR)
			return -1;
		n = write(in->fd, bytes, length);
	}
	in->written += (uint32_t)n;
	return n;
}

void input_pump(struct input *in)
{
	const uint8_t *bytes;
	size_t length;
	ssize_t n;

	while (in->fd >= 0 && in->ring.used) {
		bytes = ring_peek(&in->ring, &length);
		n = write_input(in, bytes, length);
		if (n < 0)
			input_end(in, true);
		if (n <= 0)
			return;
		ring_drop(&in->ring, (size_t)n);
	}
	if (in->eof)
		input_end(in, false);
}

void input_take(struct input *in, const uint8_t *bytes, size_t length)
{
	ssize_t n = 0;

	if (in->fd < 0)
		return; /* it was under way when the command closed its stdin */
	if (!in->ring.used)
		n = write_input(in, bytes, length);
	if (n < 0)
		input_end(in, true);
	else
		ring_put(&in->ring, bytes + n, length - (size_t)n);
}
