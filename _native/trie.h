/* MQTT topic filters (MQTT 5.0 section 4.7) as a trie in plain C memory.
 *
 *     slots   open addressing: (parent node, level text) -> child node, for literal levels
 *               |
 *     nodes   [none][root][root][sport]... parent, '+' child, heads of two cell lists, level text
 *               |                            exact: filters that end here
 *               |                            multi: filters that end in '#' below here
 *     cells   [none]{rank, next}...        an endpoint's rank: its place among all ids, ascending
 *     text    the bytes of the literal levels
 *
 * One trie has many roots (one per event pattern), so that a search follows several of them in step
 * and hashes each level of the topic once. Everything is addressed by 32-bit index; 0 is "none".
 *
 * A search goes level by level with the list of nodes reached so far. A node is reached by one path
 * only, so the list is never longer than the filters that share this many levels with the topic:
 * there is no recursion to overflow and no product of '+' branches. All working memory belongs to
 * the call, so a built trie may be searched by several threads at once.
 *
 * Functions that allocate return 0, or -1 for no memory (or for more than 2^32 - 1 items).
 */
#ifndef FLUXHOOK_TRIE_H
#define FLUXHOOK_TRIE_H

#include <Python.h>

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* MQTT 5.0 section 4.7.3: no topic name or filter encodes to more bytes than this. */
#define TRIE_MAX_BYTES 65535
/* Arbitrary: indexes that a list holds before it needs the heap; few topics match more filters. */
#define TRIE_SMALL 64
/* Arbitrary: up to here insertion sort is cheaper than a pass over a bitmap of all ranks. */
#define TRIE_FEW 32

/* ---------------------------------------------------------------- storage that only grows */

typedef struct {
    void *items;
    size_t used, room;
} trie_pool;

/* Takes `count` zeroed items of `size` bytes at the end of a pool; NULL if there is no memory. */
static inline void *trie_take(trie_pool *pool, size_t count, size_t size) {
    if (count > UINT32_MAX - pool->used) return NULL;
    if (pool->used + count > pool->room) {
        size_t room = pool->used + count > 2 * pool->room ? pool->used + count : 2 * pool->room;
        void *items = PyMem_RawRealloc(pool->items, room * size);
        if (items == NULL) return NULL;
        pool->items = items;
        pool->room = room;
    }
    void *taken = (char *)pool->items + pool->used * size;
    memset(taken, 0, count * size);
    pool->used += count;
    return taken;
}

typedef struct {
    uint32_t parent, plus, exact, multi, label, label_len;
} trie_node;

typedef struct {
    uint32_t rank, next;
} trie_cell;

typedef struct {
    uint32_t tag, child; /* tag: the key's hash, which saves most looks at a wrong child */
} trie_slot;

typedef struct {
    trie_pool nodes, cells, text;
    trie_slot *slots;
    size_t n_slots, n_children; /* n_slots is a power of two, at least twice n_children */
    Py_hash_t (*hash)(const void *, Py_ssize_t);
} trie;

static inline trie_node *trie_nodes(const trie *t) { return (trie_node *)t->nodes.items; }
static inline trie_cell *trie_cells(const trie *t) { return (trie_cell *)t->cells.items; }

static inline void trie_free(trie *t) {
    PyMem_RawFree(t->nodes.items);
    PyMem_RawFree(t->cells.items);
    PyMem_RawFree(t->text.items);
    PyMem_RawFree(t->slots);
    memset(t, 0, sizeof *t);
}

/* `t` must be zeroed. On failure the caller still calls trie_free. */
static inline int trie_init(trie *t) {
    /* CPython's own keyed hash (SipHash-1-3): who may choose filters still cannot choose them to
     * collide. The key is drawn at process start unless PYTHONHASHSEED fixes it. */
    t->hash = PyHash_GetFuncDef()->hash;
    t->n_slots = 16;
    t->slots = PyMem_RawCalloc(t->n_slots, sizeof *t->slots);
    if (t->slots == NULL || trie_take(&t->nodes, 1, sizeof(trie_node)) == NULL ||
        trie_take(&t->cells, 1, sizeof(trie_cell)) == NULL || trie_take(&t->text, 1, 1) == NULL)
        return -1;
    return 0;
}

/* ---------------------------------------------------------------- levels */

typedef struct {
    const char *start;
    size_t len;
} trie_level;

/* The level that starts at `start`; it is the last one if it reaches `end`. */
static inline trie_level trie_level_at(const char *start, const char *end) {
    const char *slash = memchr(start, '/', (size_t)(end - start));
    return (trie_level){start, (size_t)((slash ? slash : end) - start)};
}

static inline uint64_t trie_hash(const trie *t, trie_level level) {
    return (uint64_t)t->hash(level.start, (Py_ssize_t)level.len);
}

/* The hash of a (parent, level) key from its level's hash, mixed as in MurmurHash3's finalizer. */
static inline uint32_t trie_tag(uint32_t parent, uint64_t level_hash) {
    uint64_t x = level_hash ^ (parent * UINT64_C(0x9E3779B97F4A7C15));
    x = (x ^ (x >> 33)) * UINT64_C(0xFF51AFD7ED558CCD);
    return (uint32_t)(x >> 32);
}

