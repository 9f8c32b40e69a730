// SPDX-License-Identifier: MIT
// Recognises a Linux kernel's panic in its console output, byte by byte.
//
// This is what the guest says of itself: whoever can write to the console can say it. It is taken
// only at the start of a line or right after a kernel message's time stamp, but a few bytes of
// another writer may be in between. The pvpanic device is surer.
#ifndef HW_PANIC_H
#define HW_PANIC_H

#include <stdbool.h>
#include <stddef.h>

#define PANIC_TEXT_MAX 160

enum panic_stage {
	PANIC_NONE, /* nothing yet */
	PANIC_TEXT, /* "Kernel panic - not syncing" has been seen, its message is being collected */
	PANIC_TOLD, /* the message is complete; a trace may follow */
	PANIC_LAST, /* the line that ends the report has begun: the kernel now stops, or reboots
		       later */
	PANIC_OVER, /* that line is complete */
};

/* Zero-initialised is ready. */
struct panic {
	enum panic_stage stage;
	unsigned matched; /* bytes of the phrase that is looked for */
	unsigned foreign; /* bytes seen since it began that are not its own */
	bool mid_line;
	unsigned since_stamp; /* bytes since a ']' was seen, itself included; 0: none was */
	bool over;            /* PANIC_OVER has been reached */
	unsigned len;         /* of text */
	char text[PANIC_TEXT_MAX +
		  1]; /* what follows the first phrase, up to the end of the line */
};

/* True twice at most: when the message is complete ("" when it says nothing), and with `over` set
 * at the end. */
bool panic_feed(struct panic *p, const char *data, size_t len);

#endif
