// SPDX-License-Identifier: MIT
// Magic numbers: those by which QEMU finds a format out where it is not told.
#include "blk/probe.h"

#include "base/util.h"

#include <stdbool.h>
#include <string.h>

struct magic {
	const char *format;
	const char *bytes;
	uint16_t at, len;
};

#define MAGIC(format, at, bytes)                                                                   \
	{                                                                                          \
		format, bytes, at, sizeof(bytes) - 1                                               \
	}

static const struct magic magics[] = {
	MAGIC("qcow", 0, "QFI\xfb\0\0\0\x01"),
	MAGIC("qcow2", 0, "QFI\xfb"),
	MAGIC("qed", 0, "QED\0"),
	MAGIC("vmdk", 0, "KDMV"),
	MAGIC("vmdk", 0, "COWD"),
	MAGIC("vhdx", 0, "vhdxfile"),
	MAGIC("vpc", 0, "conectix"),
	MAGIC("vdi", 0x40, "\x7f\x10\xda\xbe"),
	MAGIC("luks", 0, "LUKS\xba\xbe"),
	MAGIC("parallels", 0, "WithoutFreeSpace"),
	MAGIC("parallels", 0, "WithouFreSpacExt"),
	MAGIC("bochs", 0, "Bochs Virtual HD Image"),
	MAGIC("cloop", 0, "#!/bin/sh\n#V2.0 Format\n"),
};

static bool starts_with(const char *text, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - text) >= len && memcmp(text, word, len) == 0;
}

/* A VMDK's descriptor is text of its own file: comments and empty lines, then the version. */
static bool is_vmdk_text(const char *text, const char *end)
{
	while (text < end) {
		const char *line_end = memchr(text, '\n', (size_t)(end - text));

		if (starts_with(text, end, "version=1") || starts_with(text, end, "version=2") ||
			starts_with(text, end, "version=3"))
			return true;
		while (text < end && (*text == ' ' || *text == '\r'))
			text++;
		if (!line_end || (*text != '#' && *text != '\n'))
			return false;
		text = line_end + 1;
	}
	return false;
}

const char *probe_format(const uint8_t *buf, size_t len)
{
	const char *text = (const char *)buf;

	len = MIN(len, PROBE_BYTES);
	for (unsigned i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];

		if (m->at + m->len <= len && memcmp(buf + m->at, m->bytes, m->len) == 0)
			return m->format;
	}
	return is_vmdk_text(text, text + len) ? "vmdk" : NULL;
}
