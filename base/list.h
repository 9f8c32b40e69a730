// SPDX-License-Identifier: MIT
// A circular list whose links are embedded in what it links. A node is initialised before its first
// use.
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

/* An empty list, or a node that is in none. */
static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Puts `node`, which is in no list, at the end of `l`. */
static inline void list_append(struct list *l, struct list *node)
{
	node->prev = l->prev;
	node->next = l;
	l->prev->next = node;
	l->prev = node;
}

/* Takes it out of whatever list it is in; no-op when in none. */
static inline void list_del(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* Takes out the first node; NULL when empty. */
static inline struct list *list_take(struct list *l)
{
	struct list *first = l->next;

	if (first == l)
		return NULL;
	list_del(first);
	return first;
}

#endif
