// SPDX-License-Identifier: MIT
// Copying with compression, on as many threads as there are processors.
#ifndef CLI_IMAGE_SQUEEZE_H
#define CLI_IMAGE_SQUEEZE_H

#include "cli/image/copy.h"

/* As copy_run: `to` is a new qcow2 image of clusters of c->grain bytes, and is compressed as it
 * says. */
int squeeze_run(struct copy *c, struct tool *t, enum compression method);

#endif