/* The slot of the child of `parent` called `level`, or the empty slot where it belongs. */
static inline trie_slot *trie_slot_of(const trie *t, uint32_t parent, trie_level level,
                                      uint32_t tag) {
    size_t mask = t->n_slots - 1;
    for (size_t i = tag & mask;; i = (i + 1) & mask) {
        trie_slot *slot = &t->slots[i];
        if (slot->child == 0) return slot;
        if (slot->tag != tag) continue;
        const trie_node *child = &trie_nodes(t)[slot->child];
        if (child->parent == parent && child->label_len == level.len &&
            memcmp((const char *)t->text.items + child->label, level.start, level.len) == 0)
            return slot;
    }
}

/* ---------------------------------------------------------------- building */

/* A new node, 0 if there is no memory. With parent 0 it is a root. */
static inline uint32_t trie_new_node(trie *t, uint32_t parent) {
    trie_node *node = trie_take(&t->nodes, 1, sizeof *node);
    if (node == NULL) return 0;
    node->parent = parent;
    return (uint32_t)(t->nodes.used - 1);
}

static inline int trie_grow_slots(trie *t) {
    size_t n_slots = 2 * t->n_slots, mask = n_slots - 1;
    trie_slot *slots = PyMem_RawCalloc(n_slots, sizeof *slots);
    if (slots == NULL) return -1;
    for (size_t old = 0; old < t->n_slots; old++) {
        if (t->slots[old].child == 0) continue;
        size_t i = t->slots[old].tag & mask;
        while (slots[i].child != 0) i = (i + 1) & mask;
        slots[i] = t->slots[old];
    }
    PyMem_RawFree(t->slots);
    t->slots = slots;
    t->n_slots = n_slots;
    return 0;
}

/* The '+' child of `parent`, made if need be; 0 if there is no memory. */
static inline uint32_t trie_plus_child(trie *t, uint32_t parent) {
    uint32_t child = trie_nodes(t)[parent].plus;
    if (child == 0) {
        child = trie_new_node(t, parent);
        trie_nodes(t)[parent].plus = child;
    }
    return child;
}

/* The child of `parent` for a literal level, made if need be; 0 if there is no memory. */
static inline uint32_t trie_literal_child(trie *t, uint32_t parent, trie_level level) {
    if (2 * (t->n_children + 1) > t->n_slots && trie_grow_slots(t) < 0) return 0;
    uint32_t tag = trie_tag(parent, trie_hash(t, level));
    trie_slot *slot = trie_slot_of(t, parent, level, tag);
    if (slot->child != 0) return slot->child;

    size_t label = t->text.used;
    char *text = trie_take(&t->text, level.len, 1);
    uint32_t child = text == NULL ? 0 : trie_new_node(t, parent);
    if (child == 0) return 0;
    memcpy(text, level.start, level.len);
    trie_nodes(t)[child].label = (uint32_t)label;
    trie_nodes(t)[child].label_len = (uint32_t)level.len;
    *slot = (trie_slot){tag, child};
    t->n_children++;
    return child;
}

static inline int trie_add_cell(trie *t, uint32_t *head, uint32_t rank) {
    trie_cell *cell = trie_take(&t->cells, 1, sizeof *cell);
    if (cell == NULL) return -1;
    *cell = (trie_cell){rank, *head};
    *head = (uint32_t)(t->cells.used - 1);
    return 0;
}

/* Adds a valid, unshared filter under a root for the endpoint of this rank. */
static inline int trie_insert(trie *t, uint32_t node, const char *filter, size_t size,
                              uint32_t rank) {
    const char *end = filter + size;
    for (const char *start = filter;;) {
        trie_level level = trie_level_at(start, end);
        if (level.len == 1 && *level.start == '#')
            return trie_add_cell(t, &trie_nodes(t)[node].multi, rank);
        node = level.len == 1 && *level.start == '+' ? trie_plus_child(t, node)
                                                     : trie_literal_child(t, node, level);
        if (node == 0) return -1;
        if (level.start + level.len == end)
            return trie_add_cell(t, &trie_nodes(t)[node].exact, rank);
        start = level.start + level.len + 1;
    }
}

/* ---------------------------------------------------------------- searching */

typedef struct {
    uint32_t *items;
    size_t used, room;
    uint32_t small[TRIE_SMALL];
} trie_list;

static inline void trie_list_init(trie_list *list) {
    list->items = list->small;
    list->used = 0;
    list->room = TRIE_SMALL;
}

static inline void trie_list_free(trie_list *list) {
    if (list->items != list->small) PyMem_RawFree(list->items);
}

static inline int trie_list_reserve(trie_list *list, size_t more) {
    if (list->used + more <= list->room) return 0;
    size_t room = 2 * (list->used + more);
    uint32_t *old = list->items == list->small ? NULL : list->items;
    uint32_t *items = PyMem_RawRealloc(old, room * sizeof *items);
    if (items == NULL) return -1;
    if (old == NULL) memcpy(items, list->small, list->used * sizeof *items);
    list->items = items;
    list->room = room;
    return 0;
}

