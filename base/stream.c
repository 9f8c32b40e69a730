// SPDX-License-Identifier: MIT
// The state stream: header {tag[16], version, length} and payload, all little-endian.
#include "base/stream.h"

#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define TAG_SIZE 16
#define HEADER_SIZE (TAG_SIZE + 8)

void stream_out_init(struct stream_out *s)
{
	*s = (struct stream_out){.section = SIZE_MAX};
}

void stream_out_finish(struct stream_out *s)
{
	free(s->buf);
	stream_out_init(s);
}

void stream_put(struct stream_out *s, const void *data, size_t len)
{
	if (s->err)
		return;
	if (len > s->cap - s->len) {
		size_t cap = MAX(s->cap * 2, align_up(s->len + len, 4096));
		uint8_t *buf = realloc(s->buf, cap);

		if (!buf) {
			s->err = fail(ENOMEM, "no memory for %zu bytes of machine state", cap);
			return;
		}
		s->buf = buf;
		s->cap = cap;
	}
	if (len)
		memcpy(s->buf + s->len, data, len);
	s->len += len;
}

void stream_begin(struct stream_out *s, const char *tag, uint32_t version)
{
	char name[TAG_SIZE] = {0};

	assert(s->section == SIZE_MAX && strlen(tag) < TAG_SIZE);
	memcpy(name, tag, strlen(tag));
	s->section = s->len;
	stream_put(s, name, sizeof(name));
	stream_put_u32(s, version);
	stream_put_u32(s, 0);
}

void stream_end(struct stream_out *s)
{
	assert(s->section != SIZE_MAX);
	if (!s->err)
		put_le32(s->buf + s->section + TAG_SIZE + 4,
			(uint32_t)(s->len - s->section - HEADER_SIZE));
	s->section = SIZE_MAX;
}

void stream_put_u8(struct stream_out *s, uint8_t v)
{
	stream_put(s, &v, sizeof(v));
}

void stream_put_u16(struct stream_out *s, uint16_t v)
{
	v = htole16(v);
	stream_put(s, &v, sizeof(v));
}

void stream_put_u32(struct stream_out *s, uint32_t v)
{
	v = htole32(v);
	stream_put(s, &v, sizeof(v));
}

void stream_put_u64(struct stream_out *s, uint64_t v)
{
	v = htole64(v);
	stream_put(s, &v, sizeof(v));
}

void stream_in_init(struct stream_in *s, const void *buf, size_t len)
{
	*s = (struct stream_in){.buf = buf, .len = len};
}

int stream_open(struct stream_in *s, const char *tag, uint32_t max_version)
{
	uint32_t version, len;

	if (s->len - s->pos < HEADER_SIZE)
		return s->err = fail(EINVAL, "machine state ends at byte %zu, before section %s",
			       s->pos, tag);
	memcpy(s->tag, s->buf + s->pos, TAG_SIZE);
	s->tag[TAG_SIZE - 1] = '\0';
	version = get_le32(s->buf + s->pos + TAG_SIZE);
	len = get_le32(s->buf + s->pos + TAG_SIZE + 4);
	if (strcmp(s->tag, tag))
		return s->err = fail(EINVAL, "machine state at byte %zu: section %s, not %s",
			       s->pos, s->tag, tag);
	if (!version || version > max_version)
		return s->err = fail(ENOTSUP,
			       "machine state, section %s: version %u, known are 1 to %u", tag,
			       version, max_version);
	if (len > s->len - s->pos - HEADER_SIZE)
		return s->err = fail(EINVAL,
			       "machine state, section %s: %u bytes announced, %zu left", tag, len,
			       s->len - s->pos - HEADER_SIZE);
	s->pos += HEADER_SIZE;
	s->end = s->pos + len;
	s->err = 0;
	return (int)version;
}

int stream_close(struct stream_in *s)
{
	if (!s->err && s->pos != s->end)
		s->err = fail(EINVAL, "machine state, section %s: %zu bytes left over", s->tag,
			s->end - s->pos);
	s->pos = s->end;
	return s->err;
}

size_t stream_left(const struct stream_in *s)
{
	return s->err ? 0 : s->end - s->pos;
}

int stream_bad(struct stream_in *s, const char *what)
{
	return s->err = fail(EINVAL, "machine state, section %s: bad %s", s->tag, what);
}

void stream_get(struct stream_in *s, void *data, size_t len)
{
	if (s->err || len > s->end - s->pos) {
		if (!s->err)
			s->err = fail(EINVAL, "machine state, section %s: cut short", s->tag);
		memset(data, 0, len);
		return;
	}
	memcpy(data, s->buf + s->pos, len);
	s->pos += len;
}

uint8_t stream_get_u8(struct stream_in *s)
{
	uint8_t v;

	stream_get(s, &v, sizeof(v));
	return v;
}

uint16_t stream_get_u16(struct stream_in *s)
{
	uint16_t v;

	stream_get(s, &v, sizeof(v));
	return le16toh(v);
}

uint32_t stream_get_u32(struct stream_in *s)
{
	uint32_t v;

	stream_get(s, &v, sizeof(v));
	return le32toh(v);
}

uint64_t stream_get_u64(struct stream_in *s)
{
	uint64_t v;

	stream_get(s, &v, sizeof(v));
	return le64toh(v);
}
