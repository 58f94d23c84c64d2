# cython: auto_pickle=False, autotestdict=False
"""HMAC-SHA256 (RFC 2104, FIPS 198-1) with the key schedule absorbed once.

HMAC(key, m) = SHA256((key ^ opad) + SHA256((key ^ ipad) + m)). The two keyed blocks are hashed when
a Signer is made; a message starts from copies of those two states on the stack, so that it costs no
allocation and two compressions less. See `signing.pyi` for the contract.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    /* OpenSSL 3 deprecates SHA256_* in favour of EVP, whose contexts live on the heap: a message
     * would cost an allocation, or each thread that shares a Signer would need a working context.
     * Even with one at hand EVP is slower (480 against 420 ns for 583 bytes, OpenSSL 3.0.19). The
     * deprecated functions are not insecure. */
    #define OPENSSL_SUPPRESS_DEPRECATED
    """

cdef extern from "openssl/sha.h" nogil:
    enum: SHA256_CBLOCK
    enum: SHA256_DIGEST_LENGTH
    ctypedef struct SHA256_CTX:
        pass
    int SHA256_Init(SHA256_CTX *ctx)
    int SHA256_Update(SHA256_CTX *ctx, const void *data, size_t size)
    int SHA256_Final(unsigned char *digest, SHA256_CTX *ctx)
    unsigned char *SHA256(const unsigned char *data, size_t size, unsigned char *digest)

cdef extern from "openssl/crypto.h" nogil:
    void OPENSSL_cleanse(void *data, size_t size)

cdef extern from "openssl/evp.h" nogil:
    int EVP_EncodeBlock(unsigned char *text, const unsigned char *data, int size)

cdef enum:
    HEX_LENGTH = 64
    BASE64_LENGTH = 44


cdef void _to_hex(const unsigned char *digest, char *text) noexcept:
    cdef const char *digits = "0123456789abcdef"
    cdef int i
    for i in range(SHA256_DIGEST_LENGTH):
        text[2 * i] = digits[digest[i] >> 4]
        text[2 * i + 1] = digits[digest[i] & 15]


@cython.final
cdef class Signer:
    cdef SHA256_CTX _inner          # has absorbed key ^ ipad
    cdef SHA256_CTX _outer          # has absorbed key ^ opad

    def __cinit__(self, bytes key not None):
        cdef unsigned char block[SHA256_CBLOCK]
        cdef int i
        if not key:
            raise ValueError("the key is empty: anyone could sign with it")
        memset(block, 0, SHA256_CBLOCK)
        if len(key) > SHA256_CBLOCK:
            SHA256(<const unsigned char *>PyBytes_AS_STRING(key), len(key), block)
        else:
            memcpy(block, PyBytes_AS_STRING(key), len(key))
        for i in range(SHA256_CBLOCK):
            block[i] ^= 0x36
        SHA256_Init(&self._inner)
        SHA256_Update(&self._inner, block, SHA256_CBLOCK)
        for i in range(SHA256_CBLOCK):
            block[i] ^= 0x36 ^ 0x5C
        SHA256_Init(&self._outer)
        SHA256_Update(&self._outer, block, SHA256_CBLOCK)
        OPENSSL_cleanse(block, SHA256_CBLOCK)

    def __dealloc__(self):
        OPENSSL_cleanse(&self._inner, sizeof(SHA256_CTX))
        OPENSSL_cleanse(&self._outer, sizeof(SHA256_CTX))

    cdef void _mac(self, bytes prefix, bytes body, unsigned char *digest) noexcept:
        cdef SHA256_CTX state = self._inner
        SHA256_Update(&state, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
        SHA256_Update(&state, PyBytes_AS_STRING(body), PyBytes_GET_SIZE(body))
        SHA256_Final(digest, &state)
        state = self._outer
        SHA256_Update(&state, digest, SHA256_DIGEST_LENGTH)
        SHA256_Final(digest, &state)

    def digest(self, bytes prefix not None, bytes body not None):
        cdef unsigned char digest[SHA256_DIGEST_LENGTH]
        self._mac(prefix, body, digest)
        return PyBytes_FromStringAndSize(<const char *>digest, SHA256_DIGEST_LENGTH)

    def hex(self, bytes prefix not None, bytes body not None):
        cdef unsigned char digest[SHA256_DIGEST_LENGTH]
        cdef char text[HEX_LENGTH]
        self._mac(prefix, body, digest)
        _to_hex(digest, text)
        return PyBytes_FromStringAndSize(text, HEX_LENGTH)

    def base64(self, bytes prefix not None, bytes body not None):
        cdef unsigned char digest[SHA256_DIGEST_LENGTH]
        cdef unsigned char text[BASE64_LENGTH + 1]      # EVP_EncodeBlock adds a NUL
        self._mac(prefix, body, digest)
        EVP_EncodeBlock(text, digest, SHA256_DIGEST_LENGTH)
        return PyBytes_FromStringAndSize(<const char *>text, BASE64_LENGTH)
