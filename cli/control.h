// SPDX-License-Identifier: MIT
// How commands ask a running VM.
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include "api/client.h"

/*
 * Asks the VM of that name and waits for its answer. *result (NULL: not wanted) is the caller's. 0,
 * or -errno with a message that names the VM.
 */
int control_ask(const char *name, const struct api_question *question, json_t **result);

/* The same, and prints the answer, where it says anything, as JSON on standard output. */
int control_call(const char *name, const struct api_question *question);

/* A member that is text; "" where there is none. */
const char *control_text(const json_t *object, const char *key);

#endif