static inline int trie_list_extend(trie_list *list, const uint32_t *items, size_t n) {
    if (trie_list_reserve(list, n) < 0) return -1;
    if (n > 0) memcpy(list->items + list->used, items, n * sizeof *items);
    list->used += n;
    return 0;
}

static inline int trie_list_push(trie_list *list, uint32_t item) {
    if (trie_list_reserve(list, 1) < 0) return -1;
    list->items[list->used++] = item;
    return 0;
}

static inline int trie_collect(const trie *t, uint32_t cell, trie_list *hits) {
    for (; cell != 0; cell = trie_cells(t)[cell].next)
        if (trie_list_push(hits, trie_cells(t)[cell].rank) < 0) return -1;
    return 0;
}

/* True for a topic name: 1 to 65,535 bytes without wildcards or NUL (section 4.7.3). */
static inline int trie_name_ok(const char *name, size_t size) {
    unsigned char bad = 0;
    if (size == 0 || size > TRIE_MAX_BYTES) return 0;
    /* No early exit: the compiler then compares 16 bytes and more at a time. */
    for (size_t i = 0; i < size; i++) bad |= (name[i] == '+') | (name[i] == '#') | (name[i] == 0);
    return !bad;
}

/* Whether a leading wildcard matches the name: not that of a '$' topic (section 4.7.2). */
static inline int trie_is_plain(const char *name) { return *name != '$'; }

/* Follows one valid topic name from all nodes in `here`; `next` is working space. `wildcards` says
 * whether those in the first level match. */
static inline int trie_follow(const trie *t, trie_list *here, trie_list *next, trie_list *hits,
                              const char *name, size_t size, int wildcards) {
    const char *end = name + size;
    for (const char *start = name; start <= end && here->used > 0;) {
        trie_level level = trie_level_at(start, end);
        uint64_t level_hash = trie_hash(t, level);
        next->used = 0;
        if (trie_list_reserve(next, 2 * here->used) < 0) return -1;
        for (size_t i = 0; i < here->used; i++) {
            uint32_t at = here->items[i];
            const trie_node *node = &trie_nodes(t)[at];
            if (wildcards) {
                if (trie_collect(t, node->multi, hits) < 0) return -1;
                if (node->plus != 0) next->items[next->used++] = node->plus;
            }
            uint32_t child = trie_slot_of(t, at, level, trie_tag(at, level_hash))->child;
            if (child != 0) next->items[next->used++] = child;
        }
        trie_list *swap = here;
        here = next;
        next = swap;
        wildcards = 1;
        start = level.start + level.len + 1;
    }
    /* Those that are left took all levels. `a/#` matches `a`, its parent level (section 4.7.1.2). */
    for (size_t i = 0; i < here->used; i++) {
        const trie_node *node = &trie_nodes(t)[here->items[i]];
        if (trie_collect(t, node->multi, hits) < 0 || trie_collect(t, node->exact, hits) < 0)
            return -1;
    }
    return 0;
}

/* Adds the ranks of all filters under these roots that match a valid topic name to `hits`. */
static inline int trie_match(const trie *t, const uint32_t *roots, size_t n_roots, const char *name,
                             size_t size, int wildcards, trie_list *hits) {
    trie_list here, next;
    trie_list_init(&here);
    trie_list_init(&next);
    int failed = trie_list_extend(&here, roots, n_roots) < 0 ||
                 trie_follow(t, &here, &next, hits, name, size, wildcards) < 0;
    trie_list_free(&here);
    trie_list_free(&next);
    return failed ? -1 : 0;
}

static inline void trie_sort_few(trie_list *list) {
    size_t kept = 0;
    for (size_t i = 0; i < list->used; i++) {
        uint32_t item = list->items[i];
        size_t at = kept;
        while (at > 0 && list->items[at - 1] > item) at--;
        if (at > 0 && list->items[at - 1] == item) continue;
        memmove(&list->items[at + 1], &list->items[at], (kept - at) * sizeof item);
        list->items[at] = item;
        kept++;
    }
    list->used = kept;
}

/* Sorts ranks below `n_ranks` and drops repeats. */
static inline int trie_sort_unique(trie_list *list, size_t n_ranks) {
    if (list->used <= TRIE_FEW) {
        trie_sort_few(list);
        return 0;
    }
    size_t n_words = (n_ranks + 63) / 64;
    uint64_t *words = PyMem_RawCalloc(n_words, sizeof *words);
    if (words == NULL) return -1;
    for (size_t i = 0; i < list->used; i++) {
        assert(list->items[i] < n_ranks);
        words[list->items[i] / 64] |= UINT64_C(1) << (list->items[i] % 64);
    }
    list->used = 0; /* no more distinct ranks than there were items: they fit */
    for (size_t w = 0; w < n_words; w++)
        for (uint64_t word = words[w]; word != 0; word &= word - 1)
            list->items[list->used++] = (uint32_t)(64 * w + (size_t)__builtin_ctzll(word));
    PyMem_RawFree(words);
    return 0;
}

#endif
