# cython: auto_pickle=False, autotestdict=False
"""Event patterns and MQTT topic filters (MQTT 5.0 section 4.7), turned into endpoint ids.

The trie and its search are in `trie.h`. See `topics.pyi` for the contract.
"""

cimport cython
from cpython cimport array
from cpython.exc cimport PyErr_Clear
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint32_t

import array
import operator

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size)

cdef extern from "trie.h" nogil:
    enum: TRIE_MAX_BYTES
    ctypedef struct trie:
        pass
    ctypedef struct trie_list:
        uint32_t *items
        size_t used
    int trie_init(trie *t)
    void trie_free(trie *t)
    uint32_t trie_new_node(trie *t, uint32_t parent)
    int trie_insert(trie *t, uint32_t node, const char *filter, size_t size, uint32_t rank)
    bint trie_name_ok(const char *name, size_t size)
    bint trie_is_plain(const char *name)
    int trie_match(const trie *t, const uint32_t *roots, size_t n_roots, const char *name,
                   size_t size, bint wildcards, trie_list *hits)
    void trie_list_init(trie_list *list)
    void trie_list_free(trie_list *list)
    int trie_list_extend(trie_list *list, const uint32_t *items, size_t n)
    int trie_sort_unique(trie_list *list, size_t n_ranks)

# Both arbitrary: they keep a host that invents event types without end from filling memory.
cdef enum:
    CACHED_TYPES = 1024
    CACHED_TYPE_LENGTH = 256

cdef str SHARE = "$share/"


# ---------------------------------------------------------------- what is valid

cdef str _check_text(str what, str text):
    """The rules that names and filters have in common (MQTT 5.0 sections 1.5.4 and 4.7.3)."""
    cdef str too_long = f"a topic {what} must not be longer than {TRIE_MAX_BYTES:,} bytes of UTF-8"
    if not text:
        return f"a topic {what} must have at least one character"
    if "\0" in text:
        return f"a topic {what} must not contain the NUL character"
    if len(text) > TRIE_MAX_BYTES:
        return too_long
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return f"a topic {what} must be valid Unicode; this one holds a lone surrogate"
    return too_long if size > TRIE_MAX_BYTES else None


cdef str _check_levels(str levels):
    if "#" in levels and (levels.count("#") > 1 or not f"/{levels}".endswith("/#")):
        return "'#' must stand alone in the last level"
    if "+" in levels:
        for level in levels.split("/"):
            if "+" in level and level != "+":
                return "'+' must stand alone in its level"
    return None


cdef str _without_share(str topic_filter):
    """The filter of a valid `$share/{group}/{filter}`; any other filter as it is."""
    if not topic_filter.startswith(SHARE):
        return topic_filter
    return topic_filter[topic_filter.index("/", len(SHARE)) + 1:]


def check_filter(str topic_filter not None):
    fault = _check_text("filter", topic_filter)
    if fault is not None or not topic_filter.startswith(SHARE):
        return fault or _check_levels(topic_filter)
    group, _, inner = topic_filter[len(SHARE):].partition("/")
    if not group or not inner:
        return "a shared subscription must have the form $share/{group}/{filter}"
    if "+" in group or "#" in group:
        return "the group of a shared subscription must not contain '+' or '#'"
    return _check_levels(inner)


def check_name(str topic not None):
    fault = _check_text("name", topic)
    if fault is None and ("+" in topic or "#" in topic):
        return "a topic name must not contain the wildcards '+' and '#'"
    return fault


def check_pattern(str pattern not None):
    if not pattern:
        return "an event pattern must have at least one character"
    stem = pattern.removesuffix(".*")
    if pattern != "*" and ("*" in stem or not stem):
        return "'*' must stand alone, or after the last dot of a namespace as in 'route.*'"
    return None


