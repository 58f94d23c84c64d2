# cython: auto_pickle=False, autotestdict=False
"""What an event needs on its way into a ring: an id, a check of its data, and its record.

What each call does and raises: event.pyi.
"""

cimport cython

import os

from msgspec import UNSET as _UNSET

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from .ring cimport (
    COUNTED, DROPPED, FX_FORKED, FX_TOO_LARGE, Producer, fx_piece, fx_put_pieces, fx_realtime_ns,
    index_of_least, targets_in,
)
from .shared cimport FX_PAGE, Counters, Words, fx_load, munmap, page_wiped_on_fork

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 widest)
    uint8_t *PyUnicode_1BYTE_DATA(object text)

STALE = STALE_
EXPIRED = EXPIRED_
MAX_DEPTH = MAX_DEPTH_

cdef enum:
    MAX_DEPTH_ = 128    # serde_json reads as deep; most libraries read deeper
    STALE_ = 4     # results of Template.put, beyond those of fx_put
    EXPIRED_ = 5

cdef object UNSET = _UNSET  # a local name: `value is UNSET` is one comparison


cdef inline uint64_t rotated(uint64_t word, int by) noexcept:
    return word << by | word >> (64 - by)


cdef inline void to_hex(uint8_t *text, uint64_t word, int digits) noexcept:
    cdef const char *hexadecimal = b"0123456789abcdef"
    cdef int i
    for i in range(digits):
        text[i] = hexadecimal[word >> 4 * i & 15]


@cython.final
cdef class Ids:
    cdef uint64_t *state    # of xoshiro256++; all zero in a child of fork(), as no state of it is

    def __cinit__(self):
        self.state = <uint64_t *>page_wiped_on_fork()

    def __dealloc__(self):
        if self.state != NULL:
            munmap(self.state, FX_PAGE)

    cdef int seed(self) except -1:
        while not (self.state[0] | self.state[1] | self.state[2] | self.state[3]):
            memcpy(self.state, PyBytes_AS_STRING(os.urandom(32)), 32)
        return 0

    cdef uint64_t draw(self) noexcept:
        """64 bits of xoshiro256++ 1.0 (Blackman, Vigna: prng.di.unimi.it)."""
        cdef uint64_t *s = self.state
        cdef uint64_t result = rotated(s[0] + s[3], 23) + s[0], t = s[1] << 17
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotated(s[3], 45)
        return result

    def gateway(self):
        cdef str id = PyUnicode_New(24, 127)
        cdef uint8_t *text = PyUnicode_1BYTE_DATA(id)
        self.seed()
        memcpy(text, b"evt_", 4)
        to_hex(text + 4, self.draw(), 16)
        to_hex(text + 20, self.draw(), 4)
        return id

    def broker(self):
        cdef str id = PyUnicode_New(36, 127)
        cdef uint8_t *text = PyUnicode_1BYTE_DATA(id)
        self.seed()
        cdef uint64_t high = self.draw(), low = self.draw()
        to_hex(text, high, 8)
        to_hex(text + 9, high >> 32, 4)
        to_hex(text + 14, high >> 48, 4)
        to_hex(text + 19, low, 4)
        to_hex(text + 24, low >> 16, 12)
        text[8] = text[13] = text[18] = text[23] = b"-"
        text[14] = b"4"
        text[19] = b"89ab"[low & 3]
        return id


cdef bint plain_dict(dict data, int levels) except -1:
    if levels == 0:
        return False
    for key, value in data.items():
        if type(key) is not str or not (
                type(value) is str or type(value) is int or value is None or type(value) is bool
                or type(value) is float and isfinite(value) or plain(value, levels - 1)):
            return False
    return True


cdef bint plain(object value, int levels) except -1:
    if type(value) is dict:
        return plain_dict(value, levels)
    if type(value) is list or type(value) is tuple:
        if levels == 0:
            return False
        for item in value:
            if not plain(item, levels - 1):
                return False
        return True
    return (type(value) is str or type(value) is int or value is None or type(value) is bool
            or type(value) is float and isfinite(value))


def is_plain(object data):
    return type(data) is dict and plain_dict(data, MAX_DEPTH_)


def are_scalars(tuple values not None):
    for value in values:
        if not (type(value) is str or type(value) is int or type(value) is bool or value is UNSET
                or type(value) is bytes):
            return False
    return True


