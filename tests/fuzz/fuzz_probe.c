// SPDX-License-Identifier: MIT
// The first sector of an image: whatever it holds, a format or none is found without a look past
// its end; and what is found does not depend on what comes after.
#include "blk/probe.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t longer[2 * PROBE_BYTES];
	const char *format = probe_format(data, size);

	if (size < PROBE_BYTES)
		return 0;
	memcpy(longer, data, PROBE_BYTES);
	memset(longer + PROBE_BYTES, '\n', PROBE_BYTES);
	if (probe_format(longer, sizeof(longer)) != format)
		abort();
	return 0;
}
