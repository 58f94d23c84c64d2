/* CRC-32C (Castagnoli), as iSCSI and ext4 use it: RFC 3720 appendix B.4. */
#ifndef FLUXHOOK_CRC32C_H
#define FLUXHOOK_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CRC32C_POLYNOMIAL 0x82F63B78u /* reflected */

/* Filled before main or dlopen returns, so that no thread ever meets half a table. */
static uint32_t fx_crc32c_table[256];

__attribute__((constructor)) static void fx_crc32c_fill_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = (c >> 1) ^ (CRC32C_POLYNOMIAL & (0u - (c & 1u)));
        fx_crc32c_table[i] = c;
    }
}

static inline uint32_t fx_crc32c_bytewise(uint32_t crc, const uint8_t *p, size_t n) {
    while (n--) crc = (crc >> 8) ^ fx_crc32c_table[(crc ^ *p++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
__attribute__((target("sse4.2"))) static inline uint32_t fx_crc32c_sse(uint32_t crc,
                                                                      const uint8_t *p, size_t n) {
    uint64_t c = crc, word;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&word, p, 8);
        c = _mm_crc32_u64(c, word);
    }
    while (n--) c = _mm_crc32_u8((uint32_t)c, *p++);
    return (uint32_t)c;
}
#endif

static inline uint32_t fx_crc32c(const void *data, size_t n) {
    const uint8_t *p = (const uint8_t *)data;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~fx_crc32c_sse(~0u, p, n);
#endif
    return ~fx_crc32c_bytewise(~0u, p, n);
}

#endif
