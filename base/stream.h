// SPDX-License-Identifier: MIT
// The state stream: tagged, versioned sections into which every part of a machine saves itself.
//
// A section is a tag of up to 15 bytes, a version, a length and that many bytes. Parts save in
// creation order and load in the same order; a reader that finds another tag, a newer version, or
// bytes left over at the end of a section fails with a message that names the section. Numbers are
// little-endian. Errors are sticky: a part may put or get all its fields and look once.
#ifndef BASE_STREAM_H
#define BASE_STREAM_H

#include <stddef.h>
#include <stdint.h>

struct stream_out {
	uint8_t *buf; /* malloc'd; owned by the stream */
	size_t len, cap;
	size_t section; /* offset of the open section's header, SIZE_MAX when none is open */
	int err;        /* 0 or -ENOMEM */
};

void stream_out_init(struct stream_out *s);
void stream_out_finish(struct stream_out *s);
void stream_begin(struct stream_out *s, const char *tag, uint32_t version);
void stream_end(struct stream_out *s);
void stream_put(struct stream_out *s, const void *data, size_t len);
void stream_put_u8(struct stream_out *s, uint8_t v);
void stream_put_u16(struct stream_out *s, uint16_t v);
void stream_put_u32(struct stream_out *s, uint32_t v);
void stream_put_u64(struct stream_out *s, uint64_t v);

struct stream_in {
	const uint8_t *buf; /* borrowed */
	size_t len, pos;
	size_t end; /* of the open section */
	char tag[16];
	int err; /* 0 or -errno; the message is in last_error() */
};

void stream_in_init(struct stream_in *s, const void *buf, size_t len);

/* Opens the next section, which must be `tag` at version 1..max_version. The version, or -errno. */
int stream_open(struct stream_in *s, const char *tag, uint32_t max_version);

/* Closes it; -EINVAL when bytes are left over, else the first error since stream_open, or 0. */
int stream_close(struct stream_in *s);

/* Past the end these set the error and give zeroes. */
void stream_get(struct stream_in *s, void *data, size_t len);
uint8_t stream_get_u8(struct stream_in *s);
uint16_t stream_get_u16(struct stream_in *s);
uint32_t stream_get_u32(struct stream_in *s);
uint64_t stream_get_u64(struct stream_in *s);

/* How many bytes of the open section are left: bounds a count read from it before memory is taken.
 */
size_t stream_left(const struct stream_in *s);

/* Records a value that makes no sense: -EINVAL, with the section named in the message. */
int stream_bad(struct stream_in *s, const char *what);

#endif
