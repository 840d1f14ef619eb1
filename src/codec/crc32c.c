/* SPDX-License-Identifier: MIT */
/* Eight bytes a step, each looked up in a table of its own ("slicing by 8"): portable, and fast enough for the few
 * megabytes of nodes and for the checksums of chunks. */
#include "codec/crc32c.h"

#include "base/endian.h"

/* A CRC is linear: the entry of a byte is the sum of the entries of its bits, so eight numbers make a table of 256. */
#define BIT(byte, number, entry) (((byte) >> (number)&1u) ? (entry) : 0u)
#define ENTRY(b, e0, e1, e2, e3, e4, e5, e6, e7)                                                                     \
    (BIT(b, 0, e0) ^ BIT(b, 1, e1) ^ BIT(b, 2, e2) ^ BIT(b, 3, e3) ^ BIT(b, 4, e4) ^ BIT(b, 5, e5) ^ BIT(b, 6, e6) ^ \
     BIT(b, 7, e7))
#define FOUR(b, ...) \
    ENTRY((b), __VA_ARGS__), ENTRY((b) + 1u, __VA_ARGS__), ENTRY((b) + 2u, __VA_ARGS__), ENTRY((b) + 3u, __VA_ARGS__)
#define SIXTEEN(b, ...) \
    FOUR((b), __VA_ARGS__), FOUR((b) + 4u, __VA_ARGS__), FOUR((b) + 8u, __VA_ARGS__), FOUR((b) + 12u, __VA_ARGS__)
#define SIXTY_FOUR(b, ...)                                                                       \
    SIXTEEN((b), __VA_ARGS__), SIXTEEN((b) + 16u, __VA_ARGS__), SIXTEEN((b) + 32u, __VA_ARGS__), \
        SIXTEEN((b) + 48u, __VA_ARGS__)
#define ROW(...)                                                                                  \
    {                                                                                             \
        SIXTY_FOUR(0u, __VA_ARGS__), SIXTY_FOUR(64u, __VA_ARGS__), SIXTY_FOUR(128u, __VA_ARGS__), \
            SIXTY_FOUR(192u, __VA_ARGS__)                                                         \
    }

/* table[k][b]: what byte b, followed by k bytes of zeros, leaves in the register. */
static const uint32_t table[8][256] = {
    ROW(0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu, 0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, 0x82f63b78u),
    ROW(0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u, 0x3fc5f181u, 0x7f8be302u, 0xff17c604u, 0xfbc3faf9u),
    ROW(0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u, 0x70a27d8au, 0xe144fb14u, 0xc76580d9u, 0x8b277743u),
    ROW(0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u, 0xe964b13du, 0xd725148bu, 0xaba65fe7u, 0x52a0c93fu),
    ROW(0x38116facu, 0x7022df58u, 0xe045beb0u, 0xc5670b91u, 0x8f2261d3u, 0x1ba8b557u, 0x37516aaeu, 0x6ea2d55cu),
    ROW(0xef306b19u, 0xdb8ca0c3u, 0xb2f53777u, 0x6006181fu, 0xc00c303eu, 0x85f4168du, 0x0e045bebu, 0x1c08b7d6u),
    ROW(0x68032cc8u, 0xd0065990u, 0xa5e0c5d1u, 0x4e2dfd53u, 0x9c5bfaa6u, 0x3d5b83bdu, 0x7ab7077au, 0xf56e0ef4u),
    ROW(0x493c7d27u, 0x9278fa4eu, 0x211d826du, 0x423b04dau, 0x847609b4u, 0x0d006599u, 0x1a00cb32u, 0x34019664u),
};

uint32_t tp_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint32_t c = ~crc;
    for (; len >= 8; len -= 8, p += 8) {
        const uint64_t v = tp_load_le(p, 8) ^ c;
        c = table[7][v & 255] ^ table[6][v >> 8 & 255] ^ table[5][v >> 16 & 255] ^ table[4][v >> 24 & 255] ^
            table[3][v >> 32 & 255] ^ table[2][v >> 40 & 255] ^ table[1][v >> 48 & 255] ^ table[0][v >> 56];
    }
    for (; len > 0; len--, p++)
        c = table[0][(c ^ *p) & 255] ^ c >> 8;
    return ~c;
}
