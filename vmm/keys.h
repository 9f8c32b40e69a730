// SPDX-License-Identifier: MIT
// Words of the form "key=value,flag,key=value", taken by a table of fields.
#ifndef VMM_KEYS_H
#define VMM_KEYS_H

#include "base/field.h"

/*
 * Sets the fields that `text` names; a comma within a value is doubled, a flag needs no value, and
 * only a list may be given twice. `kinds` has a name for each bit of f->command, for a message
 * about a key that only another of them has; NULL: there is but one. 0, or -errno with a message
 * that names the key.
 */
int keys_parse(struct fields *f, const char *const *kinds, const char *text);

/* One line a row of the table, as --help shows it; with `kinds`, whose it is. */
void keys_print_help(
	const struct field *table, unsigned count, const char *const *kinds, FILE *out);

#endif
