// SPDX-License-Identifier: MIT
// The host's side of a byte-wise device: a bounded way out and a way in with flow control.
#ifndef HW_CHARDEV_H
#define HW_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;
struct loop;
struct stream_in;
struct stream_out;

/* What chardev_unget may give back, and what chardev_ready promises. */
#define CHARDEV_BURST 16u

struct chardev_config {
	struct loop *loop; /* whose thread does the reading and writing; outlives the chardev */
	int in_fd;         /* borrowed, may be blocking; -1: no input */
	int out_fd; /* borrowed (a descriptor of our own is made of it); -1: output is dropped */
	const char *name; /* for messages; borrowed */

	/* Both on the loop's thread, with nothing locked: there is input to take; output has room
	 * again. */
	void (*input)(void *arg);
	void (*room)(void *arg);
	void *arg;
};

/*
 * `cfg` is copied. The owner must have SIGPIPE ignored. Where the descriptor for output can be
 * neither opened again nor written to without waiting, it is polled before small writes. 0 or
 * -errno.
 */
int chardev_create(struct chardev **out, const struct chardev_config *cfg);

/* Writes what can be written without waiting, drops the rest. On the loop's thread. NULL is fine.
 */
void chardev_destroy(struct chardev *c);

/* Queues a byte for output; dropped when there is no room. Never waits. From any thread. */
void chardev_put(struct chardev *c, uint8_t byte);

/* Whether chardev_put takes CHARDEV_BURST more bytes. `room` is called when that becomes true
 * again. */
bool chardev_ready(struct chardev *c);

/* Takes up to `len` bytes of input; how many there were. From any thread. */
size_t chardev_get(struct chardev *c, uint8_t *buf, size_t len);

/* If there is more input to take: has `input` called, in a moment. From any thread. */
void chardev_request(struct chardev *c);

/* Puts `len` (up to CHARDEV_BURST) bytes back in front of the input. From any thread. */
void chardev_unget(struct chardev *c, const uint8_t *buf, size_t len);

/* Input from elsewhere than in_fd; how many bytes were taken. On the loop's thread. */
size_t chardev_feed(struct chardev *c, const void *data, size_t len);

/* Writes all that is queued, for `timeout_ms` at most (-1: no limit). On the loop's thread. 0,
 * -ETIMEDOUT. */
int chardev_flush(struct chardev *c, int timeout_ms);

/* Input that was read and not taken, as fields of the open section. Output is not state: flush
 * first. */
void chardev_save(struct chardev *c, struct stream_out *s);
int chardev_load(struct chardev *c, struct stream_in *s);

#endif
