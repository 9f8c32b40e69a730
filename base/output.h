// SPDX-License-Identifier: MIT
// Standard output of a command: what could not be written is an error, whatever else went well.
#ifndef BASE_OUTPUT_H
#define BASE_OUTPUT_H

/* Before anything is written. */
void output_begin(void);

/* Writes what is left. 0, or -errno with a message: not all of it could be written. */
int output_end(void);

#endif