cdef str _plain(what, text):
    """`text` as a str proper: a subclass may hash and print as it likes (enum.StrEnum does)."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be a str, not {type(text).__name__}")
    return str.__str__(text)


cdef object _refusal(str what, str text, str fault):
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    return ValueError(f"{what} {shown!r}: {fault}")


cdef list _strings(given):
    if isinstance(given, str):
        raise TypeError(f"expected several strings, got the one string {given!r}")
    return list(given)


cdef set _valid_patterns(given):
    cdef set patterns = set(_strings(given))
    for pattern in patterns:
        fault = check_pattern(pattern)
        if fault is not None:
            raise _refusal("event pattern", pattern, fault)
    return {"*"} if not patterns or "*" in patterns else patterns


cdef list _valid_filters(given):
    """The filters, each without its `$share/{group}/`."""
    cdef list filters = _strings(given)
    for i, topic_filter in enumerate(filters):
        fault = check_filter(topic_filter)
        if fault is not None:
            raise _refusal("topic filter", topic_filter, fault)
        filters[i] = _without_share(topic_filter)
    return filters


# ---------------------------------------------------------------- matching

cdef array.array _ranks(ranks=()):
    return array.array("I", ranks)


@cython.final
cdef class _Audience:
    """The endpoints that one event pattern reaches, by rank (an id's place among all, ascending).

    `wider` is the next more general pattern in use that holds whenever this one does; the chain
    ends at `*`. So one audience serves all event types that have the same narrowest pattern, and
    there are no more of them than patterns.
    """

    cdef _Audience wider
    # Of this pattern alone:
    cdef array.array own_free       # endpoints without topic filters
    cdef array.array own_bound      # endpoints with some; these are under `root`
    cdef uint32_t root              # 0: none
    # Of this pattern and all wider ones; made when the first event needs it:
    cdef array.array free
    cdef array.array roots
    cdef tuple free_ids
    cdef tuple all_ids

    def __cinit__(self):
        self.own_free = _ranks()
        self.own_bound = _ranks()

    cdef void gather(self, tuple ids):
        cdef array.array roots = _ranks()
        free, bound, audience = set(), set(), self
        while audience is not None:
            free.update(audience.own_free)
            bound.update(audience.own_bound)
            if audience.root != 0:
                roots.append(audience.root)
            audience = audience.wider
        free_ranks = _ranks(sorted(free))
        free_ids = tuple([ids[rank] for rank in free_ranks])
        all_ids = tuple([ids[rank] for rank in sorted(free | bound)])
        # Only now, because another thread may run meanwhile: it must find all of it or nothing.
        self.free, self.free_ids, self.roots, self.all_ids = free_ranks, free_ids, roots, all_ids


@cython.final
cdef class Matcher:
    cdef trie _trie
    cdef tuple _ids                 # rank -> endpoint id
    cdef dict _audiences            # event pattern -> _Audience
    cdef dict _by_type              # event type -> _Audience, for the types seen of late
    cdef Py_ssize_t _longest        # the characters of the longest event pattern

    def __cinit__(self, subscriptions):
        cdef _Audience audience
        cdef list ids = []
        if trie_init(&self._trie) < 0:
            raise MemoryError
        self._by_type = {}
        self._audiences = {"*": _Audience()}
        # Ascending, so that ranks are known as they come and no row outlives its turn: 100,000 kept
        # rows would have the garbage collector take longer than all the rest.
        for endpoint_id, patterns, filters in sorted(subscriptions, key=operator.itemgetter(0)):
            if not ids or endpoint_id != ids[len(ids) - 1]:
                ids.append(operator.index(endpoint_id))
            self._enrol(len(ids) - 1, _valid_patterns(patterns), _valid_filters(filters))
        self._ids = tuple(ids)
        self._longest = max(map(len, self._audiences))
        for pattern, audience in self._audiences.items():
            if pattern != "*":
                audience.wider = self._namespace_of(pattern.removesuffix(".*"))

    def __dealloc__(self):
        trie_free(&self._trie)

    cdef int _enrol(self, uint32_t rank, set patterns, list filters) except -1:
        cdef _Audience audience
        cdef Py_ssize_t size
        cdef const char *utf8
        for pattern in patterns:
            audience = self._audiences.get(pattern)
            if audience is None:
                audience = self._audiences[pattern] = _Audience()
            if not filters:
                audience.own_free.append(rank)
                continue
            audience.own_bound.append(rank)
            if audience.root == 0:
                audience.root = trie_new_node(&self._trie, 0)
                if audience.root == 0:
                    raise MemoryError
            for topic_filter in filters:
                utf8 = PyUnicode_AsUTF8AndSize(topic_filter, &size)
                if utf8 == NULL or trie_insert(&self._trie, audience.root, utf8, size, rank) < 0:
                    raise MemoryError
        return 0

    cdef _Audience _namespace_of(self, str text):
        """The audience of the narrowest namespace in use that `text` lies in, or that of `*`."""
        # A text may be as long as an event: dots beyond the longest pattern are not worth a look.
        dot = text.rfind(".", 0, self._longest)
        while dot > 0:
            audience = self._audiences.get(text[:dot] + ".*")
            if audience is not None:
                return audience
            dot = text.rfind(".", 0, dot)
        return self._audiences["*"]

    cdef _Audience _audience_of(self, given):
        cdef str event_type = _plain("event type", given)
        cdef _Audience audience = self._audiences.get(event_type)
        if audience is None:
            audience = self._namespace_of(event_type)
        if audience.all_ids is None:
            audience.gather(self._ids)
        if len(event_type) <= CACHED_TYPE_LENGTH:
            if len(self._by_type) >= CACHED_TYPES:
                self._by_type.clear()
            self._by_type[event_type] = audience
        return audience

    cdef tuple _ids_of(self, const trie_list *ranks):
        cdef size_t i
        cdef tuple ids = PyTuple_New(ranks.used)
        for i in range(ranks.used):
            endpoint_id = self._ids[ranks.items[i]]
            Py_INCREF(endpoint_id)
            PyTuple_SET_ITEM(ids, i, endpoint_id)
        return ids

    cdef tuple _match(self, _Audience audience, const char *utf8, size_t size, bint wildcards):
        cdef array.array roots = audience.roots
        cdef trie_list hits
        if len(roots) == 0:
            return audience.free_ids
        trie_list_init(&hits)
        try:
            if trie_match(&self._trie, roots.data.as_uints, len(roots), utf8, size, wildcards,
                          &hits) < 0:
                raise MemoryError
            if hits.used == 0:
                return audience.free_ids
            if (trie_list_extend(&hits, audience.free.data.as_uints, len(audience.free)) < 0
                    or trie_sort_unique(&hits, len(self._ids)) < 0):
                raise MemoryError
            return self._ids_of(&hits)
        finally:
            trie_list_free(&hits)

    def match(self, event_type, topic=None):
        cdef _Audience audience = self._by_type.get(event_type)
        cdef Py_ssize_t size
        cdef const char *utf8
        if audience is None:
            audience = self._audience_of(event_type)
        if topic is None:
            return audience.all_ids
        utf8 = PyUnicode_AsUTF8AndSize(topic, &size)
        if utf8 == NULL or not trie_name_ok(utf8, size):
            PyErr_Clear()
            text = _plain("topic name", topic)
            raise _refusal("topic name", text, check_name(text))
        return self._match(audience, utf8, size, trie_is_plain(utf8))

    def match_filter(self, event_type, str topic_filter not None):
        cdef _Audience audience = self._by_type.get(event_type)
        cdef Py_ssize_t size
        cdef const char *utf8
        if audience is None:
            audience = self._audience_of(event_type)
        utf8 = PyUnicode_AsUTF8AndSize(topic_filter, &size)
        if utf8 == NULL:
            PyErr_Clear()
            raise _refusal("topic filter", topic_filter, check_filter(topic_filter))
        return self._match(audience, utf8, size, True)