def nests_over(bytes text not None, Py_ssize_t levels):
    cdef const char *start = PyBytes_AS_STRING(text)
    cdef const char *at = start
    cdef const char *end = start + PyBytes_GET_SIZE(text)
    cdef Py_ssize_t depth = 0
    cdef bint quoted = False
    cdef char c
    with nogil:
        while at < end:
            c = at[0]
            if quoted:
                if c == b"\\":
                    at += 1  # what is escaped ends no text
                elif c == b'"':
                    quoted = False
            elif c == b'"':
                quoted = True
            elif c == b"[" or c == b"{":
                depth += 1
                if depth > levels:
                    break
            elif c == b"]" or c == b"}":
                depth -= 1
            at += 1
    return at - start if depth > levels else -1


cdef enum:
    # a template's record in pieces, those of the head before those of the body
    HEAD_ID, HEAD_TYPE, HEAD_TOPIC, HEAD_END, OPENING, BODY_ID, DATED, DATA, CLOSING
    PIECES


cdef inline fx_piece piece_of(bytes literal) noexcept:
    return fx_piece(PyBytes_AS_STRING(literal), PyBytes_GET_SIZE(literal))


cdef inline fx_piece utf8_of(str text) except *:
    cdef Py_ssize_t size
    cdef const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    return fx_piece(utf8, size)


@cython.final
cdef class Template:
    cdef list producers
    cdef Counters counters
    cdef bytes targets
    cdef bytes event_type       # between NULs, as it stands in the head
    cdef bytes opening, middle, ending
    cdef bint with_id           # in the body; it is in the head always
    cdef uint64_t max_body_bytes
    cdef Words words
    cdef uint64_t row, field, version
    cdef int64_t second         # of `dated`: middle, timestamp, ending
    cdef bytes dated

    def __init__(self, list producers not None, Counters counters not None, bytes targets not None,
                 str event_type not None, bytes opening, bytes middle not None,
                 bytes ending not None, *, uint64_t max_body_bytes, Words words not None,
                 uint64_t row, uint64_t field, uint64_t version):
        for producer in producers:
            (<Producer?>producer).check()
        if not producers:
            raise ValueError("a template needs a ring to put into")
        targets_in(targets)
        words.word(row, field)
        self.producers, self.counters, self.targets = list(producers), counters, targets
        self.event_type = f"\0{event_type}\0".encode()
        self.with_id = opening is not None
        self.opening, self.middle, self.ending = opening or b"", middle, ending
        self.max_body_bytes = max_body_bytes
        self.words, self.row, self.field, self.version = words, row, field, version
        self.second = -1

    def date(self, int64_t second, str timestamp not None):
        self.dated, self.second = self.middle + timestamp.encode() + self.ending, second

    def put(self, str id not None, bytes data not None, str topic=None):
        cdef fx_piece pieces[PIECES]
        cdef uint64_t head_length = 0, body_length = 0, now_ns = fx_realtime_ns()
        cdef Py_ssize_t index = 0
        cdef int i
        cdef Producer producer
        if len(self.producers) > 1:
            index = index_of_least(self.producers)
        producer = <Producer>self.producers[index]
        if producer.address == NULL or self.words.address == NULL:
            return STALE_  # closed
        if fx_load(self.words.word(self.row, self.field)) != self.version:
            return STALE_
        if not producer.alive[0]:
            return FX_FORKED
        if <int64_t>(now_ns // 1000000000) != self.second:
            return EXPIRED_
        pieces[HEAD_ID] = utf8_of(id)
        pieces[HEAD_TYPE] = piece_of(self.event_type)
        pieces[HEAD_TOPIC] = fx_piece(b"", 0) if topic is None else utf8_of(topic)
        pieces[HEAD_END] = fx_piece(b"\0", 1)
        pieces[OPENING] = piece_of(self.opening)
        pieces[BODY_ID] = pieces[HEAD_ID] if self.with_id else fx_piece(b"", 0)
        pieces[DATED] = piece_of(self.dated)
        pieces[DATA] = piece_of(data)
        pieces[CLOSING] = fx_piece(b"}", 1)
        for i in range(OPENING):
            head_length += pieces[i].length
        for i in range(OPENING, PIECES):
            body_length += pieces[i].length
        if body_length > self.max_body_bytes:
            return FX_TOO_LARGE
        return fx_put_pieces(&producer.p, PyBytes_AS_STRING(self.targets),
                             <uint32_t>(PyBytes_GET_SIZE(self.targets) >> 2), pieces, PIECES,
                             head_length, now_ns, self.counters.writer(), COUNTED, DROPPED)
