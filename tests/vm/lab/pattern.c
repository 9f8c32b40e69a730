// SPDX-License-Identifier: MIT
// Bytes that do not repeat, made much faster than random ones, and the same at both ends.
#include "tests/vm/lab/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PIECE 65536u

void pattern_fill(pattern *p, uint8_t *bytes, size_t length)
{
	uint64_t x = *p, *out = (uint64_t *)(void *)bytes;

	for (size_t i = 0; i < length / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = x;
	}
	*p = x;
}

static size_t piece(uint64_t left)
{
	return left < PIECE ? (size_t)left : PIECE;
}

int tool_pattern(char **argv)
{
	static _Alignas(8) uint8_t bytes[PIECE];
	pattern p = strtoull(argv[0], NULL, 0);
	uint64_t left = strtoull(argv[1], NULL, 0);

	while (left) {
		size_t n = piece(left), done = 0;

		pattern_fill(&p, bytes, PIECE);
		while (done < n) {
			ssize_t k = write(STDOUT_FILENO, bytes + done, n - done);

			if (k < 0)
				return report("stdout");
			done += (size_t)k;
		}
		left -= n;
	}
	return 0;
}

/* Sleeps so long that `n` bytes take their time at `rate` bytes a second; 0: no limit. */
static void slow_down(size_t n, uint64_t rate)
{
	uint64_t ns = rate ? n * 1000000000ull / rate : 0;
	struct timespec t = {
		.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	if (rate)
		nanosleep(&t, NULL);
}

static size_t read_full(uint8_t *bytes, size_t length)
{
	size_t done = 0;
	ssize_t n;

	while (done < length && (n = read(STDIN_FILENO, bytes + done, length - done)) > 0)
		done += (size_t)n;
	return done;
}

int tool_check(char **argv)
{
	static _Alignas(8) uint8_t want[PIECE], got[PIECE];
	pattern p = strtoull(argv[0], NULL, 0);
	uint64_t length = strtoull(argv[1], NULL, 0), at = 0;
	uint64_t rate = argv[2] ? strtoull(argv[2], NULL, 0) : 0;

	while (at < length) {
		size_t n = piece(length - at), have = read_full(got, n);

		pattern_fill(&p, want, PIECE);
		if (memcmp(want, got, have)) {
			fprintf(stderr, "lab-guest: bytes differ after %llu\n",
				(unsigned long long)at);
			return 1;
		}
		at += have;
		if (have < n) {
			fprintf(stderr, "lab-guest: %llu bytes, not %llu\n", (unsigned long long)at,
				(unsigned long long)length);
			return 1;
		}
		slow_down(n, rate);
	}
	if (read_full(got, 1)) {
		fprintf(stderr, "lab-guest: more than %llu bytes\n", (unsigned long long)length);
		return 1;
	}
	return 0;
}
